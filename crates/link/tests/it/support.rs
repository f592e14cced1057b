//! Two parts that trust one CA, a listener on a free port, and events to send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zen_link::frame::{Lease, Token};
use zen_link::{Claim, Dialer, Egress, Ingester, Metrics, Options, Session, Side};
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain, mtls_client, mtls_server};

/// Far more than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn id(account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "zen-mesh", account).expect("valid")
}

fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

pub struct Mesh {
    ca: Ca,
}

impl Mesh {
    pub fn new() -> Self {
        Self { ca: Ca::ephemeral(&domain()).expect("a CA") }
    }

    fn identity(&self, account: &str) -> Identity {
        let certificate = self.ca.issue_workload(&id(account), Duration::from_hours(1)).expect("issued");
        Identity::new(&certificate, &self.ca.roots().expect("roots")).expect("an identity")
    }

    pub fn server(&self, account: &str, allowed: &str) -> Arc<ServerConfig> {
        mtls_server(&self.identity(account), vec![id(allowed)]).expect("configured")
    }

    pub fn client(&self, account: &str, expected: &str) -> Arc<ClientConfig> {
        mtls_client(&self.identity(account), id(expected)).expect("configured")
    }
}

pub fn ingester() -> Ingester {
    Ingester { instance: "ingester-0".into(), term: Duration::from_mins(1), judge: None }
}

pub fn egress() -> Egress {
    Egress { instance: "egress-0".into(), incarnation: 0, max_leases: 1000, max_bytes: 64 << 20, claim: Claim::Own }
}

/// A listener that hands its sessions over.
pub struct Listening<S: Side> {
    pub address: SocketAddr,
    pub sessions: mpsc::Receiver<(Session<S>, oneshot::Sender<()>)>,
    /// The handler of each session waits for one of these to be dropped; its connection would be cut off otherwise.
    pub handlers: Vec<oneshot::Sender<()>>,
    pub metrics: Metrics,
    pub task: JoinHandle<()>,
    pub shutdown: Option<oneshot::Sender<()>>,
}

pub async fn listen<S: Side>(tls: Arc<ServerConfig>, side: S, options: Options) -> Listening<S> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    listen_on(listener, tls, side, options)
}

pub fn listen_on<S: Side>(listener: TcpListener, tls: Arc<ServerConfig>, side: S, options: Options) -> Listening<S> {
    listen_telling(listener, tls, side, options, Metrics::default())
}

pub fn listen_telling<S: Side>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    side: S,
    options: Options,
    metrics: Metrics,
) -> Listening<S> {
    let address = listener.local_addr().expect("an address");
    let (hand_over, sessions) = mpsc::channel(16);
    let (shutdown, stop) = oneshot::channel();
    let counted = metrics.clone();
    let task = tokio::spawn(async move {
        let on_session = move |session| {
            let hand_over = hand_over.clone();
            async move {
                let (handler, ended) = oneshot::channel();
                let _ = hand_over.send((session, handler)).await;
                let _ = ended.await;
            }
        };
        let stopped = async {
            let _ = stop.await;
        };
        zen_link::serve(listener, tls, side, options, counted, on_session, stopped).await;
    });
    Listening { address, sessions, handlers: Vec::new(), metrics, task, shutdown: Some(shutdown) }
}

impl<S: Side> Listening<S> {
    pub async fn session(&mut self) -> Session<S> {
        let (session, handler) = timeout(PATIENCE, self.sessions.recv()).await.expect("in time").expect("listening");
        self.handlers.push(handler);
        session
    }
}

pub fn dialer<S: Side>(address: SocketAddr, tls: Arc<ClientConfig>, side: S) -> Dialer<S> {
    Dialer::new(address.into(), tls, side, Metrics::default())
}

/// An ingester that has dialled an egress.
pub async fn pair(options: Options) -> (Session<Ingester>, Session<Egress>, Listening<Egress>) {
    let mesh = Mesh::new();
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), options.clone()).await;
    let dialer = dialer(listening.address, mesh.client("ingester", "egress"), ingester()).with_options(options);
    let near = timeout(PATIENCE, dialer.connect()).await.expect("in time").expect("connected");
    let far = listening.session().await;
    (near, far, listening)
}

pub fn lease(seq: u64, size: usize) -> Lease {
    let fill = u8::try_from(seq % 251).expect("small");
    Lease {
        token: Token { seq, destination: 1, lease: seq + 1 },
        destination: "team-a/ci".into(),
        signature: "v=1,t=1,n=n,k=k,s=s".into(),
        record: Bytes::from(vec![fill; size]),
        ..Lease::default()
    }
}
