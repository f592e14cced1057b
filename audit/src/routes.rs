//! The API of the store (see [`zen_audit::wire`]). Who may call it at all is decided by mutual TLS and the policy; whose
//! entries somebody may send, by the peer's own id.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;
use zen_audit::entry::MAX_LINE;
use zen_audit::wire::{Conflict, ENTRIES, MAX_BODY, MAX_CHAINS, RESUME, Resume, Stored};
use zen_identity::server::{Denial, Denials, Refusal, request_id, require};
use zen_identity::wire::Refused;
use zen_identity::{Action, Mesh};
use zen_model::reason::TrustRefusal;
use zen_pki::SpiffeId;

use crate::store::{Answer, Error, Store};

/// Requests that write at one time; the others wait, and their writers keep what they have.
const WRITES: usize = 16;

#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    writes: Arc<Semaphore>,
}

/// Where writers hand over what they have.
pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route(RESUME, post(resume).layer(require(Action::Audit)))
        .route(ENTRIES, post(entries).layer(require(Action::Audit)))
        .layer(DefaultBodyLimit::max(MAX_BODY + MAX_LINE))
        .with_state(Shared { store, writes: Arc::new(Semaphore::new(WRITES)) })
}

async fn resume(
    State(shared): State<Shared>,
    Extension(peer): Extension<SpiffeId>,
    Extension(mesh): Extension<Mesh>,
    denials: Option<Extension<Denials>>,
    Json(request): Json<Resume>,
) -> Response {
    let Ok(component) = mesh.check(&peer, Action::Audit) else {
        return Refusal::new(TrustRefusal::ActionNotPermitted).into_response();
    };
    if request.writer.component() != component.account() {
        return denied(denials, &peer, &Error::OtherWriter(component.account(), request.writer).to_string());
    }
    if request.chains.len() > MAX_CHAINS {
        return Refusal::new(TrustRefusal::BadRequest).into_response();
    }
    Json(shared.store.resume(&request.writer, &request.chains)).into_response()
}

#[derive(Deserialize)]
struct Earliest {
    earliest: u64,
}

async fn entries(
    State(shared): State<Shared>,
    Extension(peer): Extension<SpiffeId>,
    Extension(mesh): Extension<Mesh>,
    denials: Option<Extension<Denials>>,
    Query(Earliest { earliest }): Query<Earliest>,
    lines: Bytes,
) -> Response {
    let Ok(component) = mesh.check(&peer, Action::Audit) else {
        return Refusal::new(TrustRefusal::ActionNotPermitted).into_response();
    };
    let Ok(_place) = shared.writes.acquire().await else {
        return Refusal::new(TrustRefusal::StoreUnavailable).into_response();
    };
    // Once begun it goes on, whatever becomes of the request.
    let store = Arc::clone(&shared.store);
    let appended = tokio::task::spawn_blocking(move || store.append(component, &lines, earliest)).await;
    match appended {
        Ok(Ok(Answer::Stored(head))) => Json(Stored { head }).into_response(),
        Ok(Ok(Answer::Conflict(head))) => {
            let refused = Refused::new(TrustRefusal::ChainConflict, &request_id());
            (StatusCode::CONFLICT, Json(Conflict { refused, head })).into_response()
        }
        Ok(Err(error @ Error::OtherWriter(..))) => denied(denials, &peer, &error.to_string()),
        Ok(Err(error)) => {
            let reason = match &error {
                Error::Malformed(_) => TrustRefusal::BadRequest,
                Error::OtherWriter(..) => TrustRefusal::ActionNotPermitted,
                Error::Write(_) => TrustRefusal::StoreUnavailable,
            };
            let refusal = Refusal::new(reason);
            tracing::warn!(peer = peer.as_str(), %error, request_id = refusal.request_id, "entries were refused");
            refusal.into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a write failed");
            Refusal::new(TrustRefusal::StoreUnavailable).into_response()
        }
    }
}

/// Who sends what another component wrote.
fn denied(denials: Option<Extension<Denials>>, peer: &SpiffeId, detail: &str) -> Response {
    let (action, refusal) = (Action::Audit.label(), Refusal::new(TrustRefusal::ActionNotPermitted));
    let (code, request_id) = (refusal.reason.code(), &refusal.request_id);
    tracing::warn!(peer = peer.as_str(), code, action, reason = detail, request_id, "refused");
    if let Some(Extension(denials)) = denials {
        denials.denied(&Denial { who: peer.as_str(), from: None, action, code, request_id, detail });
    }
    refusal.into_response()
}
