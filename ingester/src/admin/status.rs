//! Puts the status together: configuration, verdicts, what intake saw, queue, feed. Read from where each is kept, nothing
//! is counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use zen_compile::{Serving, Target, Verdict, Webhook};
use zen_model::breaker::State;
use zen_model::{Namespace, ObjectKey};
use zen_queue::Health;

use super::Parts;
use super::types::{
    DestinationStatus, LastVerified, ObjectProblems, Problem, QueueStatus, SessionStatus, Status, WebhookCounts,
    WebhookStatus,
};
use crate::Ingester;

pub(super) fn status(ingester: &Ingester, parts: &Parts, namespace: Option<&Namespace>) -> Status {
    let core = &ingester.core;
    let snapshot = core.snapshot.load_full();
    let verdicts = parts.verdicts.load_full();
    let stats = core.queue.stats();
    let is_asked = |key: &ObjectKey| namespace.is_none_or(|namespace| key.namespace == *namespace);
    let verdicts = || verdicts.iter().filter(|verdict| is_asked(&verdict.key));
    let of = |kind: &str| -> BTreeMap<ObjectKey, &Verdict> {
        verdicts().filter(|verdict| verdict.kind == kind).map(|verdict| (verdict.key.clone(), verdict)).collect()
    };

    let judged = of("Webhook");
    let keys: BTreeSet<_> =
        judged.keys().chain(snapshot.webhooks.keys().filter(|key| is_asked(key))).cloned().collect();
    let webhooks = keys
        .into_iter()
        .map(|key| {
            let verdict = judged.get(&key).copied();
            webhook(ingester, key.clone(), snapshot.webhooks.get(&key).map(AsRef::as_ref), verdict)
        })
        .collect();

    let judged = of("Destination");
    let board = ingester.board.destinations();
    let keys: BTreeSet<_> =
        judged.keys().chain(snapshot.destinations.keys().filter(|key| is_asked(key))).cloned().collect();
    let orphans = stats.destinations.iter().filter(|(key, _)| is_asked(key) && !keys.contains(*key));
    let orphans = orphans.map(|(key, stats)| (key.clone(), stats.bytes)).collect();
    let destinations = keys
        .into_iter()
        .map(|key| {
            let destination = snapshot.destinations.get(&key);
            let verdict = judged.get(&key).copied();
            let view = board.get(&key);
            let counts = stats.destinations.get(&key).cloned().unwrap_or_default();
            DestinationStatus {
                target: destination.map(|destination| target(&destination.target)).unwrap_or_default(),
                accepted: destination.is_some() && verdict.is_none_or(Verdict::accepted),
                problems: problems(verdict),
                paused: destination.is_some_and(|destination| destination.paused),
                breaker: view.map_or(State::Closed, |view| view.breaker).label().to_owned(),
                breaker_since: view.map(|view| view.since),
                gone: view.is_some_and(|view| view.gone),
                waiting: counts.waiting,
                leased: counts.leased,
                retrying: counts.retrying,
                dead: counts.dead,
                bytes: counts.bytes,
                oldest: counts.oldest,
                key,
            }
        })
        .collect();

    let others = verdicts()
        .filter(|verdict| !verdict.problems.is_empty() && verdict.kind != "Webhook" && verdict.kind != "Destination");
    let sessions = ingester.board.sessions();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: snapshot.generation,
        webhooks,
        destinations,
        problems: others
            .map(|verdict| ObjectProblems {
                kind: verdict.kind.to_string(),
                key: verdict.key.clone(),
                problems: problems(Some(verdict)),
            })
            .collect(),
        queue: QueueStatus {
            health: match &*core.queue.health().borrow() {
                Health::Ok => "ok".to_owned(),
                Health::Failing(fault) => fault.label().to_owned(),
            },
            durability: parts.durability.to_owned(),
            bytes: stats.bytes,
            disk_bytes: stats.disk_bytes,
            committed: stats.committed,
            duplicates: stats.duplicates,
            batches: stats.batches,
            claims: stats.claims,
            orphans,
        },
        sessions: sessions
            .iter()
            .map(|session| SessionStatus {
                peer: session.peer.clone(),
                instance: session.instance.clone(),
                since: session.since,
                leases: session.leases.load(Relaxed),
                bytes: session.bytes.load(Relaxed),
                draining: session.draining.load(Relaxed),
            })
            .collect(),
    }
}

fn webhook(ingester: &Ingester, key: ObjectKey, webhook: Option<&Webhook>, verdict: Option<&Verdict>) -> WebhookStatus {
    let seen = ingester.core.seen.known(&key);
    let last_verified = seen.as_ref().and_then(|seen| seen.last_verified()).and_then(|(index, at)| {
        let secret = webhook?.secret_labels.get(index)?.clone();
        Some(LastVerified { secret, at })
    });
    let counts = seen.map(|seen| WebhookCounts {
        accepted: seen.accepted.load(Relaxed),
        duplicates: seen.duplicates.load(Relaxed),
        refused: seen.refused.load(Relaxed),
        unrouted: seen.unrouted.load(Relaxed),
    });
    let served = webhook.is_some_and(|webhook| !matches!(webhook.serving, Serving::Invalid(_)));
    WebhookStatus {
        key,
        path: webhook.map(|webhook| webhook.path.clone()).unwrap_or_default(),
        hosts: webhook.map(|webhook| webhook.hosts.clone()).unwrap_or_default(),
        provider: webhook.map(|webhook| webhook.provider.to_owned()).unwrap_or_default(),
        accepted: served && verdict.is_none_or(Verdict::accepted),
        inactive: webhook.is_some_and(|webhook| matches!(webhook.serving, Serving::Inactive)),
        problems: problems(verdict),
        last_verified,
        counts: counts.unwrap_or_default(),
    }
}

fn problems(verdict: Option<&Verdict>) -> Vec<Problem> {
    let problems = verdict.map(|verdict| &verdict.problems[..]).unwrap_or_default();
    let view = |problem: &zen_compile::Problem| Problem {
        field: problem.field.clone(),
        reason: problem.reason.code().to_owned(),
        message: problem.message.clone(),
        warning: problem.reason.is_warning(),
    };
    problems.iter().map(view).collect()
}

/// As a URL, without anything that could be a credential: the query is left out.
fn target(target: &Target) -> String {
    let (tls, host, port, path) = match target {
        Target::Url { tls, host, port, path_and_query } | Target::Service { tls, host, port, path_and_query, .. } => {
            (tls, host, port, path_and_query)
        }
    };
    let path = path.split('?').next().unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("{}://{host}:{port}{path}", if *tls { "https" } else { "http" })
}
