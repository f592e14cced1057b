//! `POST /v1/enrollments/<tenant>/<cluster>` and `POST /v1/clusters/<tenant>/<cluster>/sync`: what members ask. These are all
//! routes of the hub, and neither takes nor gives an event (T-08).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zen_enroll::proof::HEADER;
use zen_enroll::{MAX_BODY, Refused};
use zen_identity::policy::{Object, Request as Ask};
use zen_identity::server::{Handshakes, RemoteAddress, Server, insert_peer, request_id};
use zen_identity::{Action, Mesh, wire};
use zen_model::ClusterId;
use zen_model::reason::{EnrollRefusal, TrustRefusal};
use zen_pki::{Scope, SpiffeId};
use zen_pod::audit::refused_handshake;

use super::Inner;
use super::lead::Lead;
use super::record::Line;
use super::{redeem, sync};

/// Each member holds one connection at most, and most hold none.
const CONNECTIONS: usize = 2048;
/// How long a body may take.
const BODY: Duration = Duration::from_secs(5);

/// The paths, as a router writes them.
pub(super) const REDEEM: &str = "/v1/enrollments/{tenant}/{cluster}";
pub(super) const SYNC: &str = "/v1/clusters/{tenant}/{cluster}/sync";

pub(super) async fn serve(
    inner: Arc<Inner>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), zen_pki::Error> {
    let mesh = inner.mesh.clone();
    let tls = inner.identity.member_tls(move |peer| is_members(&mesh, peer));
    let tls = tokio::select! {
        tls = tls => tls?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let identity = inner.identity.clone();
    let handshakes = Handshakes::telling(move |refused| identity.note(refused_handshake("hub", &refused)));
    Server { connections: CONNECTIONS, handshakes }.serve(listener, tls, router(inner), shutdown, insert_peer).await;
    Ok(())
}

/// Whoever presents a certificate is the operator of a member: which one counts with each request.
fn is_members(mesh: &Mesh, peer: &SpiffeId) -> bool {
    let Some(workload) = Scope::of(peer) else { return false };
    let Scope::Cluster(cluster) = workload.scope else { return false };
    mesh.decide(&Ask { peer, action: Action::Renew, object: Object::Cluster(&cluster) }).is_ok()
}

/// The API without its transport.
pub(super) fn router(inner: Arc<Inner>) -> Router {
    let paths: [(&str, MethodRouter<Arc<Inner>>); 2] = [(REDEEM, post(redeemed)), (SYNC, post(synced))];
    let router =
        paths.into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route.fallback(none)));
    router.fallback(none).with_state(inner)
}

/// Why something is refused, and for the log what the table's words leave out.
#[derive(Debug)]
pub(super) struct No(pub(super) Refused, pub(super) String);

impl<R: Into<Refused>> From<R> for No {
    fn from(reason: R) -> Self {
        Self(reason.into(), String::new())
    }
}

impl No {
    /// Something that the hub needs is away.
    #[expect(clippy::needless_pass_by_value, reason = "errors come by value")]
    pub(super) fn unavailable(detail: impl ToString) -> Self {
        Self(TrustRefusal::IssuerUnavailable.into(), detail.to_string())
    }
}

/// One request, as far as both paths have it in common.
pub(super) struct Asked {
    pub(super) cluster: ClusterId,
    pub(super) peer: Option<SpiffeId>,
    pub(super) proof: String,
    pub(super) body: Vec<u8>,
    pub(super) lead: Arc<Lead>,
    pub(super) hub: crate::settings::Hub,
}

async fn none() -> Response {
    refusal(TrustRefusal::NotFound.into(), &request_id())
}

async fn redeemed(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let mut line = line(&request, "redeem");
    let outcome = match asked(&inner, request, &mut line, zen_enroll::path).await {
        Ok(asked) => redeem::redeem(&inner, &asked, &mut line).await,
        Err(no) => Err(no),
    };
    answer(&inner, &line, outcome)
}

async fn synced(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let mut line = line(&request, "sync");
    let outcome = match asked(&inner, request, &mut line, zen_enroll::sync_path).await {
        Ok(asked) => sync::sync(&inner, &asked, &mut line).await,
        Err(no) => Err(no),
    };
    answer(&inner, &line, outcome)
}

fn line(request: &Request, what: &'static str) -> Line {
    let from = request.extensions().get::<RemoteAddress>().map(|address| address.0);
    let peer = request.extensions().get::<SpiffeId>().cloned();
    Line { request_id: request_id(), from, peer, what, ..Line::default() }
}

fn answer<T: Serialize>(inner: &Inner, line: &Line, outcome: Result<T, No>) -> Response {
    match outcome {
        Ok(answer) => Json(answer).into_response(),
        Err(No(refused, detail)) => {
            inner.metrics.refused(refused);
            // What happens all the time, or as often as anybody likes, would push what matters out of the log.
            let is_noise = matches!(
                refused,
                Refused::Enroll(EnrollRefusal::NotLeader) | Refused::Trust(TrustRefusal::RateLimited)
            );
            if is_noise {
                tracing::debug!(request_id = line.request_id, code = refused.code(), "a member was sent on");
            } else {
                inner.identity.note(line.refused(inner, refused, &detail));
            }
            refusal(refused, &line.request_id)
        }
    }
}

/// The cheap questions first; nothing of an enrollment is looked at here.
async fn asked(
    inner: &Inner,
    request: Request,
    line: &mut Line,
    path: impl Fn(&ClusterId) -> String,
) -> Result<Asked, No> {
    let (head, body) = request.into_parts();
    let source = line.from.map(|from| from.ip().to_string()).unwrap_or_default();
    if !inner.sources.take(&source) {
        return Err(TrustRefusal::RateLimited.into());
    }
    let cluster = cluster(&head, path).ok_or(TrustRefusal::NotFound)?;
    line.cluster = Some(cluster.clone());
    let hub = inner.hub().ok_or(TrustRefusal::NotFound)?;
    let lead = inner.lead.load_full().ok_or(EnrollRefusal::NotLeader)?;
    let proof = proof(&head.headers).ok_or(EnrollRefusal::RequestMalformed)?.to_owned();
    let body = read(&head.headers, body).await?;
    Ok(Asked { cluster, peer: head.extensions.get::<SpiffeId>().cloned(), proof, body, lead, hub })
}

/// The cluster that a path names, in the one spelling that a proof is made over.
fn cluster(head: &Parts, path: impl Fn(&ClusterId) -> String) -> Option<ClusterId> {
    let mut segments = head.uri.path().split('/').skip(3);
    let cluster = ClusterId::new(segments.next()?, segments.next()?).ok()?;
    (head.uri.path_and_query()?.as_str() == path(&cluster)).then_some(cluster)
}

/// Exactly one.
fn proof(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, No> {
    let length =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY) {
        return Err(TrustRefusal::RequestTooLarge.into());
    }
    let body =
        tokio::time::timeout(BODY, to_bytes(body, MAX_BODY)).await.map_err(|_| EnrollRefusal::RequestMalformed)?;
    Ok(body.map_err(|_| TrustRefusal::RequestTooLarge)?.to_vec())
}

/// A refusal's status and body; its id names it in the log.
fn refusal(refused: Refused, request_id: &str) -> Response {
    let row = refused.row();
    let body =
        wire::Refused { code: row.code.to_owned(), message: row.meaning.to_owned(), request_id: request_id.to_owned() };
    let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    if let Some(seconds) = refused.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
