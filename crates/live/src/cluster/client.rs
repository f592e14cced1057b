//! A client of the API server for hundreds of watches.
//!
//! The usual client speaks HTTP/1.1, where each watch is a connection of its own: a pod that watches a thousand Secrets
//! would hold a thousand. Here they are streams of HTTP/2 connections. An API server allows so many streams on one
//! connection (100 unless told otherwise), and a further watch would wait behind them for ever; so streams are counted,
//! and another connection is opened in time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use rustls_pki_types::ServerName;
use tower::{BoxError, Service, ServiceBuilder};

use super::Error;

/// Streams of one connection, below the 100 that an API server allows unless told otherwise.
const STREAMS: usize = 64;
/// A connection must be there after this.
const CONNECT: Duration = Duration::from_secs(10);
/// The head of an answer must be there after this. A watch's comes at once, and an API server gives up on any other request
/// after a minute; what is longer is a handshake that stopped half-way, or a server that is there no more.
const HEAD: Duration = Duration::from_secs(75);
/// A connection on which nothing came for so long is asked, …
const PING: Duration = Duration::from_secs(10);
/// … and is dead without an answer within this.
const PONG: Duration = Duration::from_secs(10);

/// A client for many watches: over few connections, spread so that no server's limit of streams is met, and with
/// keep-alives that notice a dead connection within seconds.
///
/// It does not retry by itself: whoever watches has a policy of its own.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(config: kube::Config) -> Result<kube::Client, Error> {
    patient(config, HEAD)
}

fn patient(config: kube::Config, head: Duration) -> Result<kube::Client, Error> {
    let spread = Spread { connector: connector(&config)?, connections: Arc::default(), head };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(spread);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

fn connector(config: &kube::Config) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_nodelay(true);
    let tls = config.rustls_client_config()?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).map_err(|_| Error::ServerName(name.clone()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().enable_http2().wrap_connector(tcp))
}

/// Gives each request to a connection that has room.
#[derive(Clone)]
struct Spread {
    connector: HttpsConnector<HttpConnector>,
    connections: Arc<Mutex<Vec<Connection>>>,
    head: Duration,
}

/// A pool of one connection, as long as the server speaks HTTP/2; where it does not, each of its requests has its own.
struct Connection {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    streams: Stream,
}

/// A share of a connection's streams: one for each clone beside the first.
type Stream = Arc<()>;

impl Spread {
    fn reserve(&self) -> (Client<HttpsConnector<HttpConnector>, Body>, Stream) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let found = connections.iter().position(|connection| Arc::strong_count(&connection.streams) <= STREAMS);
        let index = found.unwrap_or_else(|| {
            connections.push(Connection { client: connect(self.connector.clone()), streams: Stream::default() });
            connections.len() - 1
        });
        let reserved = &connections[index];
        let reserved = (reserved.client.clone(), Arc::clone(&reserved.streams));
        // Those that are idle at the end go; the pool behind them closes its connection.
        while connections.len() > index + 1
            && connections.last().is_some_and(|last| Arc::strong_count(&last.streams) == 1)
        {
            connections.pop();
        }
        reserved
    }
}

fn connect(connector: HttpsConnector<HttpConnector>) -> Client<HttpsConnector<HttpConnector>, Body> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .build(connector)
}

impl Service<Request<Body>> for Spread {
    type Response = Response<Counted>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, stream) = self.reserve();
        let head = self.head;
        Box::pin(async move {
            let answered = tokio::time::timeout(head, client.request(request)).await;
            let response = answered.map_err(|_| format!("no answer began within {} s", head.as_secs()))??;
            Ok(response.map(|body| Counted { body, _stream: stream }))
        })
    }
}

/// A response body that holds its stream until it is dropped.
struct Counted {
    body: Incoming,
    _stream: Stream,
}

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that takes the connection and says nothing, not even a handshake, is given up.
    #[tokio::test]
    async fn an_answer_that_does_not_begin_is_not_waited_for_for_ever() {
        for scheme in ["http", "https"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let url = format!("{scheme}://{}", listener.local_addr().expect("an address"));
            let config = kube::Config::new(url.parse().expect("a URL"));
            let client = patient(config, Duration::from_millis(50)).expect("a client");
            let error = Api::<Namespace>::all(client).get("x").await.expect_err("nobody answers").to_string();
            assert!(error.contains("no answer began"), "{scheme}: {error}");
        }
    }
}
