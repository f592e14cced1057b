//! `GET /v1/identity` and `POST /v1/certificates`: each request is judged by its token, the policy, and the names that are
//! due.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zen_identity::server::{Handshakes, Refusal, RemoteAddress, Server, insert_peer, request_id};
use zen_identity::wire::{AUDIENCE, CERTIFICATES, Certificate, CertificateRequest, IDENTITY, MAX_BODY, Usage, Who};
use zen_identity::{Action, Component};
use zen_model::reason::TrustRefusal;
use zen_pki::{CsrRefused, Names, SignError, Signed, SigningRequest, SpiffeId, optional_mtls_server};
use zen_pod::audit::refused_handshake;
use zen_pod::caller;

use super::audit::Line;
use super::{Current, Inner, cert_manager, own};

/// Tokens that are reviewed at one time: whoever sends rubbish must not keep the API server busy.
const REVIEWS: usize = 32;
/// Connections at one time; a pod holds none.
const CONNECTIONS: usize = 512;
/// How long a request waits for its turn, and its body may take.
const TURN: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    inner: Arc<Inner>,
    reviews: Semaphore,
}

pub(super) async fn serve(
    inner: Arc<Inner>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), zen_pki::Error> {
    let own = tokio::select! {
        own = own::wait(&inner) => own,
        () = shutdown.cancelled() => return Ok(()),
    };
    let allowed = inner.mesh.permitted(&[Action::Issue]);
    let tls = optional_mtls_server(&own.serving, &own.identity, allowed)?;
    let told = Arc::clone(&inner);
    let handshakes = Handshakes::telling(move |refused| told.audit.note(refused_handshake("identity", &refused)));
    Server { connections: CONNECTIONS, handshakes }.serve(listener, tls, router(inner), shutdown, insert_peer).await;
    Ok(())
}

/// The API without its transport.
pub(super) fn router(inner: Arc<Inner>) -> Router {
    let shared = Arc::new(Shared { inner, reviews: Semaphore::new(REVIEWS) });
    let not_found = async || Refusal::new(TrustRefusal::NotFound);
    Router::new()
        .route(IDENTITY, get(who).fallback(not_found))
        .route(CERTIFICATES, post(certificates).fallback(not_found))
        .fallback(not_found)
        .with_state(shared)
}

/// A refusal, and for the log what the table's words leave out.
struct No(TrustRefusal, String);

impl From<TrustRefusal> for No {
    fn from(reason: TrustRefusal) -> Self {
        Self(reason, String::new())
    }
}

/// A certificate that is not handed over yet.
struct Issued {
    certificate: Certificate,
    component: Component,
    usage: Usage,
    names: Names,
    signed: Signed,
}

async fn who(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut line = Line::default();
    let (head, _) = request.into_parts();
    match shared.judge(&head.headers, &head.extensions, &mut line).await {
        Ok((current, component)) => Json(Who {
            spiffe_id: current.settings.mesh.id(component).to_string(),
            serving_names: current.settings.serving(component).into_iter().flatten().cloned().collect(),
            lifetime_seconds: current.settings.lifetime.as_secs(),
            // cert-manager's issuers are exchanged by whoever keeps them.
            issuer: (current.settings.cert_manager.is_none()).then(|| current.issuer(line.pod_name()).fingerprint()),
            serving_since: current.rotation.serving_since(line.pod_name()).filter(|_| component == Component::Ingester),
        })
        .into_response(),
        Err(No(reason, detail)) => {
            let refusal = shared.refuse(reason);
            let account = line.caller.as_ref().map(|caller| caller.account.as_str()).unwrap_or_default();
            tracing::info!(
                request_id = refusal.request_id,
                account,
                code = reason.code(),
                detail,
                "refused to say who"
            );
            refusal.into_response()
        }
    }
}

async fn certificates(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let from = head.extensions.get::<RemoteAddress>().map(|address| address.0);
    let mut line = Line { from, ..Line::default() };
    match shared.issue(&head.headers, &head.extensions, body, &mut line).await {
        Ok(Issued { certificate, component, usage, names, signed }) => {
            line.request_id = request_id();
            if let Err(reason) = line.issued(&shared.inner.audit, &names, &signed).await {
                return shared.refuse(reason).into_response();
            }
            shared.inner.metrics.issued(component.account(), usage);
            Json(certificate).into_response()
        }
        Err(No(reason, detail)) => {
            let refusal = shared.refuse(reason);
            line.request_id.clone_from(&refusal.request_id);
            line.refused(&shared.inner.audit, reason, &detail);
            refusal.into_response()
        }
    }
}

impl Shared {
    fn refuse(&self, reason: TrustRefusal) -> Refusal {
        self.inner.metrics.refused(reason);
        Refusal::new(reason)
    }

    /// Who asks, and with what it would be answered.
    async fn judge(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        line: &mut Line,
    ) -> Result<(Arc<Current>, Component), No> {
        let current = self.inner.current.borrow().clone().ok_or(TrustRefusal::IssuerUnavailable)?;
        let token = bearer(headers).ok_or(TrustRefusal::TokenMissing)?;
        let turn = tokio::time::timeout(TURN, self.reviews.acquire()).await.map_err(|_| TrustRefusal::RateLimited)?;
        let caller = caller::review(&self.inner.client, AUDIENCE, token).await.map_err(TrustRefusal::from)?;
        drop(turn);
        line.caller = Some(caller.clone());
        if !self.inner.limits.take(&caller) {
            return Err(TrustRefusal::RateLimited.into());
        }
        let mesh = &current.settings.mesh;
        let denied = |detail: &dyn ToString| No(TrustRefusal::AccountNotPermitted, detail.to_string());
        let id = mesh.scope().workload(mesh.trust_domain(), &caller.namespace, &caller.account);
        let id = id.map_err(|error| denied(&error))?;
        let component = mesh.check(&id, Action::Issue).map_err(|error| denied(&error))?;
        match extensions.get::<SpiffeId>() {
            Some(peer) if *peer != id => Err(No(TrustRefusal::CertificateMismatch, format!("it presented {peer}"))),
            _ => Ok((current, component)),
        }
    }

    async fn issue(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        body: Body,
        line: &mut Line,
    ) -> Result<Issued, No> {
        let (current, component) = self.judge(headers, extensions, line).await?;
        let body = tokio::time::timeout(TURN, to_bytes(body, MAX_BODY)).await.map_err(|_| TrustRefusal::BadRequest)?;
        let body = body.map_err(|_| TrustRefusal::RequestTooLarge)?;
        let request: CertificateRequest = serde_json::from_slice(&body).map_err(|error| {
            No(TrustRefusal::BadRequest, format!("line {} column {}", error.line(), error.column()))
        })?;
        line.usage = Some(request.usage);
        let settings = &current.settings;
        let due = match request.usage {
            Usage::Workload => Names::Workload(settings.mesh.id(component).clone()),
            Usage::Serving => {
                Names::Server(settings.serving(component).cloned().ok_or(TrustRefusal::UsageNotPermitted)?)
            }
        };
        let request_read = SigningRequest::from_pem(&request.csr).map_err(refused)?;
        request_read.check(&due).map_err(refused)?;
        let signed = match &settings.cert_manager {
            Some(issuer) if request.usage == Usage::Workload => {
                let ask = cert_manager::Ask {
                    csr: &request.csr,
                    request: &request_read,
                    account: component.account(),
                    due: &due,
                    roots: &current.roots,
                    clock: &self.inner.clock,
                    lifetime: settings.lifetime,
                };
                let signed = cert_manager::sign(&self.inner.client, settings.mesh.namespace(), issuer, &ask).await;
                signed.map_err(|error| No(error.reason(), error.to_string()))?
            }
            _ => current
                .issuer(line.pod_name())
                .sign_csr(&request_read, &due, self.inner.now(), settings.lifetime)
                .map_err(|error| match error {
                    SignError::Refused(reason) => refused(reason),
                    SignError::Ca(error) => {
                        tracing::error!(%error, "failed to sign");
                        No(TrustRefusal::IssuerUnavailable, error.to_string())
                    }
                })?,
        };
        let roots = self.inner.roots.borrow().as_deref().unwrap_or_default().to_owned();
        let certificate = Certificate { chain: signed.chain_pem.clone(), roots, not_after: signed.validity.until };
        Ok(Issued { certificate, component, usage: request.usage, names: due, signed })
    }
}

fn refused(reason: CsrRefused) -> No {
    let code = match reason {
        CsrRefused::Malformed(_) => TrustRefusal::CsrMalformed,
        CsrRefused::KeyNotSupported => TrustRefusal::CsrKeyNotSupported,
        CsrRefused::NotProven => TrustRefusal::CsrNotProven,
        CsrRefused::AsksTooMuch => TrustRefusal::CsrAsksTooMuch,
        CsrRefused::NamesDiffer => TrustRefusal::CsrNamesDiffer,
    };
    No(code, reason.to_string())
}

/// RFC 6750, 2.1; exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_ascii())
}
