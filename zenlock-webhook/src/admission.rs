//! `POST /v1/admit/pods` and `POST /v1/admit/zenlocks`: reviews of the API server.
//!
//! A pod is judged by what is remembered of its ZenLocks, if all of it is of the versions that are there. Where that refuses the pod,
//! or is not there, the ZenLocks are read from the API server and the pod is judged again: see [`locks`](crate::locks).
//!
//! The API server sends a burst over one connection of HTTP/2. Its window holds bodies until they are read, so bodies are
//! read as they come, first come, first served, and what waits afterwards waits in our memory, whose bytes are counted: reviews that wait
//! for a place with their bodies unread could fill the window, and keep back the bodies of those that have a place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Status;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;
use zen_crds::ZenLock;
use zen_identity::server::request_id;
use zen_model::reason::LockRefusal;

use crate::admit::{self, Delivery, Known, Mutation, Refused, SECRET_PREFIX, Settings, Wanted, is_file_name};
use crate::audit::{Action, Audit, Entry};
use crate::locks::Locks;
use crate::metrics::Metrics;

/// `POST`: pods.
pub const PODS: &str = "/v1/admit/pods";
/// `POST`: ZenLocks.
pub const ZENLOCKS: &str = "/v1/admit/zenlocks";
/// A pod, and what the API server says around it. The API server itself takes 3 MiB.
const LARGEST_POD: usize = 4 << 20;
/// A ZenLock and the one before it.
const LARGEST_ZENLOCK: usize = 8 << 20;
/// Bodies of one kind at one time: a thousand pods of the usual 10 KiB, or eight of the largest.
const BODIES: Kibibytes = 32 << 10;
/// ZenLocks that are looked into at one time, 64 keys of a mebibyte each at the most.
const ZENLOCKS_AT_ONCE: usize = 8;
/// The API server gives up after five seconds, and says less then than we can.
const PATIENCE: Duration = Duration::from_millis(4500);

type Kibibytes = u32;
/// What is known of each ZenLock by name; none for one that is not there.
type Locked = BTreeMap<String, Option<Arc<Known>>>;

/// What admission is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// ZenLocks and keys.
    pub locks: Arc<Locks>,
    /// Image, address and roots as they are now; none: not known yet.
    pub settings: watch::Receiver<Option<Arc<Settings>>>,
    /// Whether pods may ask for a Secret.
    pub secret_delivery: bool,
    /// Where every decision is recorded.
    pub audit: Audit,
    /// What is counted.
    pub metrics: Metrics,
}

struct Shared {
    parts: Parts,
    /// Room for bodies, in KiB.
    pods: Semaphore,
    zen_locks: Semaphore,
    validations: Semaphore,
}

/// The routes.
pub fn router(parts: Parts) -> Router {
    let room = || Semaphore::new(BODIES as usize);
    let validations = Semaphore::new(ZENLOCKS_AT_ONCE);
    let shared = Arc::new(Shared { parts, pods: room(), zen_locks: room(), validations });
    Router::new().route(PODS, post(review_pod)).route(ZENLOCKS, post(review_zen_lock)).with_state(shared)
}

async fn review_pod(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let began = Instant::now();
    let work = async {
        let (request, _room) = read::<Pod>(request.into_body(), LARGEST_POD, &shared.pods).await?;
        Ok(shared.pod(&request, began).await)
    };
    respond(tokio::time::timeout(PATIENCE, work).await)
}

async fn review_zen_lock(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let began = Instant::now();
    let work = async {
        let (request, _room) = read::<ZenLock>(request.into_body(), LARGEST_ZENLOCK, &shared.zen_locks).await?;
        let _turn = shared.validations.acquire().await;
        Ok(shared.zen_lock(&request, began).await)
    };
    respond(tokio::time::timeout(PATIENCE, work).await)
}

/// Of a review that cannot be read.
struct Unreadable(StatusCode, String);

/// The review, and the room that it takes for as long as it is there.
async fn read<T>(
    body: Body,
    limit: usize,
    room: &Semaphore,
) -> Result<(AdmissionRequest<T>, Option<SemaphorePermit<'_>>), Unreadable>
where
    T: Resource + DeserializeOwned,
{
    let too_large = || Unreadable(StatusCode::PAYLOAD_TOO_LARGE, format!("the review has more than {limit} bytes"));
    // The API server says the length of what it sends.
    let size = body.size_hint().exact().map_or(Ok(limit), usize::try_from).unwrap_or(usize::MAX);
    if size > limit {
        return Err(too_large());
    }
    // Never refused: nobody closes it, and every limit is less than all of it.
    let taken = room.acquire_many(Kibibytes::try_from(size.div_ceil(1024)).unwrap_or(BODIES)).await.ok();
    let body = to_bytes(body, limit).await.map_err(|_| too_large())?;
    let unreadable = |error: &dyn std::fmt::Display| Unreadable(StatusCode::BAD_REQUEST, error.to_string());
    let malformed = |error: serde_json::Error| {
        // The parser's words may quote the object.
        unreadable(&format!("the review is malformed at line {} column {}", error.line(), error.column()))
    };
    let review: AdmissionReview<T> = serde_json::from_slice(&body).map_err(malformed)?;
    let request = review.try_into().map_err(|error| unreadable(&error))?;
    Ok((request, taken))
}

fn respond(worked: Result<Result<AdmissionResponse, Unreadable>, tokio::time::error::Elapsed>) -> Response {
    match worked {
        Ok(Ok(response)) => written(response),
        Ok(Err(Unreadable(status, why))) => (status, why).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too many reviews at one time").into_response(),
    }
}

/// With the patch as the API server writes bytes itself: left to its type it becomes a list of numbers, four times as long, which
/// the API server reads one by one.
fn written(mut response: AdmissionResponse) -> Response {
    let patch = response.patch.take();
    match serde_json::to_value(response.into_review()) {
        Ok(mut review) => {
            if let Some(patch) = patch {
                review["response"]["patch"] = STANDARD.encode(patch).into();
            }
            Json(review).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to write a review");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Shared {
    async fn pod(&self, request: &AdmissionRequest<Pod>, began: Instant) -> AdmissionResponse {
        let response = AdmissionResponse::from(request);
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let what = format!("pod {namespace}/{}", pod_name(request));
        let mut judged = self.mutation(request, namespace).await;
        // A pod that asks for nothing was sent by mistake, and is nobody's access.
        if !matches!(judged, Ok(None)) {
            let locks = request.object.as_ref().and_then(|pod| pod.metadata.annotations.as_ref()?.get(admit::INJECT));
            let entry = Entry {
                action: Action::AdmitPod,
                who: request.user_info.username.clone().unwrap_or_default(),
                object: format!("Pod/{namespace}/{}", pod_name(request)),
                allowed: judged.is_ok(),
                reason: judged.as_ref().err().map_or("", |refused| refused.reason.code()),
                correlation: request.uid.clone(),
                details: vec![
                    ("locks", locks.cloned().unwrap_or_default()),
                    ("dryRun", if request.dry_run { "true" } else { "" }.to_owned()),
                ],
            };
            if self.parts.audit.record(entry).await.is_err() && judged.is_ok() {
                judged = Err(Refused::new(LockRefusal::AuditUnavailable, "the decision cannot be recorded"));
            }
        }
        self.parts.metrics.admitted("Pod", judged.as_ref().err().map(|refused| refused.reason), began.elapsed());
        match judged {
            Ok(None) => response,
            Ok(Some(mutation)) => patched(response, mutation),
            Err(refused) => denied(response, &refused, &what),
        }
    }

    async fn mutation(&self, request: &AdmissionRequest<Pod>, namespace: &str) -> Result<Option<Mutation>, Refused> {
        let Some(pod) = &request.object else { return Ok(None) };
        let Some(wanted) = Wanted::of(pod.metadata.annotations.as_ref())? else { return Ok(None) };
        if wanted.delivery == Delivery::Secret && !self.parts.secret_delivery {
            let detail = "zen-mesh.io/delivery: secret is switched off in this cluster";
            return Err(Refused::new(LockRefusal::DeliveryDisabled, detail));
        }
        if let Some(remembered) = self.remembered(namespace, &wanted)
            && let Ok(mutation) = self.judge(pod, &wanted, &remembered)
        {
            return Ok(Some(mutation));
        }
        let looks = wanted.locks.iter().map(async |name| {
            let found = self.parts.locks.known(namespace, name).await;
            let found = found.map_err(|error| Refused::new(LockRefusal::ApiUnavailable, error.to_string()).of(name))?;
            Ok((name.clone(), found))
        });
        let live = try_join_all(looks).await?.into_iter().collect();
        self.judge(pod, &wanted, &live).map(Some)
    }

    /// What is remembered of all of them.
    fn remembered(&self, namespace: &str, wanted: &Wanted) -> Option<Locked> {
        let remembered = |name: &String| Some((name.clone(), Some(self.parts.locks.remembered(namespace, name)?)));
        wanted.locks.iter().map(remembered).collect()
    }

    fn judge(&self, pod: &Pod, wanted: &Wanted, locks: &Locked) -> Result<Mutation, Refused> {
        for name in &wanted.locks {
            let known = locks.get(name).and_then(Option::as_ref);
            if let Some(key) = known.and_then(|known| known.keys.keys().find(|key| !is_file_name(key))) {
                let detail = "it cannot be the name of a file";
                return Err(Refused::new(LockRefusal::ZenLockInvalid, detail).of(name).at(key));
            }
        }
        let settings = self.parts.settings.borrow().clone();
        let settings =
            settings.ok_or_else(|| Refused::new(LockRefusal::KeysUnavailable, "the trust bundle is not read yet"))?;
        let secret = format!("{SECRET_PREFIX}{}", suffix());
        admit::mutate(pod, wanted, locks, &secret, &settings)
    }

    async fn zen_lock(&self, request: &AdmissionRequest<ZenLock>, began: Instant) -> AdmissionResponse {
        let mut response = AdmissionResponse::from(request);
        let Some(new) = request.object.clone() else { return response };
        let (old, keys) = (request.old_object.clone(), self.parts.locks.keys());
        let validated = tokio::task::spawn_blocking(move || admit::validate(&new, old.as_ref(), &keys.ring)).await;
        let validated = validated.unwrap_or_else(|error| {
            tracing::error!(%error, "failed to look into a ZenLock");
            Err(Refused::new(LockRefusal::ZenLockInvalid, "it could not be looked into"))
        });
        self.parts.metrics.admitted("ZenLock", validated.as_ref().err().map(|refused| refused.reason), began.elapsed());
        match validated {
            Ok(warnings) => {
                response.warnings = (!warnings.is_empty()).then_some(warnings);
                response
            }
            Err(refused) => {
                let namespace = request.namespace.as_deref().unwrap_or_default();
                let what = format!("ZenLock {namespace}/{}", request.name);
                tracing::info!(object = what, code = refused.reason.code(), request_id = request.uid, "refused");
                denied(response, &refused, &what)
            }
        }
    }
}

/// A pod of a controller has no name yet.
fn pod_name(request: &AdmissionRequest<Pod>) -> String {
    let metadata = request.object.as_ref().map(|pod| &pod.metadata);
    let name = metadata.and_then(|metadata| metadata.name.clone()).filter(|name| !name.is_empty());
    let generated = || metadata.and_then(|metadata| metadata.generate_name.as_ref()).map(|name| format!("{name}…"));
    name.or_else(generated).unwrap_or_else(|| request.name.clone())
}

fn patched(mut response: AdmissionResponse, mutation: Mutation) -> AdmissionResponse {
    response.warnings = (!mutation.warnings.is_empty()).then_some(mutation.warnings);
    if mutation.patch.0.is_empty() {
        return response;
    }
    let again = response.clone();
    response.with_patch(mutation.patch).unwrap_or_else(|error| {
        tracing::error!(%error, "failed to write a patch");
        again.deny("the patch cannot be written")
    })
}

fn denied(response: AdmissionResponse, refused: &Refused, what: &str) -> AdmissionResponse {
    let row = refused.reason.row();
    let mut response = response.deny(refused.message(what));
    response.result = Status { code: row.status, ..Status::failure(&response.result.message, row.code) };
    response
}

/// Ten characters that nobody guesses and nobody has: names say nothing of what is in them.
fn suffix() -> String {
    request_id().chars().rev().filter(|c| *c != '-').take(10).collect()
}

#[cfg(test)]
mod tests;
