//! A signed event goes round before others follow (T-04).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zen_pod::sink::NAME;
use zen_testkit::api_server::{ApiServer, Received};

use super::*;
use crate::settings::tests::LEAST;

/// What becomes of events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Ends {
    #[default]
    Delivered,
    Refused,
    /// They do not arrive.
    Lost,
}

/// What they go through.
const WHOLE: [&str; 3] = ["Destination", "Secret", "Webhook"];

/// What goes round, and how.
#[derive(Default)]
pub(super) struct Events {
    /// At which intake each was posted.
    posted: Vec<Arc<str>>,
    /// Pods were asked which certificate it is.
    asked: bool,
    /// So many intakes answer 404 first.
    unknown: usize,
    ends: Ends,
    arrived: BTreeMap<&'static str, Arrived>,
}

impl Events {
    pub(super) fn post(&mut self, pod: &Pod, event: &Sample, asked: bool) -> u16 {
        self.asked |= asked;
        assert_eq!(event.path_and_query, format!("/zen-mesh/{NAME}"));
        assert!(event.headers.contains_key("webhook-signature"));
        if self.unknown > 0 {
            self.unknown -= 1;
            return 404;
        }
        self.posted.push(pod.name.clone());
        // The egresses take turns, and those that go first are the last to have one.
        let egress = ["zen-egress-1", "zen-egress-0"][self.posted.len() % 2];
        let arrived = self.arrived.entry(egress).or_default();
        match self.ends {
            Ends::Delivered => arrived.delivered += 1,
            Ends::Refused => arrived.refused += 1,
            Ends::Lost => {}
        }
        202
    }

    pub(super) fn arrived(&self, pod: &Pod) -> Arrived {
        self.arrived.get(&*pod.name).copied().unwrap_or_default()
    }
}

/// What an event goes through, by kind.
pub(super) type Made = Arc<Mutex<BTreeMap<&'static str, serde_json::Value>>>;

/// The API server has them.
pub(super) fn allow(server: &ApiServer) -> Made {
    let made = Made::default();
    for (kind, of) in [
        ("Webhook", "/apis/zen-mesh.io/v1alpha1/namespaces/zen-mesh/webhooks"),
        ("Destination", "/apis/zen-mesh.io/v1alpha1/namespaces/zen-mesh/destinations"),
        ("Secret", SECRETS),
    ] {
        let items = Arc::clone(&made);
        let list = move |_: &Received| {
            let items: Vec<_> = items.lock().expect("no panic").get(kind).cloned().into_iter().collect();
            serde_json::json!({"kind": "List", "apiVersion": "v1", "items": items, "metadata": {"resourceVersion": "1"}})
        };
        let only = Call::get(of).query("fieldSelector", &format!("metadata.name={NAME}"));
        server.allow(only, Reply::with(list));
        let one = format!("{of}/{NAME}");
        let items = Arc::clone(&made);
        let put = move |received: &Received| {
            let mut body = received.body.clone();
            body["metadata"]["uid"] = "u".into();
            items.lock().expect("no panic").insert(kind, body.clone());
            body
        };
        server.allow(Call::patch(&one), Reply::with(put));
        let items = Arc::clone(&made);
        let gone = move |_: &Received| {
            items.lock().expect("no panic").remove(kind);
            serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        };
        server.allow(Call::delete(&one), Reply::with(gone));
    }
    made
}

fn kinds(stage: &Stage) -> Vec<&'static str> {
    stage.made.lock().expect("no panic").keys().copied().collect()
}

pub(super) async fn stage(more: &str) -> Stage {
    let mut stage = Stage::start().await;
    stage.crash();
    let content = Workloads::parse(&format!("{LEAST}{more}\n")).expect("valid");
    stage.workloads = Followed { content: Some(Arc::new(content)), ..Followed::default() };
    stage.lead();
    stage.service().identity().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_round_before_others_follow() {
    let mut stage = stage("").await;
    stage.ask(Action::Start);
    let mut seen = BTreeMap::new();
    stage
        .follow(|stage| {
            let posted = stage.set(|pods| std::mem::take(&mut pods.events.posted));
            seen.insert(stage.phase().expect("it goes on"), (kinds(stage), posted));
        })
        .await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
    // What was posted in a phase is seen at the latest when the next begins.
    let (made, probing) = seen.remove("rolling_out").expect("passed");
    assert_eq!(made, WHOLE);
    let before: Vec<_> = seen.remove("probing").expect("passed").1.into_iter().chain(probing).collect();
    assert!(before.len() >= 2 && before.iter().all(|pod| **pod == *"zen-ingester-0"), "{before:?}");
    let after: BTreeSet<_> = seen.into_values().flat_map(|(_, posted)| posted).collect();
    assert_eq!(after.len(), 2, "then each intake: {after:?}");
    until(|| kinds(&stage).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_arrive_takes_it_back() {
    for (ends, unknown, reason) in [
        (Ends::Refused, 0, RotationReason::ProbeFailed),
        (Ends::Lost, 0, RotationReason::ProbesMissing),
        (Ends::Delivered, usize::MAX, RotationReason::ProbesMissing),
        // The Webhook was made a moment ago.
        (Ends::Delivered, 3, RotationReason::RotationFinished),
    ] {
        let mut stage = stage("").await;
        let first = stage.first.clone();
        stage.set(|pods| (pods.events.ends, pods.events.unknown) = (ends, unknown));
        stage.ask(Action::Start);
        stage.follow(|_| {}).await;
        let ended = stage.state().ended[0].clone();
        assert_eq!(ended.reason, reason, "{ends:?} {unknown}: {ended:?}");
        let went_back = reason != RotationReason::RotationFinished;
        assert_eq!(stage.issuers().iter().all(|issuer| *issuer == first), went_back, "{ends:?}");
        until(|| kinds(&stage).is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_none_is_wanted_handshakes_have_to_do() {
    let mut stage = stage("rotation: {syntheticEvent: false}").await;
    stage.ask(Action::Start);
    stage.follow(|stage| assert!(kinds(stage).is_empty())).await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
    assert!(stage.set(|pods| pods.events.posted.is_empty()));
}

/// Sources are presented a certificate of the user's own: ingesters say which.
#[tokio::test(start_paused = true)]
async fn an_intake_of_the_users_own_takes_events_too() {
    for (more, asked) in [("", false), ("intake: {tlsSecret: own}", true)] {
        let mut stage = stage(more).await;
        stage.ask(Action::Start);
        stage.follow(|_| {}).await;
        assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
        assert_eq!(stage.set(|pods| (pods.events.posted.is_empty(), pods.events.asked)), (false, asked));
    }
}

/// What somebody deletes meanwhile is made again, with the same secret.
#[tokio::test(start_paused = true)]
async fn what_is_deleted_meanwhile_is_made_again() {
    let mut stage = stage("").await;
    stage.ask(Action::Start);
    let mut deleted = None;
    stage
        .follow(|stage| {
            let mut made = stage.made.lock().expect("no panic");
            if stage.phase() == Some("probing") {
                deleted = made.remove("Secret").map(|secret| secret["data"].clone());
            } else if stage.phase() == Some("rolling_out") {
                assert_eq!(made.get("Secret").map(|secret| secret["data"].clone()), deleted);
            }
        })
        .await;
    assert!(deleted.is_some());
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
}

/// Somebody else's Webhook of this name is left alone, and nothing is exchanged that cannot be probed.
#[tokio::test(start_paused = true)]
async fn what_somebody_else_made_is_left_alone() {
    let mut stage = stage("").await;
    let theirs = serde_json::json!({"metadata": {"name": NAME, "namespace": "zen-mesh", "uid": "u"}});
    stage.made.lock().expect("no panic").insert("Webhook", theirs.clone());
    stage.ask(Action::Start);
    stage.follow(|_| {}).await;
    let ended = stage.state().ended[0].clone();
    assert_eq!(ended.reason, RotationReason::ProbesMissing, "{ended:?}");
    assert!(ended.detail.contains("Webhook zen-mesh/zen-mesh-probe"), "{ended:?}");
    sleep(Duration::from_hours(1)).await;
    assert_eq!(stage.made.lock().expect("no panic")["Webhook"], theirs);
}

/// The next leader makes another secret, and puts away what the one before has left.
#[tokio::test(start_paused = true)]
async fn a_leader_that_begins_signs_anew() {
    let mut stage = stage("").await;
    let secret = |stage: &Stage| {
        let made = stage.made.lock().expect("no panic");
        let text = made.get("Secret").map(|secret| secret["data"]["secret"].as_str().expect("there").to_owned());
        text.map(|text| STANDARD.decode(text).expect("base64"))
    };
    stage.ask(Action::Start);
    let mut secrets = Vec::new();
    stage
        .follow(|stage| {
            secrets.extend(secret(stage));
            if stage.phase() == Some("rolling_out") {
                stage.crash();
            }
        })
        .await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
    assert!(secrets.iter().all(|secret| secret.starts_with(b"whsec_")) && secrets.len() >= 2, "{}", secrets.len());
    assert_ne!(secrets.first(), secrets.last());
    until(|| kinds(&stage).is_empty()).await;
    let leave = |stage: &Stage| {
        stage.made.lock().expect("no panic").insert(
            "Webhook",
            serde_json::json!({"metadata": {
                "name": NAME, "namespace": "zen-mesh", "uid": "u",
                "labels": {crate::names::MANAGED_BY_LABEL: crate::names::MANAGED_BY}}}),
        )
    };
    leave(&stage);
    stage.crash();
    stage.lead();
    until(|| kinds(&stage).is_empty()).await;
}
