//! An HTTP/1.1 target that does what the test says, over plain TCP or TLS.

mod answer;
mod connection;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use answer::Answer;
pub use request::Received;

use crate::TestCa;

type Chooser = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// A target on a free port, of the loopback unless told otherwise. Records every request that arrived whole, and answers
/// each with the next [`Answer`] of its script, or with the standing one (200 at first) when the script is empty. Ends
/// when dropped.
pub struct Upstream {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

pub(crate) struct Shared {
    script: Mutex<VecDeque<Answer>>,
    standing: Mutex<Chooser>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    connections: watch::Sender<usize>,
}

impl Upstream {
    /// Without TLS.
    pub async fn http() -> Self {
        Self::http_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Without TLS, at another address of this machine: one that pods of a cluster reach.
    pub async fn http_at(address: IpAddr) -> Self {
        Self::start(None, address).await
    }

    /// With TLS and a certificate of `ca` for these names (`localhost`, `127.0.0.1`, or wrong ones on purpose).
    pub async fn https(ca: &TestCa, names: &[&str]) -> Self {
        Self::start(Some(TlsAcceptor::from(ca.server(names))), Ipv4Addr::LOCALHOST.into()).await
    }

    async fn start(tls: Option<TlsAcceptor>, address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let ok: Chooser = Arc::new(|_| Answer::status(200));
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            standing: Mutex::new(ok),
            received: Mutex::default(),
            count: watch::Sender::new(0),
            connections: watch::Sender::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(connection::accept(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `scheme://address:port` followed by `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Adds to the script: used for one request.
    pub fn then(&self, answer: Answer) -> &Self {
        lock(&self.shared.script).push_back(answer);
        self
    }

    /// Replaces the standing answer.
    pub fn always(&self, answer: Answer) -> &Self {
        self.always_with(move |_| answer.clone())
    }

    /// Replaces the standing answer by a choice made for each request.
    pub fn always_with(&self, choose: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> &Self {
        *lock(&self.shared.standing) = Arc::new(choose);
        self
    }

    /// Every request so far, in the order of arrival.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Those that arrived after the first `count`.
    pub fn received_after(&self, count: usize) -> Vec<Received> {
        lock(&self.shared.received).get(count..).unwrap_or_default().to_vec()
    }

    /// Waits until at least `count` requests have arrived whole, and returns all.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_for_count(count).await;
        self.received()
    }

    /// Waits until at least `count` requests have arrived whole.
    pub async fn wait_for_count(&self, count: usize) {
        let _ = self.shared.count.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until at least `count` TCP connections were accepted, with or without a request.
    pub async fn wait_for_connections(&self, count: usize) {
        let _ = self.shared.connections.subscribe().wait_for(|accepted| *accepted >= count).await;
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.url(""))
    }
}

impl Shared {
    /// Records a request and decides its answer.
    fn take(&self, request: Received) -> Answer {
        let scripted = lock(&self.script).pop_front();
        let answer = scripted.unwrap_or_else(|| {
            let choose = Arc::clone(&lock(&self.standing));
            choose(&request)
        });
        lock(&self.received).push(request);
        self.count.send_modify(|count| *count += 1);
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
