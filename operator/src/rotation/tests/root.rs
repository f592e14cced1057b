//! The root is exchanged (T-04): at no moment does a pod present what another cannot verify, whoever crashes when.

use std::collections::VecDeque;

use zen_pki::{TrustRoots, certificates, fingerprint};

use zen_enroll::Holds;

use super::*;
use crate::enroll::Told;
use crate::identity::CA_NEXT;
use crate::names;

const WHOLE: [&str; 8] =
    ["planned", "trusting", "canary", "probing", "rolling_out", "verifying", "overlap", "retiring"];

/// What each pod trusts: the bundle as its kubelet brought it, each after another while.
struct Kubelets {
    published: VecDeque<(Instant, String)>,
    trusts: BTreeMap<&'static str, String>,
    /// Every issuing CA that was ever there, by fingerprint.
    issuers: BTreeMap<String, Ca>,
    /// Whether an issuing CA verifies under a bundle: found out once.
    verifies: BTreeMap<(String, String), bool>,
}

impl Kubelets {
    fn new(stage: &Stage) -> Self {
        let bundle = bundle(stage);
        let trusts = PODS.map(|pod| (pod, bundle.clone())).into();
        Self {
            published: [(Instant::now(), bundle)].into(),
            trusts,
            issuers: BTreeMap::new(),
            verifies: BTreeMap::new(),
        }
    }

    /// A second passes: kubelets bring what was published, pods ask for certificates, and every two of them could meet.
    fn pass(&mut self, stage: &Stage) {
        let now = bundle(stage);
        if self.published.back().is_none_or(|(_, last)| *last != now) {
            self.published.push_back((Instant::now(), now));
        }
        for secret in [ISSUER, ISSUER_NEXT] {
            if stage.cluster.object(secret).is_some() {
                let (name, _) = certificates(&stage.cluster.entry(secret, "tls.crt")).remove(0);
                self.issuers.entry(name).or_insert_with(|| ca(stage, secret));
            }
        }
        for (number, pod) in PODS.into_iter().enumerate() {
            let late = Duration::from_secs(30 + 30 * number as u64);
            let brought = self.published.iter().rev().find(|(at, _)| at.elapsed() >= late);
            if let Some((_, bundle)) = brought {
                self.trusts.insert(pod, bundle.clone());
            }
            if let Some(issuer) = stage.leader.as_ref().and_then(|_| stage.service().issuer_of(pod))
                && self.takes(pod, &issuer)
            {
                stage.set(|pods| pods.issuers.insert(pod, issuer));
            }
        }
        let presented: BTreeSet<_> = stage.issuers().into_iter().collect();
        for pod in PODS {
            for issuer in &presented {
                assert!(self.takes(pod, issuer), "{pod} does not take a peer in {:?}", stage.phase());
            }
        }
        let new = stage.state().active.and_then(|active| active.new);
        let distrusts = PODS.into_iter().filter(|pod| {
            let roots = certificates(&self.trusts[pod]);
            new.as_ref().is_none_or(|new| !roots.iter().any(|(root, _)| root == new))
        });
        let distrusts = distrusts.collect();
        stage.set(|pods| pods.distrusts = distrusts);
    }

    fn takes(&mut self, pod: &str, issuer: &str) -> bool {
        let Some(ca) = self.issuers.get(issuer) else { return false };
        let bundle = self.trusts[pod].clone();
        *self.verifies.entry((bundle.clone(), issuer.to_owned())).or_insert_with(|| {
            let roots = TrustRoots::from_pem(&bundle).expect("roots");
            ca.verify(&roots, Timestamp::now()).is_ok()
        })
    }
}

fn ca(stage: &Stage, secret: &str) -> Ca {
    let key = zen_model::Secret::new(stage.cluster.entry(secret, "tls.key"));
    Ca::from_pem(&stage.cluster.entry(secret, "tls.crt"), &key, secret, &domain(), Timestamp::now()).expect("a CA")
}

fn bundle(stage: &Stage) -> String {
    let object = stage.cluster.object(names::TRUST).expect("there");
    object["data"][names::TRUST_KEY].as_str().expect("text").to_owned()
}

fn root_of(stage: &Stage, secret: &str) -> Option<String> {
    stage.cluster.object(secret).map(|_| certificates(&stage.cluster.entry(secret, "tls.crt")).remove(0).0)
}

/// Leaves of the old are given two minutes.
fn ask(stage: &Stage, action: Action) {
    stage.ask_by(action, Subject::Root, Plan { overlap_seconds: Some(120), soak_seconds: 30, ..Plan::default() });
}

/// Goes on until nothing is active, and a new process leads a minute after one that ended. Returns the phases that were passed.
async fn follow(stage: &mut Stage, kubelets: &mut Kubelets, mut each: impl FnMut(&mut Stage)) -> Vec<&'static str> {
    let mut phases = Vec::new();
    let (deadline, mut gone) = (Instant::now() + Duration::from_hours(6), 0);
    loop {
        sleep(Duration::from_secs(1)).await;
        assert!(Instant::now() < deadline, "stuck in {:?}", stage.state());
        if let Some(phase) = stage.phase().filter(|phase| phases.last() != Some(phase)) {
            phases.push(phase);
        }
        each(stage);
        if stage.leader.is_none() {
            gone += 1;
            if gone % 60 == 0 {
                stage.lead();
                stage.service().identity().await;
            }
        }
        kubelets.pass(stage);
        let known = stage.state();
        if known.active.is_none() && !known.ended.is_empty() && stage.leader.is_some() {
            return phases;
        }
    }
}

async fn put_away(stage: &Stage, kubelets: &mut Kubelets) {
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        kubelets.pass(stage);
    }
    assert_eq!((root_of(stage, CA_NEXT), root_of(stage, ISSUER_NEXT)), (None, None), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_root_is_exchanged_and_every_pod_trusts_both_before_any_uses_the_new() {
    let mut stage = Stage::start().await;
    let (old, mut kubelets) = (root_of(&stage, CA).expect("a root"), Kubelets::new(&stage));
    stage.ask_for(Action::Start, Subject::Root);
    let mut began = BTreeMap::new();
    let phases = follow(&mut stage, &mut kubelets, |stage| {
        if let Some(phase) = stage.phase() {
            began.entry(phase).or_insert_with(Instant::now);
        }
        let is_published = certificates(&bundle(stage)).len() == 2;
        assert!(
            is_published
                || !["canary", "probing", "rolling_out", "verifying", "overlap"].contains(&stage.phase().unwrap_or(""))
        );
    })
    .await;
    assert_eq!(phases, WHOLE);
    let ended = stage.state().ended.remove(0);
    assert_eq!((ended.reason, ended.subject), (RotationReason::RotationFinished, Subject::Root));
    let new = ended.new.expect("made");
    assert_eq!((ended.old, root_of(&stage, CA)), (old.clone(), Some(new.clone())));
    assert!(matches!(certificates(&bundle(&stage)).as_slice(), [(root, _)] if *root == new), "the new alone");
    assert_eq!(stage.cluster.object(CA).expect("there")["immutable"], true);
    put_away(&stage, &mut kubelets).await;
    let issuer = stage.service().issuer_of("later").expect("it issues");
    assert!(stage.issuers().iter().all(|presented| *presented == issuer));
    // Nobody distrusts the old while a leaf of it may be met: leaves live for an hour.
    let overlap = began["retiring"] - began["overlap"];
    assert!(overlap >= Duration::from_mins(59), "{overlap:?}");
    assert!(began["canary"] - began["trusting"] >= Duration::from_mins(2), "the last kubelet");
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_a_root_changes_nothing() {
    for crash in WHOLE {
        let mut stage = Stage::start().await;
        let mut kubelets = Kubelets::new(&stage);
        ask(&stage, Action::Start);
        let mut crashed = false;
        let phases = follow(&mut stage, &mut kubelets, |stage| {
            if stage.phase() == Some(crash) && !std::mem::replace(&mut crashed, true) {
                stage.crash();
            }
        })
        .await;
        assert!(crashed, "{crash}: {phases:?}");
        let ended = stage.state().ended.remove(0);
        assert_eq!(ended.reason, RotationReason::RotationFinished, "{crash}: {ended:?}");
        assert_eq!(root_of(&stage, CA), ended.new, "{crash}");
        put_away(&stage, &mut kubelets).await;
    }
}

/// Roots are immutable: between the delete of the old and the create of the new there is none, and nobody makes another.
#[tokio::test(start_paused = true)]
async fn a_crash_between_the_two_roots_is_gone_on_from() {
    let mut stage = Stage::start().await;
    let mut kubelets = Kubelets::new(&stage);
    for _ in 0..3 {
        stage.cluster.server.expect(Call::patch(&format!("{SECRETS}/{CA}")), Reply::unavailable());
    }
    ask(&stage, Action::Start);
    let mut without = 0;
    follow(&mut stage, &mut kubelets, |stage| {
        if root_of(stage, CA).is_none() {
            without += 1;
            stage.crash();
        }
    })
    .await;
    assert!(without >= 60, "there was none for {without} s");
    let ended = stage.state().ended.remove(0);
    assert_eq!(ended.reason, RotationReason::RotationFinished);
    assert_eq!(root_of(&stage, CA), ended.new, "and no third one");
    put_away(&stage, &mut kubelets).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_taken_back_leaves_everything_as_it_was() {
    for at in WHOLE.into_iter().filter(|phase| *phase != "retiring") {
        let mut stage = Stage::start().await;
        let (old, first) = (root_of(&stage, CA), bundle(&stage));
        let mut kubelets = Kubelets::new(&stage);
        if at == "planned" {
            stage.cluster.server.expect(Call::patch(&format!("{SECRETS}/{CA_NEXT}")), Reply::unavailable());
        }
        ask(&stage, Action::Start);
        let mut done = false;
        follow(&mut stage, &mut kubelets, |stage| {
            if stage.phase() == Some(at) && !std::mem::replace(&mut done, true) {
                ask(stage, Action::Abort);
            }
        })
        .await;
        let ended = stage.state().ended.remove(0);
        assert!(done && ended.reason == RotationReason::RotationAborted, "{at}: {ended:?}");
        put_away(&stage, &mut kubelets).await;
        assert_eq!((root_of(&stage, CA), bundle(&stage)), (old, first), "{at}");
        let issuers = stage.issuers();
        assert!(issuers.iter().all(|issuer| *issuer == stage.first), "{at}: {issuers:?}");
    }
}

/// One pod's kubelet does not run: nobody uses what it cannot verify.
#[tokio::test(start_paused = true)]
async fn a_pod_that_never_trusts_the_new_takes_it_back() {
    let stage = Stage::start().await;
    let mut kubelets = Kubelets::new(&stage);
    ask(&stage, Action::Start);
    let refused = PODS[3];
    let mut phases = Vec::new();
    while stage.state().ended.is_empty() {
        sleep(Duration::from_secs(1)).await;
        kubelets.pass(&stage);
        stage.set(|pods| pods.distrusts.insert(refused));
        phases.extend(stage.phase());
    }
    assert_eq!(stage.state().ended[0].reason, RotationReason::TrustNotSpread);
    assert!(!phases.contains(&"canary"));
    put_away(&stage, &mut kubelets).await;
}

/// The runbook of a leaked key: who deletes the old root while another comes has that one at once.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_deleted_meanwhile_is_followed_by_the_one_that_comes() {
    let stage = Stage::start().await;
    ask(&stage, Action::Start);
    stage.set(|pods| pods.distrusts = PODS.into());
    until(|| stage.phase() == Some("trusting")).await;
    let next = root_of(&stage, CA_NEXT).expect("made");
    stage.cluster.delete(CA);
    stage.cluster.delete(ISSUER);
    until(|| !stage.state().ended.is_empty()).await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationAborted);
    until(|| root_of(&stage, CA_NEXT).is_none()).await;
    assert_eq!(root_of(&stage, CA), Some(next.clone()));
    until(|| certificates(&bundle(&stage)).iter().all(|(root, _)| *root == next)).await;
    let roots = TrustRoots::from_pem(&bundle(&stage)).expect("roots");
    until(|| ca(&stage, ISSUER).verify(&roots, Timestamp::now()).is_ok()).await;
    until(|| stage.service().issuer_of("later") == Some(ca(&stage, ISSUER).fingerprint())).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_begins_to_be_exchanged_when_it_is_due() {
    let cluster = Cluster::new();
    let day = 86_400_000;
    // Two thirds of ten years, but for ten minutes.
    let made = Timestamp(Timestamp::now().0 - 3650 * day * 2 / 3 + 600_000);
    let root = Ca::new_root(&domain(), made).expect("a root");
    cluster.put(secret_of(CA, &root));
    cluster.put(secret_of(ISSUER, &root.issue_intermediate(Timestamp::now()).expect("an issuing CA")));
    let stage = Stage::on(cluster).await;
    sleep(Duration::from_mins(5)).await;
    assert!(stage.state().active.is_none());
    until(|| stage.state().active.is_some()).await;
    let active = stage.state().active.expect("it goes on");
    assert_eq!((active.rotation.subject, active.old), (Subject::Root, fingerprint(root.certificate())));
}

#[tokio::test(start_paused = true)]
async fn a_root_of_somebody_else_is_left_alone() {
    let cluster = Cluster::new();
    let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    let mut theirs = secret_of(CA, &root);
    theirs["metadata"]["labels"] = serde_json::json!({});
    cluster.put(theirs);
    let stage = Stage::on(cluster).await;
    ask(&stage, Action::Start);
    until(|| stage.state().answer.is_some()).await;
    let answer = stage.state().answer.expect("an answer");
    assert!(!answer.accepted && answer.message.contains("somebody else"), "{answer:?}");
}

/// What is left of the issuing CAs of members.
const LEFT: Duration = Duration::from_mins(40);

/// A member whose issuing CA is beneath this root, and that says so.
fn member(stage: &Stage, name: &str, root: &str, roots: &[&str], is_connected: bool) -> Enrolled {
    let now = (stage.cluster.clock)();
    let roots = roots.iter().map(|root| (*root).to_owned()).collect();
    Enrolled {
        name: name.parse().expect("a cluster"),
        is_connected,
        root: Some(root.to_owned()),
        issued_at: Some(now),
        until: now.plus(LEFT),
        told: Some(Told { holds: Holds { roots, issuer: String::new() }, since: now }),
    }
}

/// T-04, T-01: the hub waits for its members with what they could not verify, and with what it would refuse.
#[tokio::test(start_paused = true)]
async fn members_are_waited_for() {
    let stage = Stage::start().await;
    let (old, mut kubelets) = (root_of(&stage, CA).expect("a root"), Kubelets::new(&stage));
    let one = member(&stage, "team-a/one", &old, &[&old], true);
    let away = member(&stage, "team-a/away", &old, &[&old], false);
    let ends = away.until;
    stage.clusters.send_replace(Some(vec![one, away.clone()]));
    ask(&stage, Action::Start);
    let (mut told, mut renewed, mut until_retiring) = (None, false, None);
    let mut seconds = 0;
    while stage.state().ended.is_empty() {
        seconds += 1;
        sleep(Duration::from_secs(1)).await;
        assert!(seconds < 20_000, "stuck in {:?}", stage.state());
        kubelets.pass(&stage);
        let new = stage.state().active.and_then(|active| active.new);
        match (stage.phase(), new) {
            (Some("trusting"), Some(new)) if seconds > 400 && told.is_none() => {
                told = Some((stage.cluster.clock)());
                let one = member(&stage, "team-a/one", &old, &[&old, &new], true);
                stage.clusters.send_replace(Some(vec![one, away.clone()]));
            }
            (Some("canary"), _) => {
                let told = told.expect("it is waited for");
                assert!((stage.cluster.clock)() >= told.plus(Plan::default().settle()), "and for its kubelets");
            }
            (Some("overlap"), Some(new)) if !std::mem::replace(&mut renewed, true) => {
                let one = member(&stage, "team-a/one", &new, &[&old, &new], true);
                stage.clusters.send_replace(Some(vec![one, away.clone()]));
            }
            (Some("retiring"), _) => until_retiring = until_retiring.or_else(|| Some((stage.cluster.clock)())),
            _ => {}
        }
        if renewed && until_retiring.is_none() && (stage.cluster.clock)() > ends {
            stage.clusters.send_replace(Some(Vec::new()));
        }
    }
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationFinished);
    assert!((stage.cluster.clock)() >= ends, "one that is away holds it up until its issuing CA has ended");
}

/// Taken back, the new is trusted until no member is beneath it any more.
#[tokio::test(start_paused = true)]
async fn a_member_goes_back_before_the_new_is_distrusted() {
    let mut stage = Stage::start().await;
    let (old, mut kubelets) = (root_of(&stage, CA).expect("a root"), Kubelets::new(&stage));
    ask(&stage, Action::Start);
    let (mut moved, mut waited) = (false, 0);
    follow(&mut stage, &mut kubelets, |stage| {
        let new = stage.state().active.and_then(|active| active.new);
        match (stage.phase(), new) {
            (Some("overlap"), Some(new)) if !std::mem::replace(&mut moved, true) => {
                let one = member(stage, "team-a/one", &new, &[&old, &new], true);
                stage.clusters.send_replace(Some(vec![one]));
                ask(stage, Action::Abort);
            }
            (Some("rolling_back"), Some(new)) => {
                waited += 1;
                assert!(certificates(&bundle(stage)).iter().any(|(root, _)| *root == new), "it is trusted meanwhile");
                if waited == 600 {
                    let one = member(stage, "team-a/one", &old, &[&old, &new], true);
                    stage.clusters.send_replace(Some(vec![one]));
                }
            }
            _ => {}
        }
    })
    .await;
    assert!(waited >= 600, "{waited}");
    assert_eq!(stage.state().ended[0].reason, RotationReason::RotationAborted);
    put_away(&stage, &mut kubelets).await;
}
