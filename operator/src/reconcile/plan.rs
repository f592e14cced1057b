//! From what there is to what is to be: reads the stores and asks the pure parts, [`decide`] and [`scale`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use tokio::time::Instant;
use zen_compile::mesh;
use zen_model::signing::Versions;

use crate::configuration::Followed;
use crate::decide::{self, Inputs, Plan, Problem, Storage, keys};
use crate::names;
use crate::object::{Id, Object};
use crate::scale::drains::{self, Known, Orders};
use crate::scale::{self, DrainPod, DrainState, Observation, Replica};
use crate::settings::Workloads;
use crate::world::World;

/// What the channels said last.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// `workloads.yaml`.
    pub workloads: Followed<Workloads>,
    /// `mesh.yaml`.
    pub mesh: Followed<mesh::Config>,
    /// The trust bundle.
    pub trust: Option<Arc<str>>,
    /// The versions of the signing keys that count; none: those that the planes have.
    pub signing: Option<Versions>,
    /// What pods said about their drain.
    pub known: Known,
}

/// A plan, and what goes with it.
#[derive(Debug, Default)]
pub struct Planned {
    /// Objects that are wanted and unwanted, and problems.
    pub plan: Plan,
    /// Objects that are made once and never changed.
    pub once: HashMap<Id, Arc<Object>>,
    /// Marks to set on volumes, or to take off.
    pub marks: HashMap<Id, bool>,
    /// What to ask the pods.
    pub orders: Orders,
    /// When to look again although nothing changes.
    pub again: Option<Instant>,
}

/// Plans.
pub fn plan(world: &World, namespace: &str, current: &Current, now: Instant) -> Planned {
    let mut planned = Planned::default();
    planned.plan.problems.extend([&current.workloads.problem, &current.mesh.problem].into_iter().flatten().cloned());
    let is_member = current.workloads.content.as_ref().is_some_and(|workloads| workloads.member.is_some());
    let fingerprint =
        if is_member { given_keys(world) } else { plan_keys(world, namespace, current.signing.as_ref(), &mut planned) };
    // Without the object there is no owner: what we made goes with it, and must not come back.
    let (Some(workloads), Some(owner)) = (&current.workloads.content, current.workloads.owner()) else {
        return planned;
    };
    let set = world.stateful_set(names::INGESTER);
    if is_member && set.is_some() {
        planned.plan.problems.push(has_queues());
    }
    let fleet = Fleet::of(&world.pods.state(), &world.claims.state());
    let replicas = set.as_ref().and_then(|set| set.spec.as_ref()?.replicas).and_then(|count| u32::try_from(count).ok());
    let seen = fleet.observation(workloads.ingester.replicas, replicas, &current.known, now);
    // A member has no queues of its own; those of another time are nobody's to move.
    let decision = if is_member { scale::Decision::default() } else { scale::decide(&seen) };
    let ready = set.as_ref().and_then(|set| set.status.as_ref()?.ready_replicas).unwrap_or_default();
    let inputs = Inputs {
        namespace,
        owner: &owner,
        workloads,
        drain_delay: current.mesh.content.as_ref().map_or(mesh::Config::default().drain_delay, |mesh| mesh.drain_delay),
        trust: current.trust.as_deref(),
        keys: fingerprint.as_deref(),
        age: workloads.zen_lock.as_ref().is_some_and(|zen_lock| !zen_lock.custody.is_ours()) || world.has_age(),
        ingester_replicas: decision.replicas,
        storage: set.as_deref().and_then(|set| Storage::of(set, names::QUEUE)),
        audit_storage: world.stateful_set(names::AUDIT).and_then(|set| Storage::of(&set, names::AUDIT_DATA)),
        api_answers: ready > 0 || world.is_api_registered(),
    };
    if workloads.zen_lock.is_some() && !inputs.age {
        // Once public keys are published, ZenLocks lie in repositories that no other identity opens.
        if world.has_recipients() {
            planned.plan.problems.push(decide::age_lost());
        } else {
            let identity = decide::age_identity(namespace, jiff::Timestamp::now());
            planned.once.insert(identity.id().clone(), Arc::new(identity));
        }
    }
    let decided = decide::decide(&inputs);
    planned.plan.wanted.extend(decided.wanted);
    planned.plan.unwanted.extend(decided.unwanted);
    planned.plan.problems.extend(decided.problems);
    if let Some(keys) = inputs.keys.filter(|_| inputs.trust.is_some()) {
        for ordinal in &decision.make {
            planned.plan.want(decide::drain_pod(&inputs, keys, *ordinal));
        }
    }
    for ordinal in &decision.remove {
        planned.plan.unwanted.insert(Id::new::<Pod>(namespace, decide::drain_pod_name(*ordinal)));
    }
    for (ordinals, mark) in [(&decision.mark, true), (&decision.unmark, false)] {
        for ordinal in ordinals {
            let name = format!("{}-{}-{ordinal}", names::QUEUE, names::INGESTER);
            planned.marks.insert(Id::new::<PersistentVolumeClaim>(namespace, name), mark);
        }
    }
    if decision.replicas != workloads.ingester.replicas && !is_member {
        // Silence is a matter of time.
        planned.again = Some(now + Duration::from_secs(5));
        planned.plan.problems.push(waits(&decision, workloads.ingester.replicas));
    }
    planned.orders = fleet.orders(&seen, decision);
    planned
}

fn waits(decision: &scale::Decision, wanted: u32) -> Problem {
    let each = decision.waiting.iter().map(|(ordinal, why)| format!("{}-{ordinal}: {why}", names::INGESTER));
    let each = each.collect::<Vec<_>>().join("; ");
    let message = format!("from {} to {wanted} replicas when nothing is lost by it: {each}", decision.replicas);
    Problem { reason: "ScaleWaits", message }
}

fn has_queues() -> Problem {
    let message = format!(
        "member is set, and there is a StatefulSet {} with queues of the time before: it is left as it is. Let it deliver what it \
         holds with member switched off, or delete it if nothing in it matters",
        names::INGESTER
    );
    Problem { reason: "MemberHasIngester", message }
}

/// Which cluster the keys are of that a member's planes have from the hub; none while there are none. Versions of them come and
/// go without a restart.
fn given_keys(world: &World) -> Option<String> {
    let secret = world.secret(names::EGRESS_KEYS)?;
    secret.data.as_ref().filter(|data| data.contains_key(zen_pod::keys::MEMBER))?;
    secret.metadata.annotations.as_ref()?.get(names::KEYS).cloned()
}

/// The fingerprint of the keys that pods can mount; none while there are none.
fn plan_keys(world: &World, namespace: &str, signing: Option<&Versions>, planned: &mut Planned) -> Option<String> {
    let [root, ingester, egress] =
        [names::ROOT, names::INGESTER_KEYS, names::EGRESS_KEYS].map(|name| world.secret(name));
    let observed = keys::Observed { root: root.as_deref(), ingester: ingester.as_deref(), egress: egress.as_deref() };
    match keys::keys(namespace, observed, signing) {
        keys::Keys::Make(root) => {
            planned.once.insert(root.id().clone(), Arc::new(*root));
            None
        }
        keys::Keys::Branches { objects, fingerprint, there } => {
            for object in *objects {
                planned.plan.want(object);
            }
            Some(fingerprint).filter(|_| there)
        }
        keys::Keys::Stuck(problem) => {
            planned.plan.problems.push(problem);
            None
        }
    }
}

/// The ingester's pods and volumes, by ordinal.
#[derive(Debug, Default)]
struct Fleet {
    replicas: BTreeMap<u32, Seen>,
    drain_pods: BTreeMap<u32, DrainPod>,
    claims: BTreeMap<u32, bool>,
}

#[derive(Debug)]
struct Seen {
    /// None while it cannot be asked.
    pod: Option<drains::Pod>,
    ready: bool,
}

impl Fleet {
    fn of(pods: &[Arc<Pod>], claims: &[Arc<PersistentVolumeClaim>]) -> Self {
        let mut fleet = Self::default();
        for pod in pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            if let Some(ordinal) = decide::drain_ordinal(name) {
                fleet.drain_pods.insert(ordinal, drain_pod(pod));
            } else if let Some(ordinal) = decide::pod_ordinal(name) {
                fleet.replicas.insert(ordinal, Seen { pod: address(pod), ready: is_ready(pod) });
            }
        }
        for claim in claims {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let Some(ordinal) = decide::claim_ordinal(name) else { continue };
            let annotations = claim.metadata.annotations.as_ref();
            let marked = annotations.is_some_and(|annotations| annotations.contains_key(names::DRAINED));
            fleet.claims.insert(ordinal, marked);
        }
        fleet
    }

    fn observation(&self, wanted: u32, current: Option<u32>, known: &Known, now: Instant) -> Observation {
        let replica = |ordinal: &u32, seen: &Seen| {
            let Some(pod) = &seen.pod else { return Replica::NotRunning };
            match known.get(ordinal).filter(|heard| heard.uid == pod.uid) {
                // A pod that drains is not ready: one that is has gone on serving since.
                _ if seen.ready && *ordinal < wanted => Replica::Said(DrainState::Serving),
                Some(heard) => {
                    heard.state.map_or_else(|| Replica::Silent(now.duration_since(heard.since)), Replica::Said)
                }
                None if seen.ready => Replica::Said(DrainState::Serving),
                None => Replica::Silent(Duration::ZERO),
            }
        };
        Observation {
            wanted,
            current,
            pods: self.replicas.iter().map(|(ordinal, seen)| (*ordinal, replica(ordinal, seen))).collect(),
            drain_pods: self.drain_pods.clone(),
            claims: self.claims.clone(),
        }
    }

    fn orders(&self, seen: &Observation, decision: scale::Decision) -> Orders {
        let pods = self.replicas.iter().filter_map(|(ordinal, seen)| Some((*ordinal, seen.pod.clone()?)));
        let look = self.replicas.iter().filter(|(ordinal, pod)| !pod.ready || **ordinal >= seen.wanted);
        Orders {
            pods: pods.collect(),
            look: look.map(|(ordinal, _)| *ordinal).collect(),
            drain: decision.drain,
            resume: decision.resume,
        }
    }
}

/// Where a pod can be asked.
fn address(pod: &Pod) -> Option<drains::Pod> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    Some(drains::Pod { uid: pod.metadata.uid.clone()?, address: status.pod_ip.as_ref()?.parse().ok()? })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn drain_pod(pod: &Pod) -> DrainPod {
    if pod.metadata.deletion_timestamp.is_some() {
        return DrainPod::Ending;
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => DrainPod::Succeeded,
        Some("Failed") => DrainPod::Failed,
        _ => DrainPod::Working,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "status": {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn claim(name: &str, marked: bool) -> Arc<PersistentVolumeClaim> {
        let annotations = if marked { json!({names::DRAINED: "2026-01-01T00:00:00Z"}) } else { json!({}) };
        let claim = json!({"metadata": {"name": name, "annotations": annotations}});
        Arc::new(serde_json::from_value(claim).expect("a claim"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_pods_and_volumes_say() {
        let pods = [
            pod("zen-ingester-0", "Running", true),
            pod("zen-ingester-1", "Running", false),
            pod("zen-ingester-2", "Pending", false),
            pod("zen-ingester-3", "Running", true),
            pod("zen-ingester-drain-4", "Succeeded", false),
            pod("zen-ingester-drain-5", "Failed", false),
            pod("zen-ingester-canary", "Running", true),
        ];
        let claims =
            [claim("queue-zen-ingester-0", false), claim("queue-zen-ingester-4", true), claim("other-0", false)];
        let fleet = Fleet::of(&pods, &claims);
        let now = Instant::now();
        let heard = |ordinal: u32, state| {
            let uid = format!("uid-zen-ingester-{ordinal}");
            (ordinal, drains::Heard { uid, state, since: now })
        };
        let known =
            Known::from([heard(0, Some(DrainState::Draining)), heard(1, None), heard(3, Some(DrainState::Drained))]);
        tokio::time::advance(Duration::from_secs(9)).await;
        let seen = fleet.observation(3, Some(4), &known, Instant::now());
        assert_eq!(
            seen.pods,
            BTreeMap::from([
                (0, Replica::Said(DrainState::Serving)),
                (1, Replica::Silent(Duration::from_secs(9))),
                (2, Replica::NotRunning),
                (3, Replica::Said(DrainState::Drained)),
            ])
        );
        assert_eq!(seen.drain_pods, BTreeMap::from([(4, DrainPod::Succeeded), (5, DrainPod::Failed)]));
        assert_eq!(seen.claims, BTreeMap::from([(0, false), (4, true)]));
        let orders = fleet.orders(&seen, scale::Decision::default());
        assert_eq!(orders.look, [1, 2, 3].into());
        assert_eq!(orders.pods.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_pod_of_the_same_name_has_said_nothing() {
        let fleet = Fleet::of(&[pod("zen-ingester-1", "Running", false)], &[]);
        let heard = drains::Heard { uid: "before".to_owned(), state: Some(DrainState::Drained), since: Instant::now() };
        let seen = fleet.observation(1, Some(2), &Known::from([(1, heard)]), Instant::now());
        assert_eq!(seen.pods[&1], Replica::Silent(Duration::ZERO));
    }
}
