use serde_json::{Value, json};
use zen_model::ClusterId;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_767_229_200);

/// An enrollment with this spec and status, over those of one that was just made.
fn enrollment(spec: &Value, status: &Value) -> Enrollment {
    let mut whole = json!({"recipient": "age1x", "ttl": "30m", "bundle": "1", "disabled": false});
    for (key, value) in spec.as_object().expect("a map") {
        whole[key] = value.clone();
    }
    Enrollment {
        cluster: ClusterId::new("team-a", "prod-eu").expect("valid"),
        uid: "u".to_owned(),
        resource_version: "1".to_owned(),
        generation: 3,
        created: Timestamp::from_secs(1_767_225_600),
        is_deleted: false,
        spec: serde_json::from_value(whole).expect("a spec"),
        status: serde_json::from_value(status.clone()).expect("a status"),
    }
}

/// A bundle of an hour ago or of now, waiting, used or neither.
fn bundle(id: &str, minutes_ago: u64, used: bool, data: bool) -> Value {
    let at = |timestamp: Timestamp| serde_json::to_value(time(timestamp)).expect("JSON");
    let issued = Timestamp::from_secs(NOW.as_secs() - 60 * minutes_ago);
    let mut bundle = json!({"id": id, "issuedAt": at(issued), "expiresAt": at(issued.plus(Duration::from_mins(30)))});
    if used {
        bundle["usedAt"] = at(issued);
        bundle["usedBy"] = "0".repeat(64).into();
    }
    if data {
        bundle["data"] = json!({"clear": "{}", "sealed": "age"});
    }
    bundle
}

fn summary(enrollment: &Enrollment, setup: &Setup, connected: Option<bool>) -> String {
    match decide(&Facts { enrollment, setup, connected, now: NOW }) {
        Step::Leave => "leave".to_owned(),
        Step::Make(stamp) => format!("make {} {}", stamp.bundle, stamp.issued_at.as_secs() - NOW.as_secs()),
        Step::Say(status) => {
            let condition = &status.conditions[0];
            let data = status.bundle.as_ref().is_some_and(|bundle| bundle.data.is_some());
            format!(
                "{} {}={} data={data} keys={:?} connected={:?}",
                status.phase.expect("a phase"),
                condition.status,
                condition.reason,
                status.keys.iter().map(|key| key.version).collect::<Vec<_>>(),
                status.connected
            )
        }
    }
}

/// T-01: what is made, what is void, and what is said, from nothing but what there is.
#[test]
#[expect(clippy::too_many_lines, clippy::type_complexity, reason = "one table")]
fn what_is_done_about_an_enrollment() {
    let keys = json!([{"version": 8}, {"version": 7, "until": "2026-01-01T00:59:59Z"}]);
    let overlap = json!([{"version": 8}, {"version": 7, "until": "2026-01-01T01:00:01Z"}]);
    let ready = Setup::Ready;
    let unset = Setup::NotConfigured("set hub.url");
    let late = Setup::NotReady("no root key".to_owned());
    let with = |bundle: Value, more: Value| {
        let mut status = json!({"observedGeneration": 3, "bundle": bundle});
        more.as_object().expect("a map").iter().for_each(|(key, value)| status[key] = value.clone());
        status
    };
    let none = json!({});
    let off = json!({"disabled": true});
    let rows: Vec<(&str, Value, Value, &Setup, Option<bool>, &str)> = vec![
        ("just made", json!({}), none.clone(), &ready, None, "make 1 0"),
        (
            "no hub",
            json!({}),
            none.clone(),
            &unset,
            None,
            "Pending False=HubNotConfigured data=false keys=[] connected=None",
        ),
        (
            "a hub that is not ready",
            json!({}),
            none.clone(),
            &late,
            None,
            "Pending False=IssuerUnavailable data=false keys=[] connected=None",
        ),
        (
            "its bundle waits",
            json!({}),
            with(bundle("1", 1, false, true), json!({})),
            &ready,
            None,
            "BundleIssued True=Accepted data=true keys=[] connected=None",
        ),
        (
            "its bundle waits, and the hub is none any more",
            json!({}),
            with(bundle("1", 1, false, true), json!({})),
            &unset,
            None,
            "Expired False=HubNotConfigured data=false keys=[] connected=None",
        ),
        (
            "another bundle is asked for",
            json!({"bundle": "2"}),
            with(bundle("1", 1, false, true), json!({})),
            &ready,
            None,
            "make 2 0",
        ),
        (
            "the spec changed while it waits",
            json!({}),
            with(bundle("1", 1, false, true), json!({"observedGeneration": 2})),
            &ready,
            None,
            "make 1 0",
        ),
        (
            "in one second with the one before",
            json!({"bundle": "2"}),
            with(bundle("1", 0, false, true), json!({})),
            &ready,
            None,
            "make 2 1",
        ),
        (
            "nobody used it",
            json!({}),
            with(bundle("1", 31, false, true), json!({})),
            &ready,
            None,
            "Expired True=Accepted data=false keys=[] connected=None",
        ),
        (
            "it is used, and too early to say who is there",
            json!({}),
            with(bundle("1", 31, true, false), json!({"keys": keys.clone(), "connected": true})),
            &ready,
            None,
            "Enrolled True=Accepted data=false keys=[8] connected=Some(true)",
        ),
        (
            "in the overlap of its keys, unheard",
            json!({}),
            with(bundle("1", 31, true, false), json!({"keys": overlap, "connected": true})),
            &ready,
            Some(false),
            "Enrolled True=Accepted data=false keys=[8, 7] connected=Some(false)",
        ),
        (
            "a second bundle waits while the first goes on",
            json!({"bundle": "2"}),
            with(bundle("2", 1, false, true), json!({"keys": keys.clone()})),
            &ready,
            Some(true),
            "BundleIssued True=Accepted data=true keys=[8] connected=Some(true)",
        ),
        (
            "the second ended unused",
            json!({"bundle": "2"}),
            with(bundle("2", 31, false, true), json!({"keys": keys.clone()})),
            &ready,
            Some(true),
            "Enrolled True=Accepted data=false keys=[8] connected=Some(true)",
        ),
        (
            "disabled",
            off.clone(),
            with(bundle("1", 31, true, false), json!({"keys": keys.clone(), "connected": true, "phase": "Enrolled"})),
            &ready,
            Some(true),
            "Disabled True=Accepted data=false keys=[] connected=Some(false)",
        ),
        (
            "disabled where there is no hub",
            off,
            with(bundle("1", 1, false, true), json!({})),
            &unset,
            None,
            "Disabled True=Accepted data=false keys=[] connected=None",
        ),
        (
            "let in again: what was used then counts no more",
            json!({}),
            with(bundle("1", 31, true, false), json!({"phase": "Disabled"})),
            &ready,
            None,
            "make 1 0",
        ),
        (
            "let in again where there is no hub",
            json!({}),
            with(bundle("1", 31, true, false), json!({"phase": "Disabled"})),
            &unset,
            None,
            "Disabled False=HubNotConfigured data=false keys=[] connected=None",
        ),
    ];
    for (what, spec, status, setup, connected, expected) in rows {
        assert_eq!(summary(&enrollment(&spec, &status), setup, connected), expected, "{what}");
    }
    let gone = Enrollment { is_deleted: true, ..enrollment(&none, &json!({})) };
    assert_eq!(summary(&gone, &ready, None), "leave");
}

#[test]
fn a_transition_has_a_time_and_a_repeat_keeps_it() {
    let first = enrollment(&json!({}), &json!({}));
    let facts = Facts { enrollment: &first, setup: &Setup::Ready, connected: None, now: NOW };
    let data = BundleData { clear: "{}".to_owned(), sealed: "age".to_owned(), fingerprints: Vec::new() };
    let Step::Make(stamp) = decide(&facts) else { panic!("a bundle") };
    let status = issued(&facts, &stamp, Duration::from_mins(30), data);
    let second = Enrollment { status: status.clone(), ..first };
    let later = NOW.plus(Duration::from_mins(1));
    let facts = Facts { enrollment: &second, setup: &Setup::Ready, connected: None, now: later };
    assert_eq!(decide(&facts), Step::Say(Box::new(status.clone())), "the same to the byte");
    let refused = unfit(&facts, "no key");
    assert_eq!(at(&refused.conditions[0].last_transition_time), later);
    assert_eq!(at(&status.conditions[0].last_transition_time), NOW);
}

/// What was redeemed: keys that nobody had before, and no others.
#[test]
fn a_redemption_changes_the_keys() {
    let used = zen_enroll::Used { by: [0xab; 32], at: NOW };
    let waiting = json!({"bundle": bundle("1", 1, false, true)});
    let status = enrollment(&json!({}), &waiting).redeemed(used, NOW.plus(Duration::from_hours(1)), "root");
    assert_eq!((status.key_version, status.keys[0].version), (Some(1_767_225_600), 1_767_225_600));
    let known = Enrollment { status: status.clone(), ..enrollment(&json!({}), &json!({})) }.known();
    assert_eq!(known.issued.expect("a bundle").used, Some(used), "as it is read again");
    let again = Enrollment { status, ..enrollment(&json!({}), &json!({})) }.redeemed(used, NOW, "root");
    assert_eq!(again.keys.iter().map(|key| key.version).collect::<Vec<_>>(), [1_767_225_601]);
}
