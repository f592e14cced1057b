//! `POST /v1/admit/pods` and `POST /v1/admit/zenlocks`: reviews of the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Status;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use zen_crds::ZenLock;
use zen_identity::server::request_id;
use zen_model::reason::LockRefusal;

use crate::admit::{self, Delivery, Mutation, Refused, SECRET_PREFIX, Settings, Wanted, is_file_name};
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
/// Reviews at one time; with the sizes above this bounds the memory.
const PODS_AT_ONCE: usize = 64;
const ZENLOCKS_AT_ONCE: usize = 8;
/// The API server gives up after five seconds, and says less then than we can.
const PATIENCE: Duration = Duration::from_millis(4500);

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
    pods: Semaphore,
    zen_locks: Semaphore,
}

/// The routes.
pub fn router(parts: Parts) -> Router {
    let (pods, zen_locks) = (Semaphore::new(PODS_AT_ONCE), Semaphore::new(ZENLOCKS_AT_ONCE));
    Router::new().route(PODS, post(review_pod)).route(ZENLOCKS, post(review_zen_lock)).with_state(Arc::new(Shared {
        parts,
        pods,
        zen_locks,
    }))
}

async fn review_pod(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let work = async {
        let _place = shared.pods.acquire().await;
        let request = read::<Pod>(request.into_body(), LARGEST_POD).await?;
        Ok(shared.pod(&request).await)
    };
    respond(tokio::time::timeout(PATIENCE, work).await)
}

async fn review_zen_lock(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let work = async {
        let _place = shared.zen_locks.acquire().await;
        let request = read::<ZenLock>(request.into_body(), LARGEST_ZENLOCK).await?;
        Ok(shared.zen_lock(&request).await)
    };
    respond(tokio::time::timeout(PATIENCE, work).await)
}

/// Of a review that cannot be read.
struct Unreadable(StatusCode, String);

async fn read<T>(body: Body, limit: usize) -> Result<AdmissionRequest<T>, Unreadable>
where
    T: Resource + DeserializeOwned,
{
    let too_large = |_| Unreadable(StatusCode::PAYLOAD_TOO_LARGE, format!("the review has more than {limit} bytes"));
    let body = to_bytes(body, limit).await.map_err(too_large)?;
    let unreadable = |error: &dyn std::fmt::Display| Unreadable(StatusCode::BAD_REQUEST, error.to_string());
    let malformed = |error: serde_json::Error| {
        // The parser's words may quote the object.
        unreadable(&format!("the review is malformed at line {} column {}", error.line(), error.column()))
    };
    let review: AdmissionReview<T> = serde_json::from_slice(&body).map_err(malformed)?;
    review.try_into().map_err(|error| unreadable(&error))
}

fn respond(worked: Result<Result<AdmissionResponse, Unreadable>, tokio::time::error::Elapsed>) -> Response {
    match worked {
        Ok(Ok(response)) => Json(response.into_review()).into_response(),
        Ok(Err(Unreadable(status, why))) => (status, why).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too many reviews at one time").into_response(),
    }
}

impl Shared {
    async fn pod(&self, request: &AdmissionRequest<Pod>) -> AdmissionResponse {
        let (began, response) = (Instant::now(), AdmissionResponse::from(request));
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
        let mut known = BTreeMap::new();
        for name in &wanted.locks {
            let found = self.parts.locks.known(namespace, name).await;
            let found = found.map_err(|error| Refused::new(LockRefusal::ApiUnavailable, error.to_string()).of(name))?;
            if let Some(key) = found.iter().flat_map(|known| known.keys.keys()).find(|key| !is_file_name(key)) {
                let detail = "it cannot be the name of a file";
                return Err(Refused::new(LockRefusal::ZenLockInvalid, detail).of(name).at(key));
            }
            known.insert(name.clone(), found.map(|known| (*known).clone()));
        }
        let settings = self.parts.settings.borrow().clone();
        let settings =
            settings.ok_or_else(|| Refused::new(LockRefusal::KeysUnavailable, "the trust bundle is not read yet"))?;
        let secret = format!("{SECRET_PREFIX}{}", suffix());
        admit::mutate(pod, &wanted, &known, &secret, &settings).map(Some)
    }

    async fn zen_lock(&self, request: &AdmissionRequest<ZenLock>) -> AdmissionResponse {
        let (began, mut response) = (Instant::now(), AdmissionResponse::from(request));
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
