//! Bundles that are not used, each with its reason, on the bundle's Secret and for readiness (T-01).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zen_enroll::bundle::{SEALED, SECRET, fingerprint};
use zen_lock::{Identity, Recipient};
use zen_model::Timestamp;
use zen_pki::Ca;

use super::super::AGENT;
use super::cluster::{Cluster, domain};
use super::hub::Hub;
use crate::identity::ISSUER;

/// What it is, what is done about it at hub and member, and the reason.
type Row = (&'static str, fn(&mut Cluster, &Hub, &Recipient), &'static str);

fn now() -> Timestamp {
    Timestamp::now()
}

const ROWS: [Row; 11] = [
    ("for another member", |cluster, hub, _| apply(cluster, hub, &Identity::generate().recipient()), "WrongCluster"),
    (
        "changed in what is sealed",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            change(cluster, |data| {
                let text = STANDARD.decode(data[SEALED].as_str().expect("text")).expect("base64");
                let mut text = String::from_utf8(text).expect("text");
                // Of the payload's last whole line.
                let at = text.rfind("-----END").expect("armour") - 30;
                let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
                text.replace_range(at..=at, other);
                data[SEALED] = STANDARD.encode(text).into();
            });
        },
        "BundleTampered",
    ),
    ("no bundle", |cluster, _, _| cluster.put(SECRET, empty()), "BundleMalformed"),
    (
        "of a hub that is not expected",
        |cluster, hub, recipient| {
            let other = Ca::new_root(&domain(), now()).expect("a root");
            cluster.pins = vec![fingerprint(other.certificate_pem()).expect("a certificate")];
            apply(cluster, hub, recipient);
        },
        "WrongHub",
    ),
    (
        "ended",
        |cluster, hub, recipient| {
            cluster.apply(&hub.bundle("team-a/prod-eu", recipient, Timestamp(now().0 - 3_600_000)));
        },
        "BundleExpired",
    ),
    (
        "made tomorrow",
        |cluster, hub, recipient| {
            cluster.apply(&hub.bundle("team-a/prod-eu", recipient, now().plus(Duration::from_hours(24))));
        },
        "ClockSkew",
    ),
    (
        "redeemed by somebody else",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            let mut state = hub.state();
            let issued = state.enrollment.issued.as_mut().expect("issued");
            issued.used = Some(zen_enroll::Used { by: [7; 32], at: now() });
        },
        "BundleReused",
    ),
    (
        "another one was asked for since",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            hub.state().enrollment.bundle = "2".to_owned();
        },
        "BundleVoid",
    ),
    (
        "its enrollment was deleted and made again",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            hub.state().enrollment.uid = "u-2".to_owned();
        },
        "BundleVoid",
    ),
    (
        "its enrollment is disabled",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            hub.state().enrollment.disabled = true;
        },
        "EnrollmentDisabled",
    ),
    (
        "the member's clock is ten minutes ahead",
        |cluster, hub, recipient| {
            apply(cluster, hub, recipient);
            cluster.later(Duration::from_mins(10));
        },
        "ClockSkew",
    ),
];

fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": {}})
}

fn apply(cluster: &Cluster, hub: &Hub, recipient: &Recipient) {
    cluster.apply(&hub.bundle("team-a/prod-eu", recipient, now()));
}

fn change(cluster: &Cluster, change: impl Fn(&mut Value)) {
    let mut secret = cluster.secret(SECRET).expect("there");
    change(&mut secret["data"]);
    cluster.put(SECRET, secret);
}

#[tokio::test]
async fn each_bundle_that_is_not_used_has_its_reason() {
    for (what, arrange, reason) in ROWS {
        let (mut cluster, hub) = (Cluster::new(), Hub::start().await);
        let recipient = cluster.recipient().await;
        arrange(&mut cluster, &hub, &recipient);
        let steps = cluster.steps(4).await.expect("steps");
        let problem = steps.last().and_then(|(_, problem)| problem.clone()).expect(what);
        assert!(problem.starts_with(&format!("{reason}: ")), "{what}: {problem}");
        assert_eq!(cluster.said().last().map(String::as_str), Some(reason), "{what}: {:?}", cluster.said());
        let events = cluster.server.received();
        let event = events.iter().rfind(|received| received.body["reason"] == reason).expect("an Event");
        assert_eq!(event.body["regarding"]["name"], SECRET, "{what}");
        assert!(cluster.secret(AGENT).is_none() && cluster.secret(ISSUER).is_none(), "{what}");
    }
}

/// A bundle of no use is no reason to give up what works.
#[tokio::test]
async fn a_member_keeps_what_it_has_when_another_bundle_is_refused() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    let (before, asked) = (cluster.entry(ISSUER, "tls.crt"), hub.state().asked.len());
    hub.state().enrollment.bundle = "2".to_owned();
    cluster.apply(&hub.bundle("team-a/prod-eu", &Identity::generate().recipient(), now()));
    cluster.steps(3).await.expect("steps");
    assert_eq!(cluster.entry(ISSUER, "tls.crt"), before);
    assert!(hub.state().asked.len() > asked, "it goes on asking what changed");
    assert!(cluster.said().contains(&"WrongCluster".to_owned()));
}

/// Somebody with the hub's name, and with a bundle that says so, but without the hub's issuing CA.
#[tokio::test]
async fn a_hub_of_another_root_gets_no_credential() {
    let (cluster, hub, other) = (Cluster::new(), Hub::start().await, Hub::start().await);
    let recipient = cluster.recipient().await;
    let real = hub.bundle("team-a/prod-eu", &recipient, now());
    let elsewhere = hub.bundle_of("team-a/prod-eu", &real.clear().stamp(), &recipient, &other.url());
    cluster.apply(&elsewhere);
    let error = cluster.drive().await.expect_err("it is not asked").to_string();
    assert!(error.contains("the hub does not answer") && error.contains("certificate"), "{error}");
    assert!(other.state().asked.is_empty());
}

/// A cluster that has a mesh of its own does not lose it by a bundle.
#[tokio::test]
async fn a_mesh_of_its_own_is_left_alone() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    let issuer = hub.root.issue_intermediate(now()).expect("an issuing CA");
    let data = json!({"tls.crt": STANDARD.encode(issuer.certificate_pem()),
                      "tls.key": STANDARD.encode(issuer.key_pem().expose())});
    cluster.put(ISSUER, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ISSUER}, "data": data}));
    let recipient = cluster.recipient().await;
    apply(&cluster, &hub, &recipient);
    let problem = cluster.drive().await.expect("steps").expect("a problem");
    assert!(problem.contains("zen-mesh-ca"), "{problem}");
    assert!(hub.state().asked.is_empty());
}
