//! The side that listens.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Response, Status, Streaming};
use zen_pki::explain;

use crate::dial::MAX_DATA_FRAME;
use crate::proof::presented;
use crate::session::{Receiver, codec, open};
use crate::{Error, METHOD, Metrics, Options, Presented, Session, Side};

/// Time for the last frames of a session that was dropped to reach the peer.
const LINGER: Duration = Duration::from_secs(5);
/// Time for a refused peer to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// Out of descriptors: accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts sessions until `shutdown` completes, then takes no more and returns when those that are up have ended by
/// themselves; drop it to end them at once. `tls` is [`zen_pki::mtls_server`]'s or
/// [`zen_pki::mtls_server_by`]'s: it decides who gets in. `on_session`
/// runs as a task of its own for each session; the session is down when its future ends.
pub async fn serve<S, F>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    side: S,
    options: Options,
    metrics: Metrics,
    on_session: impl Fn(Session<S>) -> F + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send,
) where
    S: Side,
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(options.max_sessions));
    let shared = Arc::new(Listener { acceptor: TlsAcceptor::from(tls), side, options, metrics, on_session });
    let mut shutdown = pin!(shutdown);
    let mut tasks = JoinSet::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            // Keeps the set from growing with tasks that have ended.
            Some(_) = tasks.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    let _permit = permit;
                    Box::pin(shared.session(tcp, address)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a link connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

struct Listener<S, H> {
    acceptor: TlsAcceptor,
    side: S,
    options: Options,
    metrics: Metrics,
    on_session: H,
}

impl<S: Side, H, F> Listener<S, H>
where
    H: Fn(Session<S>) -> F + Send + Sync,
    F: Future<Output = ()> + Send + 'static,
{
    /// One connection from its first byte to its last.
    async fn session(&self, tcp: TcpStream, address: SocketAddr) {
        let mut connection = None;
        let linger = match self.open(tcp, address, &mut connection).await {
            Ok(session) => {
                let peer = session.peer.clone();
                tracing::info!(%peer, %address, "link is up");
                (self.on_session)(session).await;
                tracing::info!(%peer, %address, "link is down");
                LINGER
            }
            Err(error) => {
                self.metrics.refused(&error);
                tracing::warn!(%address, %error, "link connection refused");
                FAREWELL
            }
        };
        if let Some(connection) = &mut connection {
            // The stream is dropped, its last frames are on their way. A peer that does not hang up is cut off.
            let _ = timeout(linger, &mut connection.0).await;
        }
    }

    async fn open(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        connection: &mut Option<Connection>,
    ) -> Result<Session<S>, Error> {
        let securing = timeout(self.options.connect_timeout, self.secure(tcp, address));
        let (presented, stream) = securing.await.map_err(|_| Error::TimedOut("establish mutual TLS"))??;
        let (driver, feed) = self.drive(stream);
        let driver = connection.insert(driver);
        let feed = tokio::select! {
            feed = timeout(self.options.greeting_timeout, feed) => feed,
            ended = &mut driver.0 => return Err(ended_early(ended)),
        };
        let (sender, receiver) = feed
            .map_err(|_| Error::TimedOut("open the stream"))?
            .map_err(|_| Error::Lost("the peer closed the connection".to_owned()))?;
        open(&self.side, presented, sender, receiver, &self.options, &self.metrics).await
    }

    async fn secure(&self, tcp: TcpStream, address: SocketAddr) -> Result<(Presented, TlsStream<TcpStream>), Error> {
        tcp.set_nodelay(true).map_err(|error| Error::Lost(error.to_string()))?;
        let stream = match self.acceptor.accept(tcp).into_fallible().await {
            Ok(stream) => stream,
            Err((error, tcp)) => {
                self.metrics.handshake_failed(address.ip(), &error);
                // The peer is told by an alert. Closing over bytes that were not read would reset the connection, and
                // the alert with it.
                let _ = timeout(FAREWELL, hang_up(tcp)).await;
                return Err(Error::Tls(explain(&error)));
            }
        };
        let presented = presented(stream.get_ref().1)?;
        Ok((presented, stream))
    }

    /// Serves HTTP/2 in a task of its own; the stream is handed over when the peer opens it.
    fn drive(&self, stream: TlsStream<TcpStream>) -> (Connection, oneshot::Receiver<Feed<S>>) {
        let (hand_over, feed) = oneshot::channel();
        let hand_over = Arc::new(Mutex::new(Some(hand_over)));
        let (metrics, Options { queue, max_frame, max_received, .. }) = (self.metrics.clone(), self.options.clone());
        let service = service_fn(move |request: http::Request<Incoming>| {
            let broken = Broken::default();
            let request = request.map(|body| Watched { body, broken: broken.clone() });
            let accept = Accept::<S> { hand_over: Arc::clone(&hand_over), queue, broken };
            let codec = codec::<S>(&metrics);
            async move {
                if request.uri().path() != METHOD {
                    return Ok::<_, Infallible>(Status::unimplemented("unknown method").into_http());
                }
                let mut grpc =
                    Grpc::new(codec).max_decoding_message_size(max_received).max_encoding_message_size(max_frame);
                Ok(grpc.streaming(accept, request).await)
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.options.window)
            .initial_connection_window_size(self.options.window)
            .max_frame_size(MAX_DATA_FRAME)
            .max_send_buf_size(1 << 20)
            .max_concurrent_streams(1)
            .keep_alive_interval(self.options.keep_alive)
            .keep_alive_timeout(self.options.keep_alive_timeout)
            .serve_connection(TokioIo::new(stream), service);
        (Connection(tokio::spawn(connection)), feed)
    }
}

type Feed<S> = (mpsc::Sender<<S as Side>::Sent>, Receiver<<S as Side>::Received>);

/// The HTTP/2 connection's task; it does not outlive this.
struct Connection(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn hang_up(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.shutdown().await?;
    tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await?;
    Ok(())
}

fn ended_early(ended: Result<Result<(), hyper::Error>, JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => Error::of_transport(&error),
        _ => Error::Lost("the peer closed the connection".to_owned()),
    }
}

/// Notes whether a request stream ended without the peer's end mark. To tonic a client that vanished, was reset or fell
/// silent has merely finished; to a session that is a loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<AtomicBool>);

impl Broken {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request body that sets its [`Broken`].
struct Watched {
    body: Incoming,
    broken: Broken,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) && !self.body.is_end_stream() {
            self.broken.0.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }
}

/// Takes the one stream of a connection.
struct Accept<S: Side> {
    hand_over: Arc<Mutex<Option<oneshot::Sender<Feed<S>>>>>,
    queue: usize,
    broken: Broken,
}

impl<S: Side> StreamingService<S::Received> for Accept<S> {
    type Response = S::Sent;
    type ResponseStream = Map<ReceiverStream<S::Sent>, fn(S::Sent) -> Result<S::Sent, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<S::Received>>) -> Self::Future {
        let (sender, outgoing) = mpsc::channel(self.queue);
        let feed = (sender, Receiver::served(request.into_inner(), self.broken.clone()));
        let hand_over = self.hand_over.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken = hand_over.is_some_and(|hand_over| hand_over.send(feed).is_ok());
        std::future::ready(if taken {
            let frame: fn(S::Sent) -> Result<S::Sent, Status> = Ok;
            Ok(Response::new(ReceiverStream::new(outgoing).map(frame)))
        } else {
            Err(Status::resource_exhausted("a connection has one stream"))
        })
    }
}
