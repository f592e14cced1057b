//! The admin API beneath `/api/v1`: what `zen status`, `zen events` and `zen dead-letters` speak with. Every request needs
//! the bearer token. Listings hold no payload; one dead letter shows its payload only when it is asked for.

mod error;
mod replay;
mod status;
pub mod types;

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zen_compile::Verdict;
use zen_model::{DeadReason, EventId, Secret};
use zen_queue::{DeadFilter, DeliveryId, EventFilter, Queue};

use crate::Ingester;
use error::Error;
use replay::Replays;
use types::{DeadLetterDetail, DeadLetterQuery, PayloadQuery, ReplayRequest, StatusQuery, Stored};

/// A listing holds at most so many lines, whatever is asked for.
const MAX_LIMIT: usize = 1000;

/// What the admin API shows beside the ingester itself.
pub struct Parts {
    /// The verdicts of the configuration in effect.
    pub verdicts: Arc<ArcSwap<Vec<Verdict>>>,
    /// The bearer token that callers show.
    pub token: Secret,
    /// What an acknowledgement means (D-15): `fsynced`, `replicated` or `memory`.
    pub durability: &'static str,
}

#[derive(Clone)]
struct Admin {
    ingester: Ingester,
    parts: Arc<Parts>,
    replays: Arc<Replays>,
}

impl Admin {
    fn queue(&self) -> &Arc<dyn Queue> {
        &self.ingester.core.queue
    }
}

/// The routes, to be merged into the admin server. Each asks for the bearer token.
pub fn router(ingester: &Ingester, parts: Parts) -> Router {
    let (routes, admin) = routes(ingester, parts);
    Router::new().nest("/api/v1", routes.layer(from_fn_with_state(admin, authenticate)))
}

/// The same routes without a prefix and a token, for callers that mutual TLS and the access policy know, and for calls
/// within the process: the answers of one replica.
pub fn replica(ingester: &Ingester, parts: Parts) -> Router {
    routes(ingester, parts).0
}

fn routes(ingester: &Ingester, parts: Parts) -> (Router, Admin) {
    let admin = Admin {
        ingester: ingester.clone(),
        parts: Arc::new(parts),
        replays: Arc::new(Replays::new(Arc::clone(&ingester.core.queue))),
    };
    let routes = Router::new()
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/events/{id}", get(event))
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/{id}", get(dead_letter))
        .route("/replays", post(start_replay).get(list_replays))
        .route("/replays/{id}", get(show_replay).delete(cancel_replay))
        .fallback(|| async { Error::NotFound("path") })
        .with_state(admin.clone());
    (routes, admin)
}

async fn authenticate(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Error> {
    let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown = match shown.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
        _ => return Err(Error::Unauthenticated),
    };
    let token = admin.parts.token.expose();
    if token.is_empty() || verify_slices_are_equal(token, shown).is_err() {
        return Err(Error::Unauthenticated);
    }
    Ok(next.run(request).await)
}

async fn status(
    State(admin): State<Admin>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<types::Status>, Error> {
    let Query(StatusQuery { namespace }) = query.map_err(|rejection| Error::query(&rejection))?;
    Ok(Json(status::status(&admin.ingester, &admin.parts, namespace.as_ref())))
}

async fn events(
    State(admin): State<Admin>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(mut filter) = filter.map_err(|rejection| Error::query(&rejection))?;
    filter.limit = filter.limit.min(MAX_LIMIT);
    Ok(Json(admin.queue().events(filter).await?).into_response())
}

async fn event(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Response, Error> {
    let found = admin.queue().event(EventId::from(id)).await?;
    if found.is_empty() { Err(Error::NotFound("event")) } else { Ok(Json(found).into_response()) }
}

async fn dead_letters(
    State(admin): State<Admin>,
    query: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|rejection| Error::query(&rejection))?;
    let mut filter = check(query.into())?;
    filter.limit = filter.limit.min(MAX_LIMIT);
    let mut letters = admin.queue().dead_letters(filter).await?;
    for letter in &mut letters {
        letter.last_response = None;
    }
    Ok(Json(letters).into_response())
}

async fn dead_letter(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    query: Result<Query<PayloadQuery>, QueryRejection>,
) -> Result<Json<DeadLetterDetail>, Error> {
    let Query(PayloadQuery { payload }) = query.map_err(|rejection| Error::query(&rejection))?;
    let id: DeliveryId = id.parse().map_err(Error::BadRequest)?;
    let (letter, event) = admin.queue().dead_letter(id).await?.ok_or(Error::NotFound("dead letter"))?;
    Ok(Json(DeadLetterDetail {
        letter,
        stored: Stored {
            source: event.source,
            content_type: event.content_type,
            request_id: event.request_id,
            content_hash: hex(&event.content_hash),
            payload: payload.then(|| STANDARD.encode(&event.body)),
        },
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Refuses what would silently match nothing.
fn check(filter: DeadFilter) -> Result<DeadFilter, Error> {
    if let Some(reason) = &filter.reason
        && DeadReason::from_code(reason).is_none()
    {
        return Err(Error::BadRequest(format!("{reason:?} is not the reason of a dead letter")));
    }
    if filter.ids.len() > MAX_LIMIT {
        return Err(Error::BadRequest(format!("a filter names at most {MAX_LIMIT} ids")));
    }
    for id in &filter.ids {
        id.parse::<DeliveryId>().map_err(Error::BadRequest)?;
    }
    Ok(filter)
}

async fn start_replay(
    State(admin): State<Admin>,
    request: Result<Json<ReplayRequest>, JsonRejection>,
) -> Result<Response, Error> {
    let Json(request) = request.map_err(|rejection| Error::json(&rejection))?;
    let filter = check(request.filter)?;
    if request.rate == Some(0) {
        return Err(Error::BadRequest("rate must be at least 1 per second".to_owned()));
    }
    let total = admin.queue().count_dead_letters(filter.clone()).await?;
    if request.dry_run {
        return Ok(Json(types::DryRun { count: total }).into_response());
    }
    let started = admin.replays.start(request.id, filter, request.rate, total)?;
    Ok((StatusCode::ACCEPTED, Json(started)).into_response())
}

async fn list_replays(State(admin): State<Admin>) -> Json<Vec<types::Replay>> {
    Json(admin.replays.list())
}

async fn show_replay(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<types::Replay>, Error> {
    admin.replays.show(&id).map(Json).ok_or(Error::NotFound("replay"))
}

async fn cancel_replay(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<types::Replay>, Error> {
    admin.replays.cancel(&id).map(Json).ok_or(Error::NotFound("replay"))
}
