//! The side that connects.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use zen_pki::explain;

use crate::proof::presented;
use crate::session::{Receiver, codec, open};
use crate::{Error, METHOD, Metrics, Options, Session, Side};

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Where the peer listens: a host and port, resolved anew for every attempt.
#[derive(Clone)]
pub struct Target {
    name: String,
    resolve: Arc<dyn Fn(String) -> Resolving + Send + Sync>,
}

impl Target {
    /// `host:port`, resolved by the system.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_resolver(name, |name| async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }

    /// `host:port`, resolved by the caller: static binaries resolve with hickory.
    pub fn with_resolver<F>(name: impl Into<String>, resolve: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self { name: name.into(), resolve: Arc::new(move |name| Box::pin(resolve(name))) }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::with_resolver(address.to_string(), move |_| std::future::ready(Ok(vec![address])))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.name).finish()
    }
}

/// Connects to one peer, once or for ever.
#[derive(Clone, Debug)]
pub struct Dialer<S> {
    target: Target,
    tls: Arc<ClientConfig>,
    side: S,
    options: Options,
    metrics: Metrics,
}

impl<S: Side> Dialer<S> {
    /// `tls` is [`zen_pki::mtls_client`]'s: it decides who the peer must be.
    pub fn new(target: Target, tls: Arc<ClientConfig>, side: S, metrics: Metrics) -> Self {
        Self { target, tls, side, options: Options::default(), metrics }
    }

    /// With other limits and timings.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// One attempt to connect and greet.
    pub async fn connect(&self) -> Result<Session<S>, Error> {
        let session = Box::pin(self.try_connect()).await;
        self.metrics.dialed(session.as_ref().map(|_| ()));
        session
    }

    /// Connects, runs `on_session` until it returns, and connects again, for as long as it is polled: drop it to stop.
    /// The session is up when `on_session` is called and down when its future ends. Pauses between failures grow with
    /// jitter, and start over after a session that lasted.
    pub async fn keep_connected<F>(&self, on_session: impl FnMut(Session<S>) -> F)
    where
        F: Future<Output = ()>,
    {
        self.keep_connected_until(std::future::pending(), on_session).await;
    }

    /// As [`keep_connected`](Self::keep_connected), until `end`: from then on nothing is dialled, and a session that is up
    /// is left to end by itself, as a peer that drains ends it.
    pub async fn keep_connected_until<F>(
        &self,
        end: impl Future<Output = ()>,
        mut on_session: impl FnMut(Session<S>) -> F,
    ) where
        F: Future<Output = ()>,
    {
        let mut end = pin!(end);
        let (first, longest) = self.options.backoff;
        let pauses = || {
            ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().with_jitter()
        };
        let mut backoff = pauses().build();
        let mut last_failure = None;
        loop {
            let connected = tokio::select! {
                biased;
                () = &mut end => return,
                connected = self.connect() => connected,
            };
            match connected {
                Ok(session) => {
                    tracing::info!(peer = %session.peer, target = %self.target.name, "link is up");
                    let since = Instant::now();
                    on_session(session).await;
                    tracing::info!(target = %self.target.name, "link is down");
                    last_failure = None;
                    // A peer that takes sessions and drops them at once is a failure too.
                    if since.elapsed() > longest {
                        backoff = pauses().build();
                    }
                }
                Err(error) if last_failure == Some(error.category()) => {
                    tracing::debug!(%error, "link is still down");
                }
                Err(error) => {
                    last_failure = Some(error.category());
                    tracing::warn!(%error, "link is down; will try again");
                }
            }
            tokio::select! {
                biased;
                () = &mut end => return,
                () = tokio::time::sleep(backoff.next().unwrap_or(longest)) => {}
            }
        }
    }

    async fn try_connect(&self) -> Result<Session<S>, Error> {
        let connecting = timeout(self.options.connect_timeout, self.secure());
        let stream = connecting.await.map_err(|_| Error::TimedOut("connect"))??;
        let presented = presented(stream.get_ref().1)?;
        let greeting = timeout(self.options.greeting_timeout, self.feed(stream));
        let (sender, receiver) = greeting.await.map_err(|_| Error::TimedOut("open the stream"))??;
        open(&self.side, presented, sender, receiver, &self.options, &self.metrics).await
    }

    async fn secure(&self) -> Result<TlsStream<TcpStream>, Error> {
        let tcp = self.tcp().await.map_err(|source| Error::Connect { target: self.target.name.clone(), source })?;
        let address = tcp.peer_addr().map_err(|error| Error::Tls(error.to_string()))?;
        // The peer is known by its SPIFFE id; the name is not compared with anything, and an address sends none.
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, tcp).await.map_err(|error| {
            self.metrics.handshake_failed(address.ip(), &error);
            Error::Tls(explain(&error))
        })
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.target.resolve)(self.target.name.clone()).await? {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    tcp.set_nodelay(true)?;
                    return Ok(tcp);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn feed(
        &self,
        stream: TlsStream<TcpStream>,
    ) -> Result<(mpsc::Sender<S::Sent>, Receiver<S::Received>), Error> {
        let options = &self.options;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.window)
            .initial_connection_window_size(options.window)
            .max_frame_size(MAX_DATA_FRAME)
            .keep_alive_interval(options.keep_alive)
            .keep_alive_timeout(options.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::of_transport(&error))?;
        // Ends by itself: when the session is dropped, when the peer closes, or when a ping stays unanswered.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %Error::of_transport(&error), "link connection ended");
            }
        });
        let (sender, outgoing) = mpsc::channel(options.queue);
        let mut grpc = Grpc::with_origin(Requests(requests.clone()), Uri::from_static("https://zen-link"))
            .max_decoding_message_size(options.max_received)
            .max_encoding_message_size(options.max_frame);
        let path = PathAndQuery::from_static(METHOD);
        let answer =
            grpc.streaming(tonic::Request::new(ReceiverStream::new(outgoing)), path, codec::<S>(&self.metrics));
        let stream = answer.await.map_err(|status| Error::of_status(&status))?.into_inner();
        Ok((sender, Receiver::dialed(stream, requests)))
    }
}

/// DATA frames of this size at most: few headers, and still small beside the window.
pub(crate) const MAX_DATA_FRAME: u32 = 256 << 10;

/// One HTTP/2 connection as the service that tonic asks for.
#[derive(Clone)]
struct Requests(http2::SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Requests {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
