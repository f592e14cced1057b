//! Scale-down loses nothing (DESIGN 13): an ordinal is drained before it goes, and a volume that nobody mounts is emptied
//! by a pod of its own. [`decide`] is pure; [`drains`] speaks with the pods.

pub mod drains;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use zen_identity::control::DrainState;

/// A pod that runs but has not answered for so long is not waited for: its volume is emptied when it is gone.
const UNREACHABLE: Duration = Duration::from_mins(2);

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Replicas that are wanted.
    pub wanted: u32,
    /// Replicas that the `StatefulSet` has; none: there is no `StatefulSet`.
    pub current: Option<u32>,
    /// Replicas that have a pod, by ordinal.
    pub pods: BTreeMap<u32, Replica>,
    /// Pods that empty a queue, by ordinal.
    pub drain_pods: BTreeMap<u32, DrainPod>,
    /// Volumes by ordinal, and whether each is marked as empty.
    pub claims: BTreeMap<u32, bool>,
}

/// A replica's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    /// It has no address: nothing can be asked of it.
    NotRunning,
    /// It has not answered for so long.
    Silent(Duration),
    /// What it said last.
    Said(DrainState),
}

/// A pod that empties a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPod {
    /// At work, or waiting for a node or for its next try.
    Working,
    /// Done: the queue is empty.
    Succeeded,
    /// Evicted, or given up: it has to be made again.
    Failed,
    /// It is being deleted.
    Ending,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Replicas that the `StatefulSet` is to have now.
    pub replicas: u32,
    /// Pods to tell that they drain.
    pub drain: BTreeSet<u32>,
    /// Pods to tell that they go on serving.
    pub resume: BTreeSet<u32>,
    /// Volumes to mark as empty.
    pub mark: BTreeSet<u32>,
    /// Volumes that are in use again.
    pub unmark: BTreeSet<u32>,
    /// Pods to make that empty a queue.
    pub make: BTreeSet<u32>,
    /// Such pods to delete.
    pub remove: BTreeSet<u32>,
    /// Ordinals that are waited for, and for what.
    pub waiting: BTreeMap<u32, &'static str>,
}

/// Decides.
pub fn decide(seen: &Observation) -> Decision {
    let mut decision = Decision::default();
    decision.replicas = match seen.current {
        Some(current) if seen.wanted < current => shrink(seen, current, &mut decision),
        current => grow(seen, current.unwrap_or_default(), &mut decision),
    };
    for (ordinal, pod) in seen.pods.range(..decision.replicas.min(seen.wanted)) {
        if matches!(pod, Replica::Said(state) if *state != DrainState::Serving) {
            decision.resume.insert(*ordinal);
        }
    }
    volumes(seen, &mut decision);
    decision
}

/// All that go are drained before the first goes: they go together.
fn shrink(seen: &Observation, current: u32, decision: &mut Decision) -> u32 {
    let mut drained = true;
    for ordinal in seen.wanted..current {
        match seen.pods.get(&ordinal) {
            Some(Replica::Said(DrainState::Drained)) => {}
            Some(Replica::Said(state)) => {
                drained = false;
                if *state == DrainState::Serving {
                    decision.drain.insert(ordinal);
                }
                decision.waiting.insert(ordinal, "it delivers and hands over what it holds");
            }
            Some(Replica::Silent(since)) if *since < UNREACHABLE => {
                drained = false;
                decision.drain.insert(ordinal);
                decision.waiting.insert(ordinal, "it does not answer");
            }
            // Nothing can be asked of it. Its volume stays, and a pod of its own empties it.
            Some(Replica::Silent(_) | Replica::NotRunning) | None => {}
        }
    }
    if !drained {
        return current;
    }
    let empty = (seen.wanted..current)
        .filter(|ordinal| matches!(seen.pods.get(ordinal), Some(Replica::Said(DrainState::Drained))));
    for ordinal in empty {
        if seen.claims.get(&ordinal) == Some(&false) {
            decision.mark.insert(ordinal);
        }
    }
    // The mark comes first: a replica that is gone with an empty queue needs no pod that looks again.
    if decision.mark.is_empty() { seen.wanted } else { current }
}

/// Two pods on one volume would be two writers of one queue: the one that empties it goes first.
fn grow(seen: &Observation, current: u32, decision: &mut Decision) -> u32 {
    let busy = seen.drain_pods.range(current..seen.wanted).map(|(ordinal, _)| *ordinal);
    let busy: Vec<u32> = busy.collect();
    for ordinal in &busy {
        decision.waiting.insert(*ordinal, "the pod that empties its volume has to end first");
    }
    busy.first().copied().unwrap_or(seen.wanted)
}

fn volumes(seen: &Observation, decision: &mut Decision) {
    let used = seen.current.unwrap_or_default().max(decision.replicas);
    for (&ordinal, &marked) in &seen.claims {
        let is_used = ordinal < used || seen.pods.contains_key(&ordinal);
        if is_used {
            let leaving = ordinal >= seen.wanted;
            if marked && !leaving {
                decision.unmark.insert(ordinal);
            }
            continue;
        }
        match seen.drain_pods.get(&ordinal) {
            None if !marked && ordinal >= seen.wanted => drop(decision.make.insert(ordinal)),
            Some(DrainPod::Succeeded) if !marked => drop(decision.mark.insert(ordinal)),
            _ => {}
        }
    }
    for (&ordinal, pod) in &seen.drain_pods {
        let marked = seen.claims.get(&ordinal).copied();
        let done = *pod == DrainPod::Succeeded && marked != Some(false);
        let pointless = marked.is_none() || ordinal < seen.wanted;
        if *pod != DrainPod::Ending && (done || pointless || *pod == DrainPod::Failed) {
            decision.remove.insert(ordinal);
        }
    }
}
