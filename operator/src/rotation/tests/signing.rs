//! Whole rotations of the signing keys, with planes that read what they mount one after another, as kubelets bring it (W-12, T-04).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zen_model::signing::{Signers, Versions};
use zen_pod::keys::VERSIONS;
use zen_rotation::signing::Settled;

use super::*;
use crate::names::{EGRESS_KEYS, INGESTER_KEYS};

const WHOLE: [&str; 8] =
    ["planned", "trusting", "canary", "probing", "rolling_out", "verifying", "overlap", "retiring"];

/// How the planes follow.
struct Planes {
    stage: Stage,
    /// Whose turn it is to read what it mounts.
    turn: usize,
    /// Is of a release that knows of no versions.
    left_behind: Option<&'static str>,
}

impl Planes {
    async fn start() -> Self {
        let mut planes = Self { stage: Stage::start().await, turn: 0, left_behind: None };
        for name in [INGESTER_KEYS, EGRESS_KEYS] {
            planes.stage.cluster.put(keys(name, None));
        }
        for _ in PODS {
            planes.tick();
        }
        planes
    }

    fn ask(&self, id: &str, action: Action) {
        let plan = Plan { soak_seconds: 30, overlap_seconds: Some(3600), ..Plan::default() };
        let request = Request { id: id.to_owned(), action, subject: Subject::SigningKeys(None), plan };
        let mut object = self.stage.cluster.object(record::CONFIG_MAP).expect("there");
        object["data"][record::REQUEST] = serde_json::to_string(&request).expect("serializes").into();
        self.stage.cluster.put(object);
    }

    /// The loop of the leader writes the Secrets, and one pod reads what it has.
    fn tick(&mut self) {
        let cluster = &self.stage.cluster;
        let stored = self.stage.leader.as_ref().map(|(replica, ..)| replica.service.signing_versions());
        if let Some(versions) = stored.and_then(|stored| stored.borrow().clone()) {
            for name in [INGESTER_KEYS, EGRESS_KEYS] {
                let wanted = keys(name, Some(&versions));
                if cluster.object(name).is_none_or(|object| object["data"] != wanted["data"]) {
                    cluster.put(wanted);
                }
            }
        }
        let pod = PODS[self.turn % PODS.len()];
        self.turn += 1;
        if self.left_behind == Some(pod) {
            return;
        }
        let link = self.mounted().link(pod);
        self.stage.set(|pods| {
            let told = pods.told.entry(pod).or_default();
            (told.signs, told.verifies) = (Some(link[0]), link);
        });
        // The one thing that must never be: a signature that an egress does not take.
        let told = self.told();
        for (ingester, signer) in told.iter().filter(|(name, _)| name.starts_with("zen-ingester")) {
            let signs = signer.signs.expect("it signs");
            for (egress, verifier) in told.iter().filter(|(name, _)| name.starts_with("zen-egress")) {
                let is_taken = verifier.verifies.contains(&signs);
                assert!(is_taken, "{ingester} signs with {signs}, and {egress} takes {:?}", verifier.verifies);
            }
        }
    }

    fn mounted(&self) -> Versions {
        let object = self.stage.cluster.object(INGESTER_KEYS).expect("there");
        object["data"].get(VERSIONS).map_or_else(Versions::default, |text| {
            let text = STANDARD.decode(text.as_str().expect("text")).expect("base64");
            Versions::from_json(&text).expect("sound")
        })
    }

    fn told(&self) -> BTreeMap<&'static str, Told> {
        self.stage.set(|pods| pods.told.clone())
    }

    fn signs(&self) -> [Option<u32>; 2] {
        ["zen-ingester-0", "zen-ingester-1"].map(|pod| self.told()[pod].signs)
    }

    /// Until so many rotations are over; the phases that were passed.
    async fn follow(&mut self, over: usize, mut each: impl FnMut(&mut Self)) -> Vec<&'static str> {
        let mut phases = Vec::new();
        let deadline = Instant::now() + Duration::from_hours(2);
        while self.stage.state().active.is_some() || self.stage.state().ended.len() < over {
            sleep(Duration::from_secs(1)).await;
            assert!(Instant::now() < deadline, "stuck in {:?}", self.stage.state());
            if let Some(phase) = self.stage.phase().filter(|phase| phases.last() != Some(phase)) {
                phases.push(phase);
                each(self);
            }
            if self.stage.leader.is_none() {
                self.stage.lead();
                self.stage.service().identity().await;
            }
            self.tick();
        }
        // The last of them comes to know.
        for _ in 0..2 * PODS.len() {
            sleep(Duration::from_secs(1)).await;
            self.tick();
        }
        phases
    }
}

fn keys(name: &str, versions: Option<&Versions>) -> serde_json::Value {
    let data = versions.map_or_else(|| json!({}), |versions| json!({VERSIONS: STANDARD.encode(versions.to_json())}));
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
}

#[tokio::test(start_paused = true)]
async fn signing_keys_are_exchanged_by_a_canary_first_and_targets_have_their_time() {
    let mut planes = Planes::start().await;
    planes.ask("first", Action::Start);
    let mut canary = None;
    let phases = planes
        .follow(1, |planes| {
            if planes.stage.phase() == Some("probing") {
                canary = Some((planes.mounted().next.expect("it comes").signers, planes.signs()));
            }
        })
        .await;
    let passed: Vec<_> = WHOLE.into_iter().filter(|phase| phases.contains(phase)).collect();
    assert_eq!(phases, passed, "in order");
    for phase in ["trusting", "canary", "probing", "rolling_out", "verifying", "overlap"] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    let one = Signers::Pods(["zen-ingester-0".to_owned()].into());
    assert_eq!(canary, Some((one, [Some(2), Some(1)])), "who signs goes first, egresses do not");
    let ended = planes.stage.state().ended.remove(0);
    assert_eq!((ended.reason, ended.old.as_str()), (RotationReason::RotationFinished, "1"));
    assert_eq!((planes.signs(), planes.mounted().targets()), ([Some(2); 2], vec![2, 1]));
    assert!(planes.told().values().all(|told| told.verifies == [2]), "the old counts no more at the link");
    assert!(planes.stage.said("RotationFinished"));
    // Something else may be rotated meanwhile, and the overlap ends by itself.
    planes.stage.ask(Action::Start);
    until(|| planes.stage.phase().is_some()).await;
    planes.stage.ask(Action::Abort);
    planes.follow(2, |_| {}).await;
    assert_eq!(planes.mounted().targets(), [2, 1]);
    sleep(Duration::from_hours(1)).await;
    planes.tick();
    assert_eq!((planes.mounted().targets(), planes.mounted().link("")), (vec![2], vec![2]));
    planes.ask("second", Action::Start);
    planes.follow(3, |_| {}).await;
    assert_eq!((planes.signs(), planes.mounted().targets()), ([Some(3); 2], vec![3, 2]));
}

/// T-04: a process that ends in any phase, or right after any write, changes nothing of how it ends, and nobody meets a
/// signature that he does not take.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_changes_nothing() {
    for crash in WHOLE {
        let mut planes = Planes::start().await;
        planes.ask("r", Action::Start);
        let mut crashed = false;
        planes
            .follow(1, |planes| {
                if planes.stage.phase() == Some(crash) {
                    crashed = true;
                    planes.stage.crash();
                }
            })
            .await;
        // There is nothing to do in the first, so that it is not seen from outside.
        assert!(crashed || crash == "planned", "{crash}");
        let settled = planes.stage.state();
        assert_eq!(settled.ended[0].reason, RotationReason::RotationFinished, "{crash}");
        assert_eq!((planes.signs(), planes.mounted().targets()), ([Some(2); 2], vec![2, 1]), "{crash}");
    }
    // But for the last, which is the end.
    for after in 1..=8 {
        let mut planes = Planes::start().await;
        let before = planes.stage.cluster.server.received().iter().filter(|call| is_state(call)).count();
        planes.ask("r", Action::Start);
        let mut crashed = false;
        let deadline = Instant::now() + Duration::from_hours(2);
        while planes.stage.state().ended.is_empty() {
            assert!(Instant::now() < deadline, "stuck after write {after}: {:?}", planes.stage.state());
            let writes = planes.stage.cluster.server.received().iter().filter(|call| is_state(call)).count();
            if writes >= before + after && !std::mem::replace(&mut crashed, true) {
                planes.stage.crash();
                planes.stage.lead();
                planes.stage.service().identity().await;
            }
            planes.tick();
            sleep(Duration::from_millis(500)).await;
        }
        assert!(crashed, "there are so many writes: {after}");
        planes.follow(1, |_| {}).await;
        assert_eq!((planes.signs(), planes.mounted().targets()), ([Some(2); 2], vec![2, 1]), "after write {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_taken_back_and_everybody_signs_as_before() {
    for (reason, at) in [
        (RotationReason::RotationAborted, "trusting"),
        (RotationReason::RotationAborted, "probing"),
        (RotationReason::RotationAborted, "verifying"),
        (RotationReason::RotationAborted, "overlap"),
        (RotationReason::ProbeFailed, "probing"),
        (RotationReason::ProbeFailed, "verifying"),
        (RotationReason::TrustNotSpread, "trusting"),
    ] {
        let mut planes = Planes::start().await;
        if reason == RotationReason::TrustNotSpread {
            planes.left_behind = Some("zen-egress-1");
        }
        planes.ask("r", Action::Start);
        let mut done = false;
        let phases = planes
            .follow(1, |planes| {
                if planes.stage.phase() != Some(at) || std::mem::replace(&mut done, true) {
                    return;
                }
                match reason {
                    RotationReason::RotationAborted => planes.ask("back", Action::Abort),
                    RotationReason::ProbeFailed => planes.stage.set(|pods| {
                        pods.told.get_mut("zen-egress-0").expect("there").wrong = 1;
                    }),
                    _ => {}
                }
            })
            .await;
        let state = planes.stage.state();
        assert_eq!(state.ended[0].reason, reason, "{at}: {:?} {phases:?}", state.ended[0]);
        assert_eq!(planes.signs(), [Some(1); 2], "{at}");
        assert_eq!((planes.mounted(), state.signing), (Versions::default(), Some(Settled::default())), "{at}");
        assert_eq!(phases.contains(&"canary"), at != "trusting", "{phases:?}");
    }
}

/// Whoever deletes what is stored of rotations loses no version: what the planes have counts on.
#[tokio::test(start_paused = true)]
async fn what_is_no_longer_stored_is_taken_from_what_the_planes_have() {
    let mut planes = Planes::start().await;
    let third = Versions { current: 3, ..Versions::default() };
    for name in [INGESTER_KEYS, EGRESS_KEYS] {
        planes.stage.cluster.put(keys(name, Some(&third)));
    }
    for _ in PODS {
        // All at once: of a time before.
        let pod = PODS[planes.turn % PODS.len()];
        planes.turn += 1;
        planes.stage.set(|pods| {
            pods.told.insert(pod, Told { signs: Some(3), verifies: vec![3], wrong: 0 });
        });
    }
    planes.stage.crash();
    planes.stage.cluster.delete(record::CONFIG_MAP);
    planes.stage.lead();
    planes.stage.service().identity().await;
    until(|| planes.stage.cluster.object(record::CONFIG_MAP).is_some()).await;
    planes.ask("r", Action::Start);
    planes.follow(1, |_| {}).await;
    assert_eq!((planes.signs(), planes.mounted().targets()), ([Some(4); 2], vec![4, 3]));
}
