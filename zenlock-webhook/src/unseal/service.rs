//! `POST /v1/unseal`, `POST /v1/unseal/batch` ([`batch`]), `GET /v1/unseal/watch`, `GET /v1/recipients`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{Extensions, HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zen_crds::{Destination, SubjectKind, Webhook, ZenLock};
use zen_identity::policy::Action as Permission;
use zen_identity::server::request_id;
use zen_identity::{Component, Mesh};
use zen_model::reason::LockRefusal;
use zen_pki::SpiffeId;
use zen_pod::caller::{self, Caller};

use super::answer::{self, Opened};
use super::batch;
use super::judge;
use super::limit::Limits;
use super::wire::{
    BATCH, Changed, LockRef, MAX_BODY, MAX_LOCKS, MAX_WAIT, Poll, RECIPIENTS, Refusal, Request as Asked, Subject,
    UNSEAL, WATCH,
};
use crate::AUDIENCE;
use crate::audit::{Action, Audit, Entry};
use crate::locks::Locks;
use crate::metrics::Metrics;
use crate::versions::Versions;

/// Tokens that are reviewed at one time: whoever sends rubbish must not keep the API server busy.
const REVIEWS: usize = 32;
/// How long a request waits for its turn, and its body may take.
pub(super) const TURN: Duration = Duration::from_secs(5);
/// Polls that wait at one time; another is answered at once.
const POLLS: usize = 2048;

/// What the API is made of.
#[derive(Clone)]
pub struct Parts {
    /// For token reviews and pods.
    pub client: Client,
    /// ZenLocks and keys.
    pub locks: Arc<Locks>,
    /// What wakes those who wait.
    pub versions: Versions,
    /// Where every access is recorded.
    pub audit: Audit,
    /// Who the planes are.
    pub mesh: Mesh,
    /// What is counted.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) parts: Parts,
    reviews: Semaphore,
    polls: Semaphore,
    limits: Limits,
}

/// The API without its transport. A peer that presented a workload certificate of the mesh has its [`SpiffeId`] in the
/// request's extensions.
pub fn router(parts: Parts) -> Router {
    let (reviews, polls) = (Semaphore::new(REVIEWS), Semaphore::new(POLLS));
    let shared = Arc::new(Shared { parts, reviews, polls, limits: Limits::default() });
    Router::new()
        .route(UNSEAL, post(unseal))
        .route(BATCH, post(batch::unseal))
        .route(WATCH, get(watch))
        .route(RECIPIENTS, get(recipients))
        .with_state(shared)
}

/// A refusal as it is answered.
pub(crate) fn refusal(reason: LockRefusal, what: &str, request_id: &str) -> Response {
    refused(&No(reason, what.to_owned()), request_id)
}

/// As [`refusal`].
pub(super) fn refused(no: &No, request_id: &str) -> Response {
    let reason = no.0;
    let body = Refusal { code: reason.code().to_owned(), message: no.message(), request_id: request_id.to_owned() };
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    if let Some(seconds) = reason.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Who asks, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Who {
    Pod(Caller),
    Plane(Component, SpiffeId),
}

impl Who {
    pub(super) fn audited(&self) -> String {
        match self {
            Self::Pod(caller) => caller.who(),
            Self::Plane(_, id) => id.to_string(),
        }
    }
}

/// A refusal, and about which ZenLock.
#[derive(Clone, Debug)]
pub(super) struct No(pub(super) LockRefusal, pub(super) String);

impl No {
    /// For people.
    pub(super) fn message(&self) -> String {
        let meaning = self.0.row().meaning;
        if self.1.is_empty() { meaning.to_owned() } else { format!("{}: {meaning}", self.1) }
    }
}

impl From<LockRefusal> for No {
    fn from(reason: LockRefusal) -> Self {
        Self(reason, String::new())
    }
}

/// What becomes known of a request while it is judged.
#[derive(Default)]
struct Line {
    who: Option<String>,
    asked: Vec<String>,
    subject: Option<String>,
}

async fn recipients(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.parts.locks.keys().published();
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn unseal(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (began, request_id) = (Instant::now(), request_id());
    let (head, body) = request.into_parts();
    let mut line = Line::default();
    let judged = shared.judge(&head.headers, &head.extensions, body, &mut line).await;
    let judged = match judged {
        Ok(opened) => match shared.record(&line, None, &request_id).await {
            Ok(()) => answer::body(&opened).map_err(|_| No::from(LockRefusal::BadRequest)),
            Err(reason) => Err(No::from(reason)),
        },
        // A refusal stands whether or not it can be recorded.
        Err(no) => {
            let _ = shared.record(&line, Some(no.0), &request_id).await;
            Err(no)
        }
    };
    shared.parts.metrics.unsealed(judged.as_ref().err().map(|no| no.0), began.elapsed());
    match judged {
        Ok(body) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response(),
        Err(no) => refused(&no, &request_id),
    }
}

async fn watch(State(shared): State<Arc<Shared>>, Query(poll): Query<Poll>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    match shared.poll(&head.headers, &poll).await {
        Ok(changed) => Json(Changed { changed }).into_response(),
        Err(reason) => refusal(reason, "", &request_id()),
    }
}

impl Shared {
    async fn judge(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        body: Body,
        line: &mut Line,
    ) -> Result<Vec<Opened>, No> {
        let who = self.who(headers, extensions).await?;
        line.who = Some(who.audited());
        let limited = match &who {
            Who::Pod(caller) => &caller.pod_uid,
            Who::Plane(..) => "",
        };
        if !limited.is_empty() && !self.limits.take(limited) {
            return Err(LockRefusal::RateLimited.into());
        }
        let body = tokio::time::timeout(TURN, to_bytes(body, MAX_BODY)).await.map_err(|_| LockRefusal::BadRequest)?;
        let body = body.map_err(|_| LockRefusal::RequestTooLarge)?;
        let asked: Asked = serde_json::from_slice(&body).map_err(|_| LockRefusal::BadRequest)?;
        if asked.locks.is_empty() || asked.locks.len() > MAX_LOCKS {
            return Err(LockRefusal::BadRequest.into());
        }
        match who {
            Who::Pod(caller) => self.for_pod(&caller, &asked, line).await,
            Who::Plane(component, _) => self.for_plane(component, &asked, line).await,
        }
    }

    /// A workload certificate tells a plane, a token a pod. A plane may use its pod's token as well.
    pub(super) async fn who(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Who, LockRefusal> {
        if let Some(peer) = extensions.get::<SpiffeId>() {
            let component = self.parts.mesh.check(peer, Permission::Unseal);
            return component
                .map(|component| Who::Plane(component, peer.clone()))
                .map_err(|_| LockRefusal::SubjectNotPermitted);
        }
        let caller = self.caller(headers).await?;
        let mesh = &self.parts.mesh;
        let plane = Permission::Unseal
            .permitted()
            .iter()
            .copied()
            .find(|component| caller.namespace == mesh.namespace() && caller.account == component.account());
        let Some(component) = plane else { return Ok(Who::Pod(caller)) };
        // The token may have outlived its pod.
        let pod = self.pod(&caller).await?;
        match judge::admitted(&caller, pod.as_ref()) {
            Ok(_) | Err(LockRefusal::NotAdmitted) => Ok(Who::Plane(component, mesh.id(component).clone())),
            Err(reason) => Err(reason),
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, LockRefusal> {
        let token = bearer(headers).ok_or(LockRefusal::TokenMissing)?;
        let turn = tokio::time::timeout(TURN, self.reviews.acquire()).await.map_err(|_| LockRefusal::RateLimited)?;
        let caller = caller::review(&self.parts.client, AUDIENCE, token).await?;
        drop(turn);
        Ok(caller)
    }

    /// The pod as it is now.
    async fn pod(&self, caller: &Caller) -> Result<Option<Pod>, LockRefusal> {
        let api: Api<Pod> = Api::namespaced(self.parts.client.clone(), &caller.namespace);
        api.get_opt(&caller.pod).await.map_err(|error| {
            tracing::warn!(%error, namespace = caller.namespace, pod = caller.pod, "failed to read a pod");
            LockRefusal::ApiUnavailable
        })
    }

    async fn for_pod(&self, caller: &Caller, asked: &Asked, line: &mut Line) -> Result<Vec<Opened>, No> {
        let names = asked.locks.iter().map(|lock| match lock {
            LockRef::Own(name) => Ok(name),
            LockRef::Full { namespace, name } if *namespace == caller.namespace => Ok(name),
            LockRef::Full { namespace, name } => Err((namespace, name)),
        });
        let names: Vec<&String> = match names.collect() {
            Ok(names) => names,
            Err((namespace, name)) => {
                line.asked = vec![format!("ZenLock/{namespace}/{name}")];
                return Err(No(LockRefusal::NotAdmitted, "a ZenLock of another namespace".to_owned()));
            }
        };
        line.asked = names.iter().map(|name| format!("ZenLock/{}/{name}", caller.namespace)).collect();
        if asked.subject.is_some() {
            return Err(LockRefusal::SubjectNotPermitted.into());
        }
        let admitted = judge::admitted(caller, self.pod(caller).await?.as_ref())?;
        if let Some(other) = names.iter().find(|name| !admitted.contains(name)) {
            return Err(No(LockRefusal::NotAdmitted, format!("ZenLock {other}")));
        }
        let mut opened = Vec::with_capacity(names.len());
        for name in names {
            opened.push(self.open(&caller.namespace, name, SubjectKind::ServiceAccount, &caller.account).await?);
        }
        Ok(opened)
    }

    async fn for_plane(&self, component: Component, asked: &Asked, line: &mut Line) -> Result<Vec<Opened>, No> {
        let subject = asked.subject.as_ref().ok_or(LockRefusal::SubjectNotPermitted)?;
        line.subject = Some(format!("{}/{}/{}", subject.kind, subject.namespace, subject.name));
        let locks = asked.locks.iter().map(|lock| match lock {
            LockRef::Own(name) => (&subject.namespace, name),
            LockRef::Full { namespace, name } => (namespace, name),
        });
        let locks: Vec<_> = locks.collect();
        line.asked = locks.iter().map(|(namespace, name)| format!("ZenLock/{namespace}/{name}")).collect();
        let kind = judge::on_behalf(component, subject)?;
        if locks.iter().any(|(namespace, _)| **namespace != subject.namespace) {
            return Err(No(LockRefusal::SubjectNotPermitted, "a ZenLock of another namespace".to_owned()));
        }
        let object = self.subject(kind, subject).await?;
        if let Some((_, name)) = locks.iter().find(|(_, name)| !judge::names(&object, name)) {
            let what = format!("{} {}/{} does not name ZenLock {name}", subject.kind, subject.namespace, subject.name);
            return Err(No(LockRefusal::SubjectNotPermitted, what));
        }
        let mut opened = Vec::with_capacity(locks.len());
        for (namespace, name) in locks {
            opened.push(self.open(namespace, name, kind, &subject.name).await?);
        }
        Ok(opened)
    }

    /// The object on whose behalf a plane asks, as it is now: a plane gets what objects use, and nothing else.
    pub(super) async fn subject(&self, kind: SubjectKind, subject: &Subject) -> Result<Value, No> {
        let client = self.parts.client.clone();
        let found = match kind {
            SubjectKind::Webhook => spec(Api::<Webhook>::namespaced(client, &subject.namespace), &subject.name).await,
            SubjectKind::Destination => {
                spec(Api::<Destination>::namespaced(client, &subject.namespace), &subject.name).await
            }
            SubjectKind::ServiceAccount => return Err(LockRefusal::SubjectNotPermitted.into()),
        };
        let about = |reason| No(reason, format!("{} {}/{}", subject.kind, subject.namespace, subject.name));
        let found = found.map_err(|error| {
            tracing::warn!(%error, kind = subject.kind, name = subject.name, "failed to read a subject");
            about(LockRefusal::ApiUnavailable)
        })?;
        found.ok_or_else(|| about(LockRefusal::SubjectNotPermitted))
    }

    async fn open(&self, namespace: &str, name: &str, kind: SubjectKind, subject: &str) -> Result<Opened, No> {
        let about = |reason| No(reason, format!("ZenLock {namespace}/{name}"));
        let locks = &self.parts.locks;
        let object = locks.object(namespace, name).await.map_err(|_| about(LockRefusal::ApiUnavailable))?;
        let object = object.ok_or_else(|| about(LockRefusal::ZenLockNotFound))?;
        judge::allowed(&object, kind, subject).map_err(about)?;
        let keys = locks.keys();
        if keys.each.is_empty() {
            return Err(about(LockRefusal::KeysUnavailable));
        }
        let opened = tokio::task::spawn_blocking(move || open(&object, &keys.ring)).await;
        let opened = opened.map_err(|error| {
            tracing::error!(%error, namespace, name, "failed to open a ZenLock");
            about(LockRefusal::NotDecryptable)
        })?;
        opened.map_err(|(key, code)| {
            No(LockRefusal::NotDecryptable, format!("ZenLock {namespace}/{name}, key {key} ({code})"))
        })
    }

    async fn poll(&self, headers: &HeaderMap, poll: &Poll) -> Result<Vec<String>, LockRefusal> {
        let had: Option<Vec<(String, String)>> = poll
            .have
            .split(',')
            .map(|one| one.split_once('=').map(|(name, version)| (name.to_owned(), version.to_owned())))
            .collect();
        let had = had.filter(|had| had.len() <= MAX_LOCKS).ok_or(LockRefusal::BadRequest)?;
        let caller = self.caller(headers).await?;
        if !self.limits.take(&caller.pod_uid) {
            return Err(LockRefusal::RateLimited);
        }
        let pod = self.pod(&caller).await?;
        let admitted = judge::admitted(&caller, pod.as_ref())?;
        if !pod.as_ref().is_some_and(judge::follows) || had.iter().any(|(name, _)| !admitted.contains(name)) {
            return Err(LockRefusal::NotAdmitted);
        }
        let place = self.polls.try_acquire();
        let wait = if place.is_ok() { Duration::from_secs(poll.wait.min(MAX_WAIT)) } else { Duration::ZERO };
        Ok(self.parts.versions.newer(&caller.namespace, &had, wait).await)
    }

    /// One entry for each ZenLock that was asked for, or one where it did not come to that.
    async fn record(&self, line: &Line, refused: Option<LockRefusal>, request_id: &str) -> Result<(), LockRefusal> {
        let unknown = ["ZenLock//".to_owned()];
        let objects = if line.asked.is_empty() { &unknown[..] } else { &line.asked };
        for object in objects {
            let entry = Entry {
                action: Action::AccessSecret,
                who: line.who.clone().unwrap_or_else(|| "unknown".to_owned()),
                object: object.clone(),
                allowed: refused.is_none(),
                reason: refused.map_or("", LockRefusal::code),
                correlation: request_id.to_owned(),
                details: line.subject.iter().map(|subject| ("subject", subject.clone())).collect(),
            };
            self.parts.audit.record(entry).await.map_err(|_| LockRefusal::AuditUnavailable)?;
        }
        Ok(())
    }
}

/// An object as JSON; none where it does not exist.
async fn spec<K>(api: Api<K>, name: &str) -> Result<Option<Value>, kube::Error>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let found = api.get_opt(name).await?;
    found.map(|object| serde_json::to_value(object).map_err(kube::Error::SerdeError)).transpose()
}

/// All keys of a ZenLock, or the first that cannot be opened and why.
fn open(object: &ZenLock, ring: &zen_lock::Keyring) -> Result<Opened, (String, &'static str)> {
    let mut data = BTreeMap::new();
    for (key, file) in object.spec.encrypted_data.iter().take(zen_lock::MAX_KEYS) {
        let opened = ring.open(file).map_err(|error| (key.clone(), error.reason().code()))?;
        data.insert(key.clone(), opened.plaintext);
    }
    Ok(Opened::of(object, data))
}

/// RFC 6750, 2.1; exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_ascii())
}
