//! Whole rotations against a scripted API server, with pods that do what the identity service tells them (T-04).

mod certificates;
mod intake;
mod root;
mod signing;
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use zen_identity::Component;
use zen_model::Timestamp;
use zen_model::reason::RotationReason;
use zen_pki::{Ca, Identity, Presented, Validity};
use zen_rotation::record::{self, Action, Request, State};
use zen_rotation::{Plan, Rate, Subject};
use zen_runtime::lease::Leadership;
use zen_testkit::api_server::{Call, Reply};
use zen_verify::Sample;

use super::field::{Field, Pod, Unheard};
use super::{Arrived, Metrics, Parts, Told, run};
use crate::configuration::Followed;
use crate::enroll::Cluster as Enrolled;
use crate::identity::tests::cluster::{CONFIG_MAPS, Cluster, EVENTS, Replica, SECRETS, domain, secret_of};
use crate::identity::{CA, ISSUER, ISSUER_NEXT, Service, Source};
use crate::settings::Workloads;
use crate::{Writer, writer};

const PODS: [&str; 4] = ["zen-egress-0", "zen-egress-1", "zen-ingester-0", "zen-ingester-1"];

/// Pods that exchange their certificate when the identity service wants them to.
#[derive(Clone)]
struct Script(Arc<Mutex<Pods>>);

struct Pods {
    /// Fingerprint of the issuer of each.
    issuers: BTreeMap<&'static str, String>,
    /// These are not taken by anybody when they present an issuer other than this.
    refuses: Option<(&'static str, String)>,
    /// These do not take what the operator shows them of the new.
    distrusts: BTreeSet<&'static str>,
    rate: Rate,
    now: Validity,
    /// What intakes present instead.
    serves: Option<String>,
    visits: u32,
    /// What sources are presented, where that is another than others are.
    intakes: BTreeMap<&'static str, Validity>,
    /// Sources do not take what it presents.
    refused: Option<&'static str>,
    /// What each says of its signing keys.
    told: BTreeMap<&'static str, Told>,
    events: synthetic::Events,
}

impl Field for Script {
    fn pods(&self) -> Vec<Pod> {
        let pods = self.0.lock().expect("no panic");
        let pod = |name: &&'static str| Pod {
            component: if name.starts_with("zen-ingester") { Component::Ingester } else { Component::Egress },
            name: (*name).into(),
            uid: (*name).into(),
            address: ([127, 0, 0, 1], 1).into(),
            intake: Some(([127, 0, 0, 1], 1).into()),
            admin: ([127, 0, 0, 1], 1).into(),
            ready: true,
        };
        pods.issuers.keys().map(pod).collect()
    }

    fn operators(&self) -> Vec<Pod> {
        let address = ([127, 0, 0, 1], 1).into();
        let name: Arc<str> = "zen-operator-0".into();
        let uid = Arc::clone(&name);
        vec![Pod { component: Component::Operator, name, uid, address, intake: None, admin: address, ready: true }]
    }

    async fn greet(&self, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
        let pods = self.0.lock().expect("no panic");
        if pod.component == Component::Operator {
            let issuer = pods.issuers.values().next().cloned();
            return Ok(Presented { leaf: "operator".to_owned(), issuer, validity: pods.now });
        }
        // What is shown to pods before anybody uses it is good for minutes.
        let validity = identity.validity();
        let is_probe = validity.until.since(validity.from) < Duration::from_mins(30);
        if is_probe && pods.distrusts.contains(&*pod.name) {
            return Err(Unheard::Refused("unknown CA".to_owned()));
        }
        let issuer = pods.issuers[&*pod.name].clone();
        if pods.refuses.as_ref().is_some_and(|(name, old)| **name == *pod.name && *old != issuer) {
            return Err(Unheard::Refused("bad certificate".to_owned()));
        }
        Ok(Presented { leaf: format!("{issuer}/{}", pod.name), issuer: Some(issuer), validity: pods.now })
    }

    async fn visit(&self, pod: &Pod) -> Option<Result<Presented, Unheard>> {
        let mut pods = self.0.lock().expect("no panic");
        pods.visits += 1;
        let issuer = pods.issuers[&*pod.name].clone();
        let issuer = pods.serves.clone().unwrap_or(issuer);
        if pods.refused == Some(&*pod.name) {
            return Some(Err(Unheard::Refused("a source does not take it".to_owned())));
        }
        let validity = pods.intakes.get(&*pod.name).copied().unwrap_or(pods.now);
        Some(Ok(Presented { leaf: "intake".to_owned(), issuer: Some(issuer), validity }))
    }

    async fn intake(&self, pod: &Pod, _: &Identity) -> Result<Presented, Unheard> {
        let pods = self.0.lock().expect("no panic");
        let issuer = pods.serves.clone().unwrap_or_else(|| pods.issuers[&*pod.name].clone());
        Ok(Presented { leaf: format!("intake of {}", pod.name), issuer: Some(issuer), validity: pods.now })
    }

    async fn post(&self, pod: &Pod, event: Sample, asked_as: Option<&Identity>) -> Result<u16, Unheard> {
        Ok(self.0.lock().expect("no panic").events.post(pod, &event, asked_as.is_some()))
    }

    async fn arrived(&self, pod: &Pod) -> Option<Arrived> {
        Some(self.0.lock().expect("no panic").events.arrived(pod))
    }

    async fn rate(&self, _: &Pod) -> Option<Rate> {
        Some(self.0.lock().expect("no panic").rate)
    }

    async fn told(&self, pod: &Pod) -> Option<Told> {
        self.0.lock().expect("no panic").told.get(&*pod.name).cloned()
    }
}

/// A process that leads: its identity service, its controller, and what ends it.
type Leader = (Replica, JoinHandle<Result<(), writer::Error>>, CancellationToken);

/// A leader with its pods.
struct Stage {
    cluster: Cluster,
    script: Script,
    leader: Option<Leader>,
    clusters: watch::Sender<Option<Vec<Enrolled>>>,
    workloads: Followed<Workloads>,
    /// What an event goes through.
    made: synthetic::Made,
    first: String,
}

impl Stage {
    async fn start() -> Self {
        Self::on(Cluster::new()).await
    }

    async fn on(cluster: Cluster) -> Self {
        let now = (cluster.clock)();
        let now = Validity { from: now, until: now.plus(Duration::from_hours(24)) };
        let pods = Pods {
            issuers: BTreeMap::new(),
            refuses: None,
            distrusts: BTreeSet::new(),
            rate: Rate::default(),
            now,
            serves: None,
            visits: 0,
            intakes: BTreeMap::new(),
            refused: None,
            told: BTreeMap::new(),
            events: synthetic::Events::default(),
        };
        let script = Script(Arc::new(Mutex::new(pods)));
        let made = synthetic::allow(&cluster.server);
        let mut stage = Self {
            cluster,
            script,
            leader: None,
            clusters: watch::Sender::new(Some(Vec::new())),
            workloads: Followed::default(),
            made,
            first: String::new(),
        };
        stage.lead();
        stage.service().identity().await;
        stage.first = stage.service().issuer_of("x").expect("it issues");
        let first = stage.first.clone();
        stage.set(|pods| pods.issuers = PODS.map(|pod| (pod, first.clone())).into());
        until(|| stage.cluster.object(record::CONFIG_MAP).is_some()).await;
        stage
    }

    fn service(&self) -> &Service {
        &self.leader.as_ref().expect("there is a leader").0.service
    }

    fn set<T>(&self, change: impl FnOnce(&mut Pods) -> T) -> T {
        change(&mut self.script.0.lock().expect("no panic"))
    }

    /// Another process leads.
    fn lead(&mut self) {
        let replica = self.cluster.start(Source::Secret, true);
        let writer = Writer::new(
            self.cluster.server.client(),
            Leadership::unguarded(),
            "zen-operator-0",
            writer::Metrics::default(),
        );
        let (_, workloads) = watch::channel(self.workloads.clone());
        let parts = Parts {
            service: replica.service.clone(),
            writer,
            namespace: "zen-mesh".to_owned(),
            workloads,
            clusters: self.clusters.subscribe(),
            field: self.script.clone(),
            metrics: Metrics::default(),
        };
        let end = CancellationToken::new();
        let running = tokio::spawn(run(parts, end.clone()));
        self.leader = Some((replica, running, end));
    }

    /// The process ends wherever it is.
    fn crash(&mut self) {
        if let Some((_, running, _)) = self.leader.take() {
            running.abort();
        }
    }

    fn ask(&self, action: Action) {
        self.ask_for(action, Subject::IssuingCa(None));
    }

    fn ask_for(&self, action: Action, subject: Subject) {
        self.ask_by(action, subject, Plan { soak_seconds: 30, ..Plan::default() });
    }

    fn ask_by(&self, action: Action, subject: Subject, plan: Plan) {
        let id = format!("{:?}", Instant::now());
        let request = Request { id, action, subject, plan };
        let mut object = self.cluster.object(record::CONFIG_MAP).expect("there");
        object["data"][record::REQUEST] = serde_json::to_string(&request).expect("serializes").into();
        self.cluster.put(object);
    }

    fn state(&self) -> State {
        let object = self.cluster.object(record::CONFIG_MAP).expect("there");
        serde_json::from_str(object["data"][record::STATE].as_str().expect("there")).expect("parses")
    }

    fn phase(&self) -> Option<&'static str> {
        self.state().active.map(|active| active.rotation.phase.label())
    }

    /// Each pod asks, as it does every half minute. Returns the phases that were passed.
    async fn follow(&mut self, mut each: impl FnMut(&mut Self)) -> Vec<&'static str> {
        let mut phases = Vec::new();
        let deadline = Instant::now() + Duration::from_hours(2);
        loop {
            sleep(Duration::from_secs(1)).await;
            assert!(Instant::now() < deadline, "stuck in {:?}", self.state());
            if let Some(phase) = self.phase().filter(|phase| phases.last() != Some(phase)) {
                phases.push(phase);
                each(self);
            }
            if self.leader.is_none() {
                self.lead();
                self.service().identity().await;
            }
            for pod in PODS {
                let issuer = self.service().issuer_of(pod).expect("it issues");
                self.set(|pods| pods.issuers.insert(pod, issuer));
            }
            if self.state().active.is_none() && !self.state().ended.is_empty() {
                return phases;
            }
        }
    }

    fn issuers(&self) -> Vec<String> {
        self.set(|pods| pods.issuers.values().cloned().collect())
    }

    fn said(&self, code: &str) -> bool {
        let received = self.cluster.server.received();
        received.iter().any(|call| call.path.starts_with(EVENTS) && call.body["reason"] == code)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.crash();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_hours(1);
    while !condition() {
        assert!(Instant::now() < deadline, "never");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuing_ca_is_exchanged_by_a_canary_first() {
    let mut stage = Stage::start().await;
    stage.ask(Action::Start);
    let mut canary = Vec::new();
    let phases = stage
        .follow(|stage| {
            if stage.phase() == Some("probing") {
                let new = stage.state().active.and_then(|active| active.new).expect("made");
                canary = PODS.into_iter().filter(|pod| stage.service().issuer_of(pod) == Some(new.clone())).collect();
            }
        })
        .await;
    let whole = ["planned", "trusting", "canary", "probing", "rolling_out", "verifying", "overlap", "retiring"];
    assert_eq!(phases, whole.iter().copied().filter(|phase| phases.contains(phase)).collect::<Vec<_>>(), "in order");
    assert!(phases.contains(&"probing") && phases.contains(&"verifying"), "{phases:?}");
    assert_eq!(canary, [PODS[0], PODS[2]], "one of each half of an event's way goes first");
    let ended = stage.state().ended.remove(0);
    assert_eq!(ended.reason, RotationReason::RotationFinished);
    assert_eq!(ended.old, stage.first);
    let new = ended.new.expect("made");
    assert!(stage.issuers().iter().all(|issuer| *issuer == new));
    until(|| stage.cluster.object(ISSUER_NEXT).is_none()).await;
    assert_eq!(stage.service().issuer_of("zen-egress-9"), Some(new), "who comes later too");
    assert!(stage.said("RotationProgressing") && stage.said("RotationFinished"));
    // An answered request is not taken up again, by a new leader neither.
    stage.crash();
    stage.lead();
    sleep(Duration::from_hours(1)).await;
    assert_eq!(stage.state().ended.len(), 1);
}

/// T-04: a process that ends in any phase, or right after any write, changes nothing of how it ends.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_changes_nothing() {
    let whole = ["planned", "trusting", "canary", "probing", "rolling_out", "verifying", "overlap", "retiring"];
    for crash in whole {
        let mut stage = Stage::start().await;
        // What takes no time is made to take some.
        for secret in [ISSUER_NEXT, ISSUER] {
            stage.cluster.server.expect(Call::patch(&format!("{SECRETS}/{secret}")), Reply::unavailable());
        }
        stage.ask(Action::Start);
        let mut crashed = false;
        stage
            .follow(|stage| {
                if stage.phase() == Some(crash) {
                    crashed = true;
                    stage.crash();
                }
            })
            .await;
        let ended = stage.state().ended.remove(0);
        assert_eq!(ended.reason, RotationReason::RotationFinished, "{crash}");
        let new = ended.new.expect("made");
        assert!(stage.issuers().iter().all(|issuer| *issuer == new), "{crash}");
        // There is nothing to do in these, so that they are not seen from outside.
        assert!(crashed || ["trusting", "overlap"].contains(&crash), "{crash}");
    }
    // After each write of a state, but for the last that follow each other at once.
    for after in 1..=6 {
        let mut stage = Stage::start().await;
        let before = stage.cluster.server.received().iter().filter(|call| is_state(call)).count();
        stage.ask(Action::Start);
        let mut crashed = false;
        let deadline = Instant::now() + Duration::from_hours(2);
        while stage.state().ended.is_empty() {
            assert!(Instant::now() < deadline, "stuck after write {after}: {:?}", stage.state());
            let writes = stage.cluster.server.received().iter().filter(|call| is_state(call)).count();
            if writes >= before + after && !std::mem::replace(&mut crashed, true) {
                stage.crash();
                stage.lead();
                stage.service().identity().await;
            }
            for pod in PODS {
                let issuer = stage.service().issuer_of(pod).expect("it issues");
                stage.set(|pods| pods.issuers.insert(pod, issuer));
            }
            sleep(Duration::from_millis(10)).await;
        }
        assert!(crashed, "there are so many writes");
        assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished, "after write {after}");
    }
}

fn is_state(call: &zen_testkit::api_server::Received) -> bool {
    call.method == "PATCH" && call.path.ends_with(record::CONFIG_MAP)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_takes_it_back() {
    let mut stage = Stage::start().await;
    let first = stage.first.clone();
    stage.set(|pods| pods.refuses = Some((PODS[0], first.clone())));
    // The canary presents the new, and its peers do not take it: what it presents is not even met.
    stage.ask(Action::Start);
    let phases = stage.follow(|_| {}).await;
    let ended = stage.state().ended[0].clone();
    assert!(matches!(ended.reason, RotationReason::CanaryStuck | RotationReason::ProbeFailed), "{ended:?}");
    assert!(!phases.contains(&"rolling_out"), "{phases:?}");
    assert!(stage.issuers().iter().all(|issuer| *issuer == first));
    until(|| stage.cluster.object(ISSUER_NEXT).is_none()).await;
    assert!(stage.said(ended.reason.row().code));
    assert_eq!(stage.service().issuer_of("later"), Some(first));
}

#[tokio::test(start_paused = true)]
async fn more_failed_requests_take_it_back_and_so_does_an_abort() {
    for (reason, at) in [
        (RotationReason::ErrorsRaised, "probing"),
        (RotationReason::ErrorsRaised, "verifying"),
        (RotationReason::RotationAborted, "probing"),
        (RotationReason::RotationAborted, "verifying"),
    ] {
        let mut stage = Stage::start().await;
        stage.set(|pods| pods.rate = Rate { requests: 100_000, failures: 0 });
        stage.ask(Action::Start);
        // One look at how it was when the phase began.
        let mut done = false;
        let before = stage.first.clone();
        stage
            .follow(|stage| {
                if stage.phase() == Some(at) && !std::mem::replace(&mut done, true) {
                    if reason == RotationReason::RotationAborted {
                        stage.ask(Action::Abort);
                    } else {
                        stage.set(|pods| pods.rate = Rate { requests: 100_400, failures: 40 });
                    }
                }
            })
            .await;
        let ended = stage.state().ended[0].clone();
        assert_eq!(ended.reason, reason, "{at}: {ended:?}");
        assert!(stage.issuers().iter().all(|issuer| *issuer == before), "{at}");
    }
}

/// T-04: sources meet the intake's certificate: one that is not of the new keeps probes from passing.
#[tokio::test(start_paused = true)]
async fn an_intake_that_stays_behind_takes_it_back() {
    let mut stage = Stage::start().await;
    let first = stage.first.clone();
    stage.set(|pods| pods.serves = Some(first.clone()));
    stage.ask(Action::Start);
    let phases = stage.follow(|_| {}).await;
    let ended = stage.state().ended[0].clone();
    assert_eq!(ended.reason, RotationReason::ProbesMissing, "{ended:?}");
    assert!(!phases.contains(&"rolling_out") && stage.set(|pods| pods.visits) > 0, "{phases:?}");
}

/// Two thirds of its lifetime are over: nobody has to ask.
#[tokio::test(start_paused = true)]
async fn it_begins_by_itself_when_it_is_due() {
    let cluster = Cluster::new();
    let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    // In 50 minutes, 60 days will have passed since it was made.
    let made = Timestamp(Timestamp::now().0 - 60 * 86_400_000 + 50 * 60_000);
    cluster.put(secret_of(CA, &root));
    cluster.put(secret_of(ISSUER, &root.issue_intermediate(made).expect("an issuing CA")));
    let mut stage = Stage::on(cluster).await;
    let text = stage.cluster.entry(ISSUER, "tls.crt");
    sleep(Duration::from_mins(45)).await;
    assert!(stage.state().active.is_none());
    stage.follow(|_| {}).await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
    assert_ne!(stage.cluster.entry(ISSUER, "tls.crt"), text);
}

/// The API server is away for a while: it goes on where it was.
#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_tried_again() {
    let mut stage = Stage::start().await;
    let patch = Call::patch(&format!("{CONFIG_MAPS}/{}", record::CONFIG_MAP));
    stage.ask(Action::Start);
    until(|| stage.phase() == Some("canary")).await;
    for _ in 0..3 {
        stage.cluster.server.expect(patch.clone(), Reply::unavailable());
    }
    stage.follow(|_| {}).await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
}
