//! HTTP/1.1 requests over TLS, bounded in time and size.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::server::PeerCertificates;

/// Connecting and the handshake may take this long of a request's time.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("failed to connect to {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The peer is not whom it should be, or we are not for it.
    #[error("failed to agree on TLS: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("failed to exchange HTTP: {}", whole(.0))]
    Http(#[from] hyper::Error),
    /// The answer's body broke off or was too large.
    #[error("failed to read the answer: {0}")]
    Body(String),
    /// The time was over.
    #[error("failed to get an answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Error {
    /// Whether the peer did not take our certificate, or we not its: more than that nobody answers.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Tls(text) => text.contains("certificate") || text.contains("alert"),
            Self::Http(error) => {
                let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
                while let Some(error) = source {
                    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
                    let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
                    if inner.is_some() || error.is::<rustls::Error>() {
                        return true;
                    }
                    source = error.source();
                }
                false
            }
            Self::Connect { .. } | Self::Body(_) | Self::Timeout(_) => false,
        }
    }
}

/// With its causes: hyper says of a connection that was refused only that the operation was canceled.
fn whole(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let more = cause.downcast_ref::<io::Error>().map_or_else(|| cause.to_string(), zen_pki::explain);
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Ends the connection's task with the request.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that requests go over one after another; it ends when it is dropped.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    presented: PeerCertificates,
    _task: AbortOnDrop,
}

impl Connection {
    /// Connects, and agrees on TLS.
    pub async fn open(
        address: SocketAddr,
        name: ServerName<'static>,
        tls: Arc<ClientConfig>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let connect = async {
            let tcp = TcpStream::connect(address).await.map_err(|source| Error::Connect { address, source })?;
            // Requests are one small write: waiting for more of it helps nobody.
            let _ = tcp.set_nodelay(true);
            TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| Error::Tls(zen_pki::explain(&error)))
        };
        let limit = CONNECT.min(timeout);
        let stream = tokio::time::timeout(limit, connect).await.map_err(|_| Error::Timeout(limit))??;
        let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let presented =
            PeerCertificates(presented.iter().map(|certificate| certificate.clone().into_owned()).collect());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = AbortOnDrop(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection among our own parts broke");
            }
        }));
        Ok(Self { sender, presented, _task: task })
    }

    /// Sends a request and reads the whole answer, which has what the peer presented in the handshake as an extension
    /// ([`PeerCertificates`]).
    pub async fn send(&mut self, request: Request<Full<Bytes>>, max_body: usize) -> Result<Response<Bytes>, Error> {
        self.sender.ready().await?;
        let (mut head, body) = self.sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, max_body).collect().await.map_err(|error| Error::Body(error.to_string()))?;
        head.extensions.insert(self.presented.clone());
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_closed", &self.sender.is_closed()).finish_non_exhaustive()
    }
}

/// Sends one request over a connection of its own.
pub async fn exchange(
    address: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    max_body: usize,
) -> Result<Response<Bytes>, Error> {
    let whole = async { Connection::open(address, name, tls, timeout).await?.send(request, max_body).await };
    tokio::time::timeout(timeout, whole).await.map_err(|_| Error::Timeout(timeout))?
}
