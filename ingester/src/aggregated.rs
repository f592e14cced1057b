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
use zen_identity::server::{PeerCertificates, serve_tls};
use zen_pki::HotCertificate;
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
}

#[derive(Clone)]
struct Api {
    parts: Arc<Parts>,
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
    serve_tls(listener, Arc::new(tls), router(parts), shutdown, |_, _| {}).await;
    Ok(())
}

/// The routes; every one but `/healthz` asks for a caller that the API server vouches for.
pub fn router(parts: Parts) -> Router {
    let api = Api { parts: Arc::new(parts) };
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
            tracing::warn!(%reason, "a caller of the aggregated API was refused");
            Error::Unauthenticated.into_response()
        }
    }
}
