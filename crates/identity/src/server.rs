//! The server's end of HTTP among our own parts: an axum router over TLS. Mutual TLS decides who may connect; [`require`]
//! decides per route who may do it (T-05).

mod body;
mod denials;
mod handshakes;
mod repeats;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{FromFnLayer, Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{Extensions, StatusCode};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use zen_model::reason::TrustRefusal;
use zen_pki::{Identity, SpiffeId};

use crate::policy::{Action, Mesh};
use crate::wire::Refused;
use body::Timed;

pub use denials::{Denial, Denials};
pub use handshakes::{Handshakes, RefusedHandshake};
pub use repeats::{Repeated, Repeats};

/// A handshake takes milliseconds; a peer that takes longer holds a place.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head must be there by then; also how long a connection may idle.
const HEAD: Duration = Duration::from_secs(75);
/// A request's body must be through by then: a page of a hand-over is the largest, and its sender waits no longer either.
const BODY: Duration = Duration::from_secs(30);
/// Requests at one time on one connection of HTTP/2.
const STREAMS: u32 = 1024;
/// Connections at one time.
const CONNECTIONS: usize = 512;
/// Open requests get this long when the server ends.
const LINGER: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, e.g. for want of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// What a peer presented in the handshake, leaf first; an extension of every request whose peer presented something.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Where a request came from; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct RemoteAddress(pub SocketAddr);

/// Who hears of what a listener refuses.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// Handshakes.
    pub handshakes: Handshakes,
    /// Denials of [`require`].
    pub denials: Denials,
}

/// Serves the control API of a workload until `shutdown` is cancelled and open requests are finished (five seconds at
/// most). Only the workloads of the same mesh that may do anything here get through the handshake. Requests carry the
/// peer's [`SpiffeId`] and the [`Mesh`] as extensions; a route without [`require`] is open to all of them.
///
/// # Errors
///
/// When the identity is not of a mesh's workload, or TLS cannot be set up. Not for what happens to connections.
pub async fn serve(
    listener: TcpListener,
    identity: &Identity,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), zen_pki::Error> {
    serve_telling(listener, identity, router, shutdown, Refusals::default()).await
}

/// As [`serve`], and tells what it refuses.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_telling(
    listener: TcpListener,
    identity: &Identity,
    router: Router,
    shutdown: CancellationToken,
    refusals: Refusals,
) -> Result<(), zen_pki::Error> {
    let control = [Action::Report, Action::Drain, Action::Adopt, Action::Peer];
    serve_for_telling(&control, listener, identity, router, shutdown, refusals).await
}

/// As [`serve`], for another API than that of control: only who may do one of `actions` gets through the handshake.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_for(
    actions: &[Action],
    listener: TcpListener,
    identity: &Identity,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), zen_pki::Error> {
    serve_for_telling(actions, listener, identity, router, shutdown, Refusals::default()).await
}

/// As [`serve_for`], and tells what it refuses.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_for_telling(
    actions: &[Action],
    listener: TcpListener,
    identity: &Identity,
    router: Router,
    shutdown: CancellationToken,
    refusals: Refusals,
) -> Result<(), zen_pki::Error> {
    let mesh = Mesh::of(identity.id()).ok_or_else(|| zen_pki::Error::Malformed {
        what: identity.id().to_string(),
        reason: "it is not the id of a workload of a mesh".to_owned(),
    })?;
    let allowed = mesh.permitted(actions);
    let mut tls = (*zen_pki::mtls_server(identity, allowed)?).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let Refusals { handshakes, denials } = refusals;
    let extend = move |extensions: &mut Extensions, certificates: Option<&[CertificateDer<'static>]>| {
        extensions.insert(mesh.clone());
        extensions.insert(denials.clone());
        insert_peer(extensions, certificates);
    };
    Server { connections: CONNECTIONS, handshakes }.serve(listener, Arc::new(tls), router, shutdown, extend).await;
    Ok(())
}

/// Puts the peer's [`SpiffeId`] into a request's extensions. Only for configurations whose verifier has checked it.
pub fn insert_peer(extensions: &mut Extensions, certificates: Option<&[CertificateDer<'static>]>) {
    if let Ok(id) = zen_pki::peer_id(certificates) {
        extensions.insert(id);
    }
}

/// Serves a router over TLS with HTTP/2 where ALPN chose it, and HTTP/1.1 elsewhere, until `shutdown` is cancelled and open requests are finished (five seconds at
/// most). `extend` adds to each request's extensions what is known of the peer; [`PeerCertificates`] is there already.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
    extend: impl Fn(&mut Extensions, Option<&[CertificateDer<'static>]>) + Clone + Send + Sync + 'static,
) {
    serve_tls_with(CONNECTIONS, listener, tls, router, shutdown, extend).await;
}

/// As [`serve_tls`], with another bound of connections at one time: for servers whose clients hold theirs.
pub async fn serve_tls_with(
    connections: usize,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
    extend: impl Fn(&mut Extensions, Option<&[CertificateDer<'static>]>) + Clone + Send + Sync + 'static,
) {
    Server { connections, ..Server::default() }.serve(listener, tls, router, shutdown, extend).await;
}

/// How connections are taken.
#[derive(Clone, Debug)]
pub struct Server {
    /// So many at one time.
    pub connections: usize,
    /// Who hears of handshakes that were refused.
    pub handshakes: Handshakes,
}

impl Default for Server {
    fn default() -> Self {
        Self { connections: CONNECTIONS, handshakes: Handshakes::default() }
    }
}

impl Server {
    /// See [`serve_tls`].
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        router: Router,
        shutdown: CancellationToken,
        extend: impl Fn(&mut Extensions, Option<&[CertificateDer<'static>]>) + Clone + Send + Sync + 'static,
    ) {
        let Self { connections, handshakes } = self;
        let places = Arc::new(Semaphore::new(connections));
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, (tcp, address)) = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                (place, accepted) = next => match accepted {
                    Ok((tcp, address)) => (place, (tcp, address)),
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let (tls, router, shutdown, extend) = (Arc::clone(&tls), router.clone(), shutdown.clone(), extend.clone());
            let handshakes = handshakes.clone();
            connections.spawn(async move {
                if let Err(reason) = connection((tcp, address), tls, router, shutdown, extend, &handshakes).await {
                    tracing::debug!(%reason, "a connection ended");
                }
                drop(place);
            });
        }
        drop(listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LINGER, rest).await.is_err() {
            tracing::debug!("connections were cut at the end");
        }
    }
}

async fn connection(
    (tcp, address): (TcpStream, SocketAddr),
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
    extend: impl Fn(&mut Extensions, Option<&[CertificateDer<'static>]>) + Clone + Send + Sync + 'static,
    handshakes: &Handshakes,
) -> Result<(), String> {
    let _ = tcp.set_nodelay(true);
    let accepting = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(tcp));
    let stream = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        accepted = accepting => accepted.map_err(|_| "the handshake took too long")?.map_err(|error| {
            handshakes.failed(address.ip(), &error);
            zen_pki::explain(&error)
        })?,
    };
    let mut extensions = Extensions::new();
    extensions.insert(RemoteAddress(address));
    let certificates = stream.get_ref().1.peer_certificates();
    if let Some(certificates) = certificates {
        let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned());
        extensions.insert(PeerCertificates(certificates.collect()));
    }
    extend(&mut extensions, certificates);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().extend(extensions.clone());
        router.clone().oneshot(request.map(|body| axum::body::Body::new(Timed::new(body, BODY))))
    });
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    // The two kinds of connections have no trait in common.
    macro_rules! served {
        ($connection:expr) => {{
            let mut serving = std::pin::pin!($connection);
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = shutdown.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }};
    }
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).keep_alive_interval(HEAD);
        served!(builder.serve_connection(stream, service))
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        served!(builder.serve_connection(stream, service))
    };
    ended.map_err(|error| error.to_string())
}

/// What [`require`] returns: a layer for a route or a router.
pub type Require = FromFnLayer<
    fn(State<Action>, Request, Next) -> Pin<Box<dyn Future<Output = Response> + Send>>,
    Action,
    (State<Action>, Request),
>;

/// Lets only peers through whom the policy lets do this; everybody else gets a 403 with the reason code. A request without
/// a peer's id in its extensions is refused too. Use it as a layer: `get(report).layer(require(Action::Report))`.
pub fn require(action: Action) -> Require {
    from_fn_with_state(action, |State(action), request, next| Box::pin(check(action, request, next)))
}

async fn check(action: Action, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<SpiffeId>();
    let mesh = request.extensions().get::<Mesh>();
    let denied = match (peer, mesh) {
        (Some(peer), Some(mesh)) => mesh.check(peer, action).err().map(|denied| (denied.reason(), denied.to_string())),
        _ => Some((TrustRefusal::WorkloadUnknown, "its peer is not known".to_owned())),
    };
    let Some((code, denied)) = denied else {
        return next.run(request).await;
    };
    let peer = peer.map(SpiffeId::as_str).unwrap_or_default();
    let response = Refusal::new(code);
    tracing::warn!(peer, code = code.code(), action = action.label(), reason = %denied, request_id = response.request_id, "refused");
    if let Some(denials) = request.extensions().get::<Denials>() {
        denials.denied(&Denial {
            who: peer,
            from: request.extensions().get::<RemoteAddress>().map(|address| address.0.ip()),
            action: action.label(),
            code: code.code(),
            request_id: &response.request_id,
            detail: &denied,
        });
    }
    response.into_response()
}

/// A refusal with its status and body, and the id that names it in the log.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: TrustRefusal,
    /// For the log line, and in the body.
    pub request_id: String,
}

impl Refusal {
    /// With a new request id.
    pub fn new(reason: TrustRefusal) -> Self {
        Self { reason, request_id: request_id() }
    }
}

/// A new id that names a request in logs and answers.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(Refused::new(self.reason, &self.request_id))).into_response();
        if let Some(seconds) = self.reason.retry_after() {
            response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
