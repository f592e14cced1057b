//! The adopting side: `GET` and `POST /v1/adopt`, to be served on the control port behind the policy's `Action::Adopt`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use zen_identity::control::{AdoptRequest, Adopted};
use zen_queue::handover::Batch;
use zen_queue::{AdoptError, Fault, Queue};

use super::PATH;
use super::transport::Whose;
use crate::pipeline::answer::generate_request_id;

/// The largest page: one event with the largest body that a Webhook may allow (15 MiB) as base64, and some headers.
const MAX_BODY: usize = 24 << 20;

/// Adopts for one queue. Cheap to clone.
#[derive(Clone)]
pub struct Receiver {
    queue: Arc<dyn Queue>,
    stays: Arc<dyn Fn() -> bool + Send + Sync>,
    /// One page at a time: peers wait for each other's syncs anyway, and memory is bounded.
    one: Arc<Semaphore>,
}

impl Receiver {
    /// `stays`: whether this replica itself is to stay; one that drains adopts nothing.
    pub fn new(queue: Arc<dyn Queue>, stays: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { queue, stays: Arc::new(stays), one: Arc::new(Semaphore::new(1)) }
    }

    /// The routes. They check no policy.
    pub fn router(self) -> Router {
        Router::new().route(PATH, get(whose).post(adopt)).with_state(self)
    }
}

/// Why a page is refused; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this is not the queue that was meant")]
    WrongQueue,
    #[error("this replica is draining itself")]
    Draining,
    #[error("the page is larger than {MAX_BODY} bytes, or broke off")]
    Body,
    #[error("{0}")]
    Malformed(String),
    #[error("the queue cannot commit: {0}")]
    Queue(Fault),
}

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::WrongQueue => (StatusCode::MISDIRECTED_REQUEST, "WrongQueue"),
            Self::Draining => (StatusCode::CONFLICT, "Draining"),
            Self::Body => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "Malformed"),
            Self::Queue(_) => (StatusCode::SERVICE_UNAVAILABLE, "QueueUnavailable"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        let request_id = generate_request_id();
        tracing::warn!(code, request_id, reason = %self, "adopted nothing");
        let body = json!({"code": code, "message": self.to_string(), "request_id": request_id});
        (status, [("x-request-id", request_id)], Json(body)).into_response()
    }
}

#[derive(Deserialize)]
struct Meant {
    queue: String,
}

async fn whose(State(receiver): State<Receiver>) -> Result<Json<Whose>, Refusal> {
    if !(receiver.stays)() {
        return Err(Refusal::Draining);
    }
    Ok(Json(Whose { queue: receiver.queue.id().to_string() }))
}

async fn adopt(
    State(receiver): State<Receiver>,
    Query(meant): Query<Meant>,
    body: Body,
) -> Result<Json<Adopted>, Refusal> {
    // A page is answered for by one queue: behind an address there may be another pod by now.
    if meant.queue != receiver.queue.id().to_string() {
        return Err(Refusal::WrongQueue);
    }
    if !(receiver.stays)() {
        return Err(Refusal::Draining);
    }
    let _one = receiver.one.acquire().await;
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| Refusal::Body)?;
    let (from, batch) = read(&body).map_err(Refusal::Malformed)?;
    let adopted = receiver.queue.adopt(batch).await.map_err(|error| match error {
        AdoptError::Malformed(reason) => Refusal::Malformed(reason.to_string()),
        AdoptError::Unavailable(fault) => Refusal::Queue(fault),
    })?;
    tracing::info!(
        from,
        deliveries = adopted.deliveries,
        known = adopted.known,
        claims = adopted.claims,
        "adopted a page"
    );
    Ok(Json(Adopted { adopted: adopted.deliveries + adopted.claims, known: adopted.known }))
}

/// Reads a request's body: who sends, and the page.
pub fn read(body: &[u8]) -> Result<(String, Batch), String> {
    let request: AdoptRequest = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let batch = Batch::parse(Bytes::from(request.payload)).map_err(|error| error.to_string())?;
    Ok((request.from, batch))
}
