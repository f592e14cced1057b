//! A batch: what many objects use, for one of the mesh's own planes.
//!
//! One token is reviewed, each object and each ZenLock is read once, and each use is judged and audited by itself. A key that
//! does not open is no reason to withhold the others: the object that names it is told, as without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use serde_json::Value;
use tokio::time::Instant;
use zen_crds::{SubjectKind, ZenLock};
use zen_identity::Component;
use zen_identity::server::request_id;
use zen_lock::Keyring;
use zen_model::reason::LockRefusal;

use super::answer::{self, Opened};
use super::judge;
use super::service::{No, Shared, TURN, Who, refused};
use super::wire::{Batch, MAX_BATCH, MAX_BATCH_BODY, MAX_BATCH_LOCKS, Subject, Use, Verdict};
use crate::audit::{Action, Entry};

/// Objects and ZenLocks that are read at one time, for one batch.
const LOOKS: usize = 8;

/// Namespace and name.
type Key<'a> = (&'a str, &'a str);

/// What each use gets, in order.
struct Judged {
    locks: Vec<Opened>,
    verdicts: Vec<Option<No>>,
}

/// `POST /v1/unseal/batch`.
pub(super) async fn unseal(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (began, request_id) = (Instant::now(), request_id());
    let (head, body) = request.into_parts();
    let mut who = None;
    let answered = shared.answer(&head, body, &mut who, &request_id).await;
    if let Err(no) = &answered {
        // A refusal stands whether or not it can be recorded.
        let entry = Entry {
            action: Action::AccessSecret,
            who: who.unwrap_or_else(|| "unknown".to_owned()),
            object: "ZenLock//".to_owned(),
            allowed: false,
            reason: no.0.code(),
            correlation: request_id.clone(),
            details: Vec::new(),
        };
        let _ = shared.parts.audit.record(entry).await;
    }
    shared.parts.metrics.unsealed(answered.as_ref().err().map(|no| no.0), began.elapsed());
    match answered {
        Ok(body) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response(),
        Err(no) => refused(&no, &request_id),
    }
}

/// Whether it may be asked for at one time.
fn fits(batch: &Batch) -> bool {
    let locks: BTreeSet<_> = batch.uses.iter().map(key).collect();
    !batch.uses.is_empty() && batch.uses.len() <= MAX_BATCH && locks.len() <= MAX_BATCH_LOCKS
}

fn key(used: &Use) -> Key<'_> {
    (&used.subject.namespace, &used.lock)
}

impl Shared {
    async fn answer(&self, head: &Parts, body: Body, who: &mut Option<String>, request_id: &str) -> Result<Body, No> {
        let asks = self.who(&head.headers, &head.extensions).await?;
        let audited = who.insert(asks.audited());
        // Pods ask for themselves.
        let Who::Plane(component, _) = asks else { return Err(LockRefusal::SubjectNotPermitted.into()) };
        let body = tokio::time::timeout(TURN, to_bytes(body, MAX_BATCH_BODY)).await;
        let body = body.map_err(|_| LockRefusal::BadRequest)?.map_err(|_| LockRefusal::RequestTooLarge)?;
        let batch: Batch = serde_json::from_slice(&body).map_err(|_| LockRefusal::BadRequest)?;
        if !fits(&batch) {
            return Err(LockRefusal::BadRequest.into());
        }
        let judged = self.judge_batch(component, &batch).await;
        self.record_batch(audited, &batch, &judged, request_id).await?;
        let said = |no: &No| Verdict { code: no.0.code().to_owned(), message: no.message() };
        let verdicts: Vec<_> = judged.verdicts.iter().map(|no| no.as_ref().map(said)).collect();
        answer::batch(&judged.locks, &verdicts).map_err(|_| LockRefusal::BadRequest.into())
    }

    /// Judges each use as everything is now, and opens what one of them may have.
    async fn judge_batch(&self, component: Component, batch: &Batch) -> Judged {
        // A plane that may not ask for an object makes nobody read it.
        let kinds: Vec<_> = batch.uses.iter().map(|used| judge::on_behalf(component, &used.subject)).collect();
        let permitted = batch.uses.iter().zip(&kinds).filter(|(_, kind)| kind.is_ok()).map(|(used, _)| used);
        let (objects, locks) = tokio::join!(self.objects(permitted.clone()), self.locks(permitted));
        let mut verdicts = Vec::with_capacity(batch.uses.len());
        let mut granted: BTreeMap<Key<'_>, Arc<ZenLock>> = BTreeMap::new();
        for (used, kind) in batch.uses.iter().zip(kinds) {
            let judged = kind.map_err(No::from).and_then(|kind| {
                let lock = judge_one(used, kind, objects.get(&subject(&used.subject)), locks.get(&key(used)))?;
                // Without any key there is nothing to open with, which is said before what is in it.
                if self.parts.locks.keys().each.is_empty() {
                    Err(about(used, LockRefusal::KeysUnavailable))
                } else {
                    Ok(lock)
                }
            });
            match judged {
                Ok(lock) => {
                    granted.insert(key(used), lock);
                    verdicts.push(None);
                }
                Err(no) => verdicts.push(Some(no)),
            }
        }
        let keys = self.parts.locks.keys();
        let granted: Vec<_> = granted.into_values().collect();
        let opening = tokio::task::spawn_blocking(move || granted.iter().map(|lock| open(lock, &keys.ring)).collect());
        match opening.await {
            Ok(locks) => Judged { locks, verdicts },
            Err(error) => {
                tracing::error!(%error, "failed to open ZenLocks");
                let failed = |used| Some(about(used, LockRefusal::NotDecryptable));
                let verdicts = batch.uses.iter().zip(verdicts).map(|(used, no)| no.or_else(|| failed(used)));
                Judged { locks: Vec::new(), verdicts: verdicts.collect() }
            }
        }
    }

    async fn objects<'a>(
        &self,
        uses: impl Iterator<Item = &'a Use>,
    ) -> BTreeMap<(&'a str, &'a str, &'a str), Result<Value, No>> {
        let subjects: BTreeMap<_, _> = uses.map(|used| (subject(&used.subject), &used.subject)).collect();
        let mut looks = Vec::with_capacity(subjects.len());
        for (key, subject) in subjects {
            let kind = if subject.kind == "Webhook" { SubjectKind::Webhook } else { SubjectKind::Destination };
            looks.push(async move { (key, self.subject(kind, subject).await) }.boxed());
        }
        stream::iter(looks).buffer_unordered(LOOKS).collect().await
    }

    async fn locks<'a>(
        &self,
        uses: impl Iterator<Item = &'a Use>,
    ) -> BTreeMap<Key<'a>, Result<Option<Arc<ZenLock>>, LockRefusal>> {
        let keys: BTreeSet<_> = uses.map(key).collect();
        let mut looks = Vec::with_capacity(keys.len());
        for key in keys {
            let look = async move {
                let object = self.parts.locks.object(key.0, key.1).await;
                (key, object.map_err(|_| LockRefusal::ApiUnavailable))
            };
            looks.push(look.boxed());
        }
        stream::iter(looks).buffer_unordered(LOOKS).collect().await
    }

    /// One entry for each use. What cannot be recorded is not given, where the audit is strict.
    async fn record_batch(
        &self,
        who: &str,
        batch: &Batch,
        judged: &Judged,
        request_id: &str,
    ) -> Result<(), LockRefusal> {
        let entries = batch.uses.iter().zip(&judged.verdicts).map(|(used, no)| {
            let (subject, lock) =
                (&used.subject, judged.locks.iter().find(|lock| lock.is(&used.subject.namespace, &used.lock)));
            let mut details = vec![("subject", format!("{}/{}/{}", subject.kind, subject.namespace, subject.name))];
            let failed = lock.filter(|lock| no.is_none() && !lock.failed.is_empty());
            details.extend(failed.map(|lock| ("failed", lock.failed.keys().cloned().collect::<Vec<_>>().join(","))));
            let entry = Entry {
                action: Action::AccessSecret,
                who: who.to_owned(),
                object: format!("ZenLock/{}/{}", subject.namespace, used.lock),
                allowed: no.is_none(),
                reason: no.as_ref().map_or("", |no| no.0.code()),
                correlation: request_id.to_owned(),
                details,
            };
            let given = no.is_none();
            async move { self.parts.audit.record(entry).await.is_ok() || !given }
        });
        // Together: they are written in groups.
        let recorded = join_all(entries).await;
        if recorded.into_iter().all(|recorded| recorded) { Ok(()) } else { Err(LockRefusal::AuditUnavailable) }
    }
}

fn subject(subject: &Subject) -> (&str, &str, &str) {
    (&subject.kind, &subject.namespace, &subject.name)
}

fn about(used: &Use, reason: LockRefusal) -> No {
    No(reason, format!("ZenLock {}/{}", used.subject.namespace, used.lock))
}

/// The checks of a single request, in the same order.
fn judge_one(
    used: &Use,
    kind: SubjectKind,
    object: Option<&Result<Value, No>>,
    lock: Option<&Result<Option<Arc<ZenLock>>, LockRefusal>>,
) -> Result<Arc<ZenLock>, No> {
    let object = object.ok_or_else(|| about(used, LockRefusal::ApiUnavailable))?.as_ref().map_err(Clone::clone)?;
    if !judge::names(object, &used.lock) {
        let Subject { kind, namespace, name } = &used.subject;
        let what = format!("{kind} {namespace}/{name} does not name ZenLock {}", used.lock);
        return Err(No(LockRefusal::SubjectNotPermitted, what));
    }
    let lock = lock.ok_or_else(|| about(used, LockRefusal::ApiUnavailable))?;
    let lock = lock.as_ref().map_err(|reason| about(used, *reason))?;
    let lock = lock.as_ref().ok_or_else(|| about(used, LockRefusal::ZenLockNotFound))?;
    judge::allowed(lock, kind, &used.subject.name).map_err(|reason| about(used, reason))?;
    Ok(Arc::clone(lock))
}

/// Every key of it, open or with the reason why not.
fn open(object: &ZenLock, ring: &Keyring) -> Opened {
    let (mut data, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for (key, file) in object.spec.encrypted_data.iter().take(zen_lock::MAX_KEYS) {
        match ring.open(file) {
            Ok(opened) => drop(data.insert(key.clone(), opened.plaintext)),
            Err(error) => drop(failed.insert(key.clone(), error.reason().code())),
        }
    }
    Opened { failed, ..Opened::of(object, data) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(kind: &str, name: &str, lock: &str) -> Use {
        let subject = Subject { kind: kind.to_owned(), namespace: "team-a".to_owned(), name: name.to_owned() };
        Use { subject, lock: lock.to_owned() }
    }

    /// Z-03: one row for each check.
    #[test]
    fn each_use_is_judged_by_itself() {
        let names = |lock: &str| {
            Ok(json!({"spec": {"verification": {"secrets": [{"zenLockRef": {"name": lock, "key": "k"}}]}}}))
        };
        let lock = |kind: &str, name: &str| {
            let spec = json!({"encryptedData": {}, "allowedSubjects": [{"kind": kind, "name": name}]});
            let lock: ZenLock =
                serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).expect("a ZenLock");
            Ok(Some(Arc::new(lock)))
        };
        let good = lock("Webhook", "github");
        let gone = No(LockRefusal::SubjectNotPermitted, "Webhook team-a/github".to_owned());
        for (object, lock, expected) in [
            (Some(names("db")), Some(good.clone()), None),
            (Some(names("other")), Some(good.clone()), Some(LockRefusal::SubjectNotPermitted)),
            (Some(Err(gone)), Some(good.clone()), Some(LockRefusal::SubjectNotPermitted)),
            (None, Some(good), Some(LockRefusal::ApiUnavailable)),
            (Some(names("db")), None, Some(LockRefusal::ApiUnavailable)),
            (Some(names("db")), Some(Err(LockRefusal::ApiUnavailable)), Some(LockRefusal::ApiUnavailable)),
            (Some(names("db")), Some(Ok(None)), Some(LockRefusal::ZenLockNotFound)),
            (Some(names("db")), Some(lock("Destination", "github")), Some(LockRefusal::SubjectNotAllowed)),
            (Some(names("db")), Some(lock("Webhook", "other")), Some(LockRefusal::SubjectNotAllowed)),
        ] {
            let judged =
                judge_one(&used("Webhook", "github", "db"), SubjectKind::Webhook, object.as_ref(), lock.as_ref());
            assert_eq!(judged.err().map(|no| no.0), expected, "{object:?}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_batch() {
        let batch = |uses: usize, locks: usize| {
            let uses = (0..uses).map(|one| used("Webhook", &one.to_string(), &(one % locks).to_string()));
            fits(&Batch { uses: uses.collect() })
        };
        assert!(batch(1, 1) && batch(MAX_BATCH, MAX_BATCH_LOCKS));
        assert!(!batch(0, 1) && !batch(MAX_BATCH + 1, 1) && !batch(MAX_BATCH, MAX_BATCH_LOCKS + 1));
    }
}
