//! One connection: HTTP/1.1 or HTTP/2 by ALPN, driven by hyper, with its silence judged by one timer.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_model::Refusal;

use super::linger;
use super::stream::Stream;
use super::tap::Tap;
use super::wire::{Due, Wire};
use crate::core::Core;
use crate::pipeline::{self, answer};

/// Bytes that one HTTP/2 stream, and a whole HTTP/2 connection, may send ahead of our reading.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// hyper's read buffer on an HTTP/1 connection: a head and the beginning of its body.
const BUFFER: usize = 64 * 1024;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself, or by the client.
    Done,
    /// A head was too slow.
    HeadTimeout,
}

/// Serves one connection to its end, lingering close included.
pub(super) async fn drive(core: &Arc<Core>, stream: Stream, peer: SocketAddr, shutdown: CancellationToken) {
    let wire = Arc::new(Wire::new());
    let http2 = stream.is_http2();
    let (tap, slot) = Tap::new(stream, Arc::clone(core), Arc::clone(&wire), !http2);
    let io = TokioIo::new(tap);
    let service = service_fn({
        let (core, wire) = (Arc::clone(core), Arc::clone(&wire));
        move |request: http::Request<Incoming>| {
            let (core, wire) = (Arc::clone(&core), Arc::clone(&wire));
            async move {
                wire.begin();
                let open = Open(&wire);
                let response: http::Response<Full<bytes::Bytes>> =
                    pipeline::handle(&core, peer.ip(), &wire, request).await;
                drop(open);
                Ok::<_, Infallible>(response)
            }
        }
    });
    let end = if http2 {
        let connection = http2_builder(core).serve_connection(io, service);
        supervise(core, connection, &wire, &shutdown, true, http2::Connection::graceful_shutdown).await
    } else {
        let connection = http1_builder(core).serve_connection(io, service);
        supervise(core, connection, &wire, &shutdown, false, http1::Connection::graceful_shutdown).await
    };
    let Some(mut stream) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    if end == End::HeadTimeout {
        core.refused(None, Refusal::RequestTimeout);
        if !http2 {
            let bytes = answer::raw(Refusal::RequestTimeout, &answer::generate_request_id());
            let _ = tokio::time::timeout(core.limits.linger_idle, stream.write_all(&bytes)).await;
            wire.linger();
        }
    }
    if wire.lingers() && !http2 {
        linger::close(stream, &core.limits).await;
    }
}

/// Ends with the request even when the client goes away and hyper drops the future.
struct Open<'a>(&'a Wire);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn http1_builder(core: &Core) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // 100 fields is hyper's own bound; naming it would move the parser's array to the heap.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(BUFFER.max(core.limits.header_bytes))
        .max_header_size(core.limits.header_bytes);
    builder
}

fn http2_builder(core: &Core) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(core.limits.h2_streams)
        .max_pending_accept_reset_streams(core.limits.h2_pending_resets)
        .max_header_list_size(u32::try_from(core.limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(core.limits.idle_timeout / 2)
        .keep_alive_timeout(core.limits.head_timeout);
    builder
}

/// Polls the connection until it ends, is idle or too slow, or has been told to end and does not.
async fn supervise<C, E>(
    core: &Core,
    connection: C,
    wire: &Wire,
    shutdown: &CancellationToken,
    http2: bool,
    finish: impl Fn(Pin<&mut C>),
) -> End
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let mut timer = pin!(tokio::time::sleep(core.limits.head_timeout));
    let mut told = pin!(shutdown.cancelled());
    let mut leaving = core.leaving.subscribe();
    let mut left = false;
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return End::Done;
            }
            () = &mut timer => {
                if ending {
                    return End::Done;
                }
                match wire.due(&core.limits) {
                    Due::Wait(until) => timer.as_mut().reset(until),
                    Due::HeadTimeout => return End::HeadTimeout,
                    Due::Idle => {
                        ending = true;
                        finish(connection.as_mut());
                        timer.as_mut().reset(Instant::now() + core.limits.head_timeout);
                    }
                }
            }
            // HTTP/1.1 says it with its next answer; doing it here would cut idle connections off.
            _ = leaving.wait_for(|leaving| *leaving), if http2 && !left && !ending => {
                left = true;
                finish(connection.as_mut());
            }
            () = &mut told, if !ending => {
                ending = true;
                finish(connection.as_mut());
                timer.as_mut().reset(Instant::now() + core.limits.drain_timeout);
            }
        }
    }
}
