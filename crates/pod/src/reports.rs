//! How the objects stand at this pod, kept for the operator: revisions, differences, and a wait for the next change.

mod routes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use zen_compile::Verdict;
use zen_identity::control::{
    Breaker, LastVerified, MAX_WAIT, ObjectRef, ObjectReport, Plane, Problem, Report, ReportQuery,
};
use zen_model::ObjectKey;

/// Objects that went and are remembered for who has not heard of it yet. One who asks after more have gone gets everything.
const GONE: usize = 10_000;

/// The reports of one process. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Reports {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instance: String,
    plane: Plane,
    epoch: String,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    ended: CancellationToken,
}

/// One object's name, as verdicts have it.
type Key = (&'static str, ObjectKey);

#[derive(Debug, Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Entry>,
    gone: BTreeMap<Key, u64>,
    /// Who has an older revision cannot be told what went since.
    floor: u64,
}

#[derive(Debug)]
struct Entry {
    revision: u64,
    of: Item,
}

/// What is to be said about one object now.
#[derive(Clone, Debug)]
pub struct Item {
    /// What the compiler said.
    pub verdict: Verdict,
    /// Webhook: which secret verified last.
    pub last_verified: Option<LastVerified>,
    /// Destination: its breaker.
    pub breaker: Option<Breaker>,
}

impl Reports {
    /// Nothing to report yet. What waits for a change is answered when `ended` is cancelled.
    pub fn new(instance: impl Into<String>, plane: Plane, ended: CancellationToken) -> Self {
        let inner = Inner {
            instance: instance.into(),
            plane,
            epoch: uuid::Uuid::new_v4().simple().to_string(),
            state: Mutex::default(),
            revision: watch::Sender::new(0),
            ended,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes what is to be said about every object; one that is not among them is gone.
    pub fn replace(&self, items: impl IntoIterator<Item = Item>) {
        let mut state = self.state();
        let next = state.revision + 1;
        let mut before = std::mem::take(&mut state.objects);
        let mut changed = state.revision == 0;
        for of in items {
            let key = (of.verdict.kind, of.verdict.key.clone());
            let entry = match before.remove(&key) {
                Some(entry) if entry.of.is_as(&of) => entry,
                _ => {
                    changed = true;
                    state.gone.remove(&key);
                    Entry { revision: next, of }
                }
            };
            state.objects.insert(key, entry);
        }
        changed |= !before.is_empty();
        state.gone.extend(before.into_keys().map(|key| (key, next)));
        if state.gone.len() > GONE {
            state.floor = next;
            state.gone.clear();
        }
        if changed {
            state.revision = next;
            drop(state);
            self.inner.revision.send_replace(next);
        }
    }

    /// What changed after the revision that the query names; waits as long as it allows while there is nothing.
    pub async fn after(&self, query: &ReportQuery) -> Report {
        let deadline = Instant::now() + Duration::from_secs(query.wait.min(MAX_WAIT));
        let mut revision = self.inner.revision.subscribe();
        loop {
            let seen = *revision.borrow_and_update();
            let report = self.report(query);
            // Before the first configuration there is nothing to say, not even that there is nothing.
            if seen > 0 && (report.complete || report.revision > query.after) {
                return report;
            }
            tokio::select! {
                changed = timeout_at(deadline, revision.changed()) => if changed.is_err() { return report },
                () = self.inner.ended.cancelled() => return report,
            }
        }
    }

    fn report(&self, query: &ReportQuery) -> Report {
        let state = self.state();
        let Inner { instance, plane, epoch, .. } = &*self.inner;
        let same = query.epoch.as_ref().is_none_or(|asked| asked == epoch);
        let known = query.after > 0 && same && query.after <= state.revision && query.after >= state.floor;
        let after = if known { query.after } else { 0 };
        let objects = state.objects.values().filter(|entry| entry.revision > after);
        let gone = state.gone.iter().filter(|(_, revision)| known && **revision > after);
        Report {
            instance: instance.clone(),
            plane: *plane,
            epoch: epoch.clone(),
            revision: state.revision,
            complete: !known && state.revision > 0,
            objects: objects.map(|entry| entry.of.report()).collect(),
            gone: gone.map(|(key, _)| object(key.0, &key.1)).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    /// Whether the operator would hear nothing new.
    fn is_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.verdict, &other.verdict);
        a.serving == b.serving
            && a.observed_generation == b.observed_generation
            && a.uid == b.uid
            && (Arc::ptr_eq(&a.problems, &b.problems) || a.problems == b.problems)
            && self.last_verified == other.last_verified
            && self.breaker == other.breaker
    }

    fn report(&self) -> ObjectReport {
        let Verdict { kind, key, serving, uid, observed_generation, problems } = &self.verdict;
        let problem = |problem: &zen_compile::Problem| Problem {
            field: problem.field.clone(),
            reason: problem.reason.code().to_owned(),
            message: problem.message.clone(),
            warning: problem.reason.is_warning(),
        };
        ObjectReport {
            object: object(kind, key),
            uid: uid.as_deref().map(str::to_owned),
            observed_generation: *observed_generation,
            serving: *serving,
            problems: problems.iter().map(problem).collect(),
            last_verified: self.last_verified.clone(),
            breaker: self.breaker.clone(),
        }
    }
}

fn object(kind: &str, key: &ObjectKey) -> ObjectRef {
    ObjectRef { kind: kind.to_owned(), namespace: key.namespace.to_string(), name: key.name.to_string() }
}

#[cfg(test)]
mod tests;
