//! One answer of several replicas' answers. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use zen_model::Namespace;
use zen_queue::DeadLetter;

use crate::admin::types::{DestinationStatus, LastVerified, Replay, ReplayState, Status, WebhookStatus};

/// Counts add up; an object is in effect when it is so everywhere; of breakers the worst is told. A namespace sees its own
/// objects and nothing of the queue, which all tenants share. None: no replica answered.
pub(super) fn statuses(all: Vec<Status>, namespace: Option<&Namespace>) -> Option<Status> {
    let mut all = all.into_iter();
    let mut merged = all.next()?;
    let mut webhooks: BTreeMap<_, _> =
        std::mem::take(&mut merged.webhooks).into_iter().map(|w| (w.key.clone(), w)).collect();
    let mut destinations: BTreeMap<_, _> =
        std::mem::take(&mut merged.destinations).into_iter().map(|d| (d.key.clone(), d)).collect();
    for status in all {
        merged.generation = merged.generation.max(status.generation);
        for webhook in status.webhooks {
            match webhooks.get_mut(&webhook.key) {
                Some(known) => add_webhook(known, webhook),
                None => drop(webhooks.insert(webhook.key.clone(), webhook)),
            }
        }
        for destination in status.destinations {
            match destinations.get_mut(&destination.key) {
                Some(known) => add_destination(known, destination),
                None => drop(destinations.insert(destination.key.clone(), destination)),
            }
        }
        for problems in status.problems {
            let known =
                |other: &&crate::admin::types::ObjectProblems| other.kind == problems.kind && other.key == problems.key;
            if !merged.problems.iter().any(|other| known(&other)) {
                merged.problems.push(problems);
            }
        }
        let (queue, other) = (&mut merged.queue, status.queue);
        if queue.health == "ok" {
            queue.health = other.health;
        }
        queue.bytes += other.bytes;
        queue.disk_bytes += other.disk_bytes;
        queue.committed += other.committed;
        queue.duplicates += other.duplicates;
        queue.batches += other.batches;
        queue.claims += other.claims;
        for (key, bytes) in other.orphans {
            *queue.orphans.entry(key).or_default() += bytes;
        }
        merged.sessions.extend(status.sessions);
    }
    merged.webhooks = webhooks.into_values().collect();
    merged.destinations = destinations.into_values().collect();
    if let Some(namespace) = namespace {
        merged.webhooks.retain(|webhook| webhook.key.namespace == *namespace);
        merged.destinations.retain(|destination| destination.key.namespace == *namespace);
        merged.problems.retain(|problems| problems.key.namespace == *namespace);
        merged.sessions.clear();
        let queue = &mut merged.queue;
        queue.orphans.retain(|key, _| key.namespace == *namespace);
        queue.bytes = merged.destinations.iter().map(|destination| destination.bytes).sum();
        (queue.disk_bytes, queue.committed, queue.duplicates, queue.batches, queue.claims) = (0, 0, 0, 0, 0);
    }
    Some(merged)
}

fn add_webhook(known: &mut WebhookStatus, other: WebhookStatus) {
    known.accepted &= other.accepted;
    if known.problems.is_empty() {
        known.problems = other.problems;
    }
    known.last_verified = later(known.last_verified.take(), other.last_verified);
    let (counts, more) = (&mut known.counts, other.counts);
    counts.accepted += more.accepted;
    counts.duplicates += more.duplicates;
    counts.refused += more.refused;
    counts.unrouted += more.unrouted;
}

fn later(one: Option<LastVerified>, other: Option<LastVerified>) -> Option<LastVerified> {
    [one, other].into_iter().flatten().max_by_key(|verified| verified.at)
}

fn add_destination(known: &mut DestinationStatus, other: DestinationStatus) {
    known.accepted &= other.accepted;
    if known.problems.is_empty() {
        known.problems = other.problems;
    }
    if known.target.is_empty() {
        known.target = other.target;
    }
    if severity(&other.breaker) > severity(&known.breaker) {
        known.breaker = other.breaker;
        known.breaker_since = other.breaker_since;
    }
    known.gone |= other.gone;
    known.waiting += other.waiting;
    known.leased += other.leased;
    known.retrying += other.retrying;
    known.dead += other.dead;
    known.bytes += other.bytes;
    known.oldest = [known.oldest, other.oldest].into_iter().flatten().min();
}

fn severity(breaker: &str) -> u8 {
    match breaker {
        "open" => 2,
        "closed" => 0,
        _ => 1,
    }
}

/// Oldest first, each once: while one replica hands over to another, and where that is taken back, both may have it, under
/// one id.
pub(super) fn dead_letters(all: Vec<Vec<DeadLetter>>, limit: usize) -> Vec<DeadLetter> {
    let mut letters: Vec<_> = all.into_iter().flatten().collect();
    letters.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
    let mut seen = HashSet::new();
    letters.retain(|letter| seen.insert(letter.id.clone()));
    letters.truncate(limit);
    letters
}

/// The shares of each replay as one: it runs while one share runs, and failed where one failed.
pub(super) fn replays(shares: Vec<Replay>) -> Vec<Replay> {
    let mut merged: Vec<Replay> = Vec::new();
    for share in shares {
        let Some(known) = merged.iter_mut().find(|known| known.id == share.id) else {
            merged.push(share);
            continue;
        };
        known.started = known.started.min(share.started);
        known.total += share.total;
        known.replayed += share.replayed;
        if rank(share.state) > rank(known.state) {
            known.state = share.state;
        }
        known.error = known.error.take().or(share.error);
    }
    merged.sort_by_key(|replay| Reverse(replay.started));
    merged
}

const fn rank(state: ReplayState) -> u8 {
    match state {
        ReplayState::Done => 0,
        ReplayState::Cancelled => 1,
        ReplayState::Failed => 2,
        ReplayState::Running => 3,
    }
}

#[cfg(test)]
mod tests {
    use zen_model::{ObjectKey, Timestamp};

    use super::*;
    use crate::admin::types::{QueueStatus, WebhookCounts};

    fn status(namespace: &str, accepted: u64, breaker: &str) -> Status {
        let key = ObjectKey::new(namespace, "x");
        Status {
            version: "1".to_owned(),
            generation: 1,
            webhooks: vec![WebhookStatus {
                key: key.clone(),
                path: String::new(),
                hosts: Vec::new(),
                provider: String::new(),
                accepted: true,
                inactive: false,
                problems: Vec::new(),
                last_verified: None,
                counts: WebhookCounts { accepted, ..WebhookCounts::default() },
            }],
            destinations: vec![DestinationStatus {
                key,
                target: String::new(),
                accepted: true,
                problems: Vec::new(),
                paused: false,
                breaker: breaker.to_owned(),
                breaker_since: None,
                gone: false,
                waiting: 1,
                leased: 0,
                retrying: 0,
                dead: 2,
                bytes: 10,
                oldest: Some(Timestamp(accepted)),
            }],
            problems: Vec::new(),
            queue: QueueStatus {
                health: "ok".to_owned(),
                durability: "fsynced".to_owned(),
                bytes: 100,
                disk_bytes: 1000,
                committed: accepted,
                duplicates: 0,
                batches: 0,
                claims: 0,
                orphans: BTreeMap::new(),
            },
            sessions: Vec::new(),
        }
    }

    #[test]
    fn counts_add_up_and_the_worst_breaker_is_told() {
        let merged = statuses(vec![status("a", 3, "closed"), status("a", 4, "open"), status("b", 9, "closed")], None);
        let merged = merged.expect("there");
        assert_eq!(merged.webhooks.len(), 2);
        assert_eq!(merged.webhooks[0].counts.accepted, 7);
        let destination = &merged.destinations[0];
        assert_eq!((destination.waiting, destination.dead, destination.breaker.as_str()), (2, 4, "open"));
        assert_eq!(destination.oldest, Some(Timestamp(3)));
        assert_eq!(merged.queue.committed, 16);
        assert!(statuses(Vec::new(), None).is_none());
    }

    #[test]
    fn a_namespace_sees_its_own() {
        let merged = statuses(vec![status("a", 3, "closed"), status("b", 9, "closed")], Some(&"a".into()));
        let merged = merged.expect("there");
        assert!(merged.webhooks.iter().all(|webhook| webhook.key.namespace.as_str() == "a"));
        assert_eq!((merged.queue.committed, merged.queue.bytes, merged.queue.disk_bytes), (0, 10, 0));
    }

    /// DESIGN 13: a handover that was cut off or taken back shows nothing twice, and hides nothing.
    #[test]
    fn a_dead_letter_that_two_replicas_have_is_one() {
        let letter = |id: &str, destination: &str, since| DeadLetter {
            id: id.to_owned(),
            event: "e".into(),
            webhook: ObjectKey::new("a", "hook"),
            destination: ObjectKey::new("a", destination),
            r#type: String::new(),
            reason: "Expired".to_owned(),
            attempts: 1,
            accepted: Timestamp(1),
            since: Timestamp(since),
            last_status: 0,
            last_error: None,
            bytes: 1,
            last_response: None,
        };
        let one = vec![letter("7-1", "ci", 10), letter("7-2", "audit", 11)];
        let other = vec![letter("7-1", "ci", 10), letter("9-1", "ci", 5)];
        let ids = |letters: Vec<DeadLetter>| letters.into_iter().map(|letter| letter.id).collect::<Vec<_>>();
        assert_eq!(ids(dead_letters(vec![one.clone(), other.clone()], 9)), ["9-1", "7-1", "7-2"]);
        assert_eq!(ids(dead_letters(vec![one, other], 2)), ["9-1", "7-1"]);
    }

    #[test]
    fn a_replay_runs_while_one_share_runs() {
        let share = |state, replayed| Replay {
            id: "r".to_owned(),
            namespace: None,
            started: Timestamp(1),
            total: 5,
            replayed,
            state,
            error: None,
        };
        let merged = replays(vec![share(ReplayState::Done, 5), share(ReplayState::Running, 2)]);
        assert_eq!((merged.len(), merged[0].total, merged[0].replayed), (1, 10, 7));
        assert_eq!(merged[0].state, ReplayState::Running);
    }
}
