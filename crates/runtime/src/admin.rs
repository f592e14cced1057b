//! The admin port: `/healthz`, `/readyz`, `/metrics`, and whatever API is merged into it.

use std::fmt::Write as _;
use std::future::IntoFuture as _;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Readiness;

/// Open connections get this long to finish when the server ends.
const LINGER: Duration = Duration::from_secs(1);
/// Content type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The admin server of one process. It goes on answering during drain: end it last.
#[derive(Debug)]
pub struct Server {
    router: Router,
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    registry: Arc<OnceLock<Arc<Registry>>>,
}

/// Metrics of a process that is still being put together: its admin port answers health checks before there is anything
/// to measure. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pending(Arc<OnceLock<Arc<Registry>>>);

impl Pending {
    /// Every part has registered: from now on `/metrics` shows this registry. Once; a second one is ignored.
    pub fn complete(&self, registry: Registry) {
        let _ = self.0.set(Arc::new(registry));
    }
}

impl Server {
    /// Serves the readiness and the metrics of this process. The registry is complete: components register before.
    pub fn new(readiness: Readiness, registry: Arc<Registry>) -> Self {
        Self::with(readiness, Arc::new(OnceLock::from(registry)))
    }

    /// As [`Server::new`], for a process whose metrics are not complete yet: until they are, `/metrics` answers 503.
    pub fn pending(readiness: Readiness) -> (Self, Pending) {
        let pending = Pending::default();
        (Self::with(readiness, Arc::clone(&pending.0)), pending)
    }

    fn with(readiness: Readiness, registry: Arc<OnceLock<Arc<Registry>>>) -> Self {
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Shared { readiness, registry });
        Self { router }
    }

    /// Adds routes, for example the admin API. They bring their own state and authentication.
    #[must_use]
    pub fn merge(mut self, api: Router) -> Self {
        self.router = self.router.merge(api);
        self
    }

    /// The whole as a service, for tests without a socket.
    pub fn into_router(self) -> Router {
        self.router
    }

    /// Answers until the token is cancelled and open requests are finished (one second at most).
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener, end: CancellationToken) -> io::Result<()> {
        let ended = end.clone();
        let serving = axum::serve(listener, self.router)
            .with_graceful_shutdown(async move { ended.cancelled().await })
            .into_future();
        tokio::select! {
            result = serving => result,
            () = async { end.cancelled().await; tokio::time::sleep(LINGER).await } => Ok(()),
        }
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let missing = shared.readiness.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let mut body = String::from("not ready\n");
    for (gate, reason) in missing {
        let _ = writeln!(body, "{gate}: {reason}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut body = String::new();
    let Some(registry) = shared.registry.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    match text::encode(&mut body, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("valid");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = response.into_body().collect().await.expect("collects").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn readyz_names_what_is_missing_and_healthz_does_not_care() {
        let readiness = Readiness::new();
        let gate = readiness.gate("configuration");
        let router = Server::new(readiness, Arc::default()).into_router();
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let (status, body) = get(&router, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\nconfiguration: not reached yet\n")
        );
        gate.open();
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_text_of_the_registry() {
        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("zen_test").register("events", "Events seen", Counter::<u64>::default());
        let extra = Router::new().route("/api/v1/x", axum::routing::get(async || "x"));
        let router = Server::new(Readiness::new(), Arc::new(registry)).merge(extra).into_router();
        let (_, body) = get(&router, "/metrics").await;
        assert!(body.contains("zen_test_events_total 0"), "{body}");
        assert_eq!(crate::metrics::problems(&body), Vec::<String>::new());
        assert_eq!(get(&router, "/api/v1/x").await.1, "x");
    }

    #[tokio::test]
    async fn a_process_that_starts_is_alive_before_it_has_metrics() {
        let readiness = Readiness::new();
        let gate = readiness.gate("identity");
        let (server, pending) = Server::pending(readiness);
        let router = server.into_router();
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        assert_eq!(get(&router, "/metrics").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        pending.complete(Registry::default());
        gate.open();
        assert_eq!(get(&router, "/metrics").await.0, StatusCode::OK);
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn ends_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let end = CancellationToken::new();
        let server = tokio::spawn(Server::new(Readiness::new(), Arc::default()).serve(listener, end.clone()));
        end.cancel();
        server.await.expect("joins").expect("ends well");
    }
}
