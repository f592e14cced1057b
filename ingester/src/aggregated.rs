//! The API that people speak with a cluster's own means (K-08, C-02, T-08): group `data.zen-mesh.io`, served by the
//! ingesters behind the API server's aggregation layer.
//!
//! The API server authenticates the caller and passes the request on; [`front_proxy`] believes it only behind the
//! certificate that it proves itself with, and [`review`] asks it whether this caller may do this in this namespace. Any
//! replica answers for all of them ([`replicas`]). A namespace owns the events of its Webhooks and the dead letters of its
//! Destinations: who may administer a target reads what it refused.

mod discovery;
mod error;
mod front_proxy;
mod handlers;
mod listing;
mod merge;
mod object;
mod replicas;
mod review;
mod table;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zen_identity::server::{Denial, Denials, PeerCertificates, RemoteAddress, Server};
use zen_model::reason::TrustRefusal;
use zen_pki::HotCertificate;
use zen_pod::audit::Notes;
use zen_verify::SigningKeys;

use error::Error;
pub use front_proxy::{Caller, FrontProxy};
pub use replicas::Replicas;
pub use review::Reviewer;

/// The API's group.
pub const GROUP: &str = "data.zen-mesh.io";
/// Its version.
pub const VERSION: &str = "v1alpha1";

/// What the API is made of.
pub struct Parts {
    /// Whom the API server is known by.
    pub front_proxy: Arc<FrontProxy>,
    /// Who decides.
    pub reviewer: Reviewer,
    /// This replica and its peers.
    pub replicas: Replicas,
    /// Keys of targets, for those who administer them (W-12).
    pub signing_keys: Arc<SigningKeys>,
    /// Who was shown what, who changed something, and who was refused.
    pub notes: Notes,
}

/// Its name in entries of the audit log.
const LISTENER: &str = "api";

#[derive(Clone)]
struct Api {
    parts: Arc<Parts>,
    denials: Denials,
}

/// Serves the API until `shutdown`. `certificate` names the Service that the API server calls.
///
/// # Errors
/// TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    certificate: &HotCertificate,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::clone(&parts.front_proxy);
    let tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificate.clone()));
    let server = Server { handshakes: parts.notes.handshakes(LISTENER), ..Server::default() };
    server.serve(listener, Arc::new(tls), router(parts), shutdown, |_, _| {}).await;
    Ok(())
}

/// The routes; every one but `/healthz` asks for a caller that the API server vouches for.
pub fn router(parts: Parts) -> Router {
    let api = Api { denials: parts.notes.denials(LISTENER), parts: Arc::new(parts) };
    let base = format!("/apis/{GROUP}/{VERSION}");
    let everywhere = |resource: &str| format!("{base}/{resource}");
    let within = |rest: &str| format!("{base}/namespaces/{{namespace}}/{rest}");
    Router::new()
        .route("/apis", get(discovery::groups))
        .route(&format!("/apis/{GROUP}"), get(discovery::group))
        .route(&base, get(discovery::resources))
        .route(&everywhere("deadletters"), get(handlers::dead_letters))
        .route(&within("deadletters"), get(handlers::dead_letters))
        .route(&within("deadletters/{name}"), get(handlers::dead_letter))
        .route(&within("deadletters/{name}/payload"), get(handlers::payload))
        .route(&everywhere("webhookevents"), get(handlers::events))
        .route(&within("webhookevents"), get(handlers::events))
        .route(&within("webhookevents/{name}"), get(handlers::event))
        .route(&everywhere("meshstatuses"), get(handlers::statuses))
        .route(&within("meshstatuses"), get(handlers::statuses))
        .route(&everywhere("replays"), get(handlers::replays))
        .route(&within("replays"), post(handlers::start_replay).get(handlers::replays))
        .route(&within("replays/{name}"), get(handlers::replay))
        .route(&within("replays/{name}/cancel"), post(handlers::cancel_replay))
        .route(&within("signingkeys/{name}"), get(handlers::signing_key))
        .fallback(|| async { Error::NotFound("path", String::new()) })
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
        .layer(from_fn_with_state(api.clone(), authenticate))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(api)
}

/// Puts the [`Caller`] into the request's extensions, or refuses it.
async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let certificates = request.extensions().get::<PeerCertificates>();
    let certificates = certificates.map_or(&[][..], |certificates| &certificates.0);
    match api.parts.front_proxy.caller(certificates, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(reason) => {
            let from = request.extensions().get::<RemoteAddress>().map(|address| address.0.ip());
            let asked = Denial { who: "", from, action: "authenticate", code: "", request_id: "", detail: reason };
            api.refused(Error::Unauthenticated, &asked).into_response()
        }
    }
}

impl Api {
    /// The refusal, once it is told.
    fn refused(&self, error: Error, denial: &Denial<'_>) -> Error {
        if let Some(code) = error.refusal().map(TrustRefusal::code) {
            let Denial { who, action, detail, .. } = *denial;
            tracing::warn!(code, who, action, reason = detail, "a caller of the aggregated API was refused");
            self.denials.denied(&Denial { code, ..denial.clone() });
        }
        error
    }
}
