//! Accepts connections, and drives each to its end within the limits of W-16.

mod connection;
mod linger;
mod scan;
mod stream;
mod tap;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::Core;
use stream::Stream;
pub(crate) use wire::Wire;

/// After an error that concerns the process (no descriptors, no memory): how long to let connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub use zen_runtime::listen::bind;

/// Accepts until `shutdown`, then waits until every connection has finished, at most about `drain_timeout`.
pub(crate) async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(core.limits.max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&slots, &listener) => accepted,
        };
        let (slot, stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                core.metrics.accept_errors.inc();
                tracing::warn!(%error, "failed to accept a connection");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        let core = Arc::clone(&core);
        let acceptor = acceptor.clone();
        let shutdown = shutdown.child_token();
        connections.spawn(async move {
            core.metrics.connections.inc();
            if let Some(stream) = secure(&core, acceptor, stream).await {
                connection::drive(&core, stream, peer, shutdown).await;
            }
            core.metrics.connections.dec();
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is a slot for it.
async fn accept(
    slots: &Arc<Semaphore>,
    listener: &TcpListener,
) -> io::Result<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and must not wait for an acknowledgement of the last one.
    stream.set_nodelay(true)?;
    Ok((slot, stream, peer))
}

/// The handshake, within its limit. None: the client did not finish it.
async fn secure(core: &Core, acceptor: Option<TlsAcceptor>, stream: TcpStream) -> Option<Stream> {
    let Some(acceptor) = acceptor else { return Some(Stream::Plain(stream)) };
    let handshake = Box::pin(acceptor.accept(stream));
    match tokio::time::timeout(core.limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            core.metrics.handshake_failures.inc();
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => {
            core.metrics.handshake_failures.inc();
            None
        }
    }
}

/// Errors of `accept` that say nothing about the next one.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}
