//! Several ingesters and egresses, each a whole replica with mutual TLS between them, on loopback (K-04, D-02, D-10): what
//! a rolling update, a lost pod and a change of replicas look like to sources and targets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_compile::Snapshot;
use zen_deliver::{Deliverer, StaticResolver};
use zen_egress::Egress;
use zen_ingester::ending::{Ends, Limits};
use zen_ingester::listener;
use zen_ingester::replica::{Addresses, Parts, Replica};
use zen_model::Secret;
use zen_model::observe::Unwatched;
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain, mtls_client, mtls_server};
use zen_queue::embedded::{self, Embedded};
use zen_runtime::{Readiness, Tasks};
use zen_seal::Keyring;
use zen_testkit::{Answer, Gate, Upstream};
use zen_verify::SigningKeys;

use crate::kit::{TOKEN, post, read_one, until};
use tokio::io::AsyncWriteExt as _;

/// A Webhook `team-a/hook` that trusts [`TOKEN`], and a Destination `team-a/ci` at this target.
fn manifests(upstream: &Upstream, destination: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: s, namespace: team-a}}
stringData: {{token: {TOKEN}}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: hook, namespace: team-a}}
spec:
  verification: {{provider: bearer, secrets: [{{secretRef: {{name: s, key: token}}}}]}}
  event: {{id: {{header: X-Event}}}}
  routes: [{{destinations: [{{name: ci}}]}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: team-a}}
spec:
  target: {{url: '{}'}}
  network: {{allowCidrs: [127.0.0.0/8]}}
  {destination}
",
        upstream.url("/")
    )
}

/// What all pods share.
struct Mesh {
    ca: Ca,
    signing: Arc<SigningKeys>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Of the egresses that are ready.
    addresses: watch::Sender<Addresses>,
}

impl Mesh {
    fn new(manifests: &str) -> Self {
        let compiled = zen_live::testing::compile_yaml(manifests);
        assert!(compiled.verdicts.iter().all(zen_compile::Verdict::accepted), "{:?}", compiled.verdicts);
        Self {
            ca: Ca::ephemeral(&domain()).unwrap(),
            signing: Arc::new(SigningKeys::new(Secret::new([7; 32]))),
            snapshot: Arc::new(ArcSwap::from_pointee(compiled.snapshot)),
            addresses: watch::Sender::default(),
        }
    }

    fn identity(&self, account: &str) -> Identity {
        let issued = self.ca.issue_workload(&id(account), Duration::from_hours(1)).unwrap();
        Identity::new(&issued, &self.ca.roots().unwrap()).unwrap()
    }

    /// What the `EndpointSlice`s say.
    fn ready(&self, egresses: &[&EgressPod]) {
        self.addresses.send_replace(Arc::new(egresses.iter().map(|egress| egress.address).collect()));
    }

    async fn egress(&self, name: &str) -> EgressPod {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let signing = Arc::clone(&self.signing);
        let mut registry = Registry::default();
        let egress = Egress::new(
            zen_egress::Parts {
                snapshot: Arc::clone(&self.snapshot),
                deliverer: Deliverer::new(Arc::new(StaticResolver::default())),
                link_keys: signing.link(),
                target_keys: Arc::new(move |key| Arc::new(signing.destination(key))),
                observer: Arc::new(Unwatched),
                member: None,
                options: zen_egress::Options { instance: name.to_owned(), ..zen_egress::Options::default() },
            },
            registry.sub_registry_with_prefix("zen_egress"),
        );
        let tls = mtls_server(&self.identity("zen-egress"), vec![id("zen-ingester")]).unwrap();
        let end = CancellationToken::new();
        let serving = egress.serve(listener, tls, zen_link::Metrics::default(), end.clone());
        EgressPod { address, end, serving: tokio::spawn(serving) }
    }

    fn ingester(&self, name: &str) -> IngesterPod {
        let (snapshot, signing) = (Arc::clone(&self.snapshot), Arc::clone(&self.signing));
        let Started { address, replica, registry, mut tasks, state, .. } =
            Started::new(name, snapshot, signing, zen_ingester::replica::TERM);
        let tls = mtls_client(&self.identity("zen-ingester"), id("zen-egress")).unwrap();
        let sessions = replica.link(&mut tasks, self.addresses.subscribe(), tls, zen_link::Metrics::default());
        IngesterPod { address, replica, sessions, registry, _tasks: tasks, _state: state }
    }
}

/// A replica whose intake is open, and what it runs on.
pub struct Started {
    pub address: SocketAddr,
    pub replica: Replica,
    pub registry: Registry,
    pub readiness: Readiness,
    pub ends: Ends,
    pub tasks: Tasks,
    pub state: TempDir,
}

impl Started {
    pub fn new(name: &str, snapshot: Arc<ArcSwap<Snapshot>>, signing: Arc<SigningKeys>, term: Duration) -> Self {
        let state = tempfile::tempdir().unwrap();
        let queue = Embedded::open(state.path(), Keyring::ephemeral(), embedded::Options::default()).unwrap();
        let mut registry = Registry::default();
        let (mut tasks, ends, readiness) = (Tasks::new(), Ends::default(), Readiness::new());
        let parts = Parts {
            instance: name.to_owned(),
            snapshot,
            queue,
            signing,
            observer: Arc::new(Unwatched),
            limits: Limits::POD,
            term,
        };
        let replica = Replica::start(parts, &mut registry, &readiness, &mut tasks, &ends);
        let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (ingester, end) = (replica.ingester.clone(), ends.intake.clone());
        tasks.spawn("intake", async move { ingester.serve(listener, None, end).await });
        Self { address, replica, registry, readiness, ends, tasks, state }
    }
}

pub fn domain() -> TrustDomain {
    "zen-mesh.local".parse().unwrap()
}

pub fn id(account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "zen-mesh", account).unwrap()
}

struct EgressPod {
    address: SocketAddr,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl EgressPod {
    /// SIGTERM, and the wait for the end of the process.
    async fn terminate(self) {
        self.end.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.serving).await.expect("ends in time").unwrap();
    }

    /// SIGKILL.
    fn kill(self) {
        self.serving.abort();
    }
}

struct IngesterPod {
    address: SocketAddr,
    replica: Replica,
    sessions: watch::Receiver<usize>,
    registry: Registry,
    _tasks: Tasks,
    _state: TempDir,
}

impl IngesterPod {
    async fn linked(&self, sessions: usize) {
        let mut up = self.sessions.clone();
        let waiting = up.wait_for(|up| *up == sessions);
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("linked in time").unwrap();
    }

    fn metric(&self, name: &str) -> u64 {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry).unwrap();
        let value = zen_runtime::metrics::value(&exposition, name, &[]).unwrap_or_default();
        value.to_string().parse().expect("a counter or a gauge of things")
    }

    fn waiting(&self) -> u64 {
        self.replica.queue.stats().destinations.values().map(|destination| destination.waiting).sum()
    }
}

/// A source that posts one event after the other on kept-alive connections, as providers do.
pub struct Load {
    stop: Arc<AtomicBool>,
    sources: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Load {
    fn start(ingesters: &[&IngesterPod], sources: usize) -> Self {
        let addresses: Vec<_> = ingesters.iter().map(|ingester| ingester.address).collect();
        Self::at(&addresses, "/team-a/hook", sources)
    }

    /// At these intakes, in turn; the names of the events begin with the path.
    pub fn at(addresses: &[SocketAddr], path: &'static str, sources: usize) -> Self {
        Self::paced(addresses, path, sources, Duration::ZERO)
    }

    /// Each source sends its next event so long after an answer.
    pub fn paced(addresses: &[SocketAddr], path: &'static str, sources: usize, pause: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let start = |number: usize| {
            let (address, stop) = (addresses[number % addresses.len()], Arc::clone(&stop));
            tokio::spawn(source(address, path, number, pause, stop))
        };
        Self { stop: Arc::clone(&stop), sources: (0..sources).map(start).collect() }
    }

    /// Ids of all events that were acknowledged. Everything else fails the test.
    pub async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = BTreeSet::new();
        for source in self.sources {
            accepted.extend(source.await.expect("no request was refused or dropped"));
        }
        accepted
    }
}

async fn source(
    address: SocketAddr,
    path: &str,
    number: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    let mut connection: Option<TcpStream> = None;
    let mut buffer = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = format!("{path}-{number}-{}", accepted.len());
        let headers = [format!("authorization: Bearer {TOKEN}"), format!("x-event: {id}")];
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        let stream = match &mut connection {
            Some(stream) => stream,
            None => connection.insert(TcpStream::connect(address).await.expect("connected")),
        };
        stream.write_all(&post(path, &headers, id.as_bytes())).await.expect("sent");
        let answer = read_one(stream, &mut buffer).await.expect("an answer");
        assert_eq!(answer.status, 202, "{answer:?}");
        if answer.header("connection") == Some("close") {
            connection = None;
            buffer.clear();
        }
        accepted.insert(id);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    accepted
}

pub fn delivered(upstream: &Upstream) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for request in upstream.received() {
        *times.entry(String::from_utf8(request.body.to_vec()).unwrap()).or_default() += 1;
    }
    times
}

pub fn missing<'a>(accepted: &'a BTreeSet<String>, times: &HashMap<String, usize>) -> Vec<&'a String> {
    accepted.iter().filter(|id| !times.contains_key(*id)).collect()
}

/// Every egress is replaced under load, one after the other, as a Deployment does it: nothing is refused, nothing is lost,
/// and nothing is delivered twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_egresses_loses_nothing() {
    let upstream = Upstream::http().await;
    let mesh = Mesh::new(&manifests(&upstream, "delivery: {concurrency: 32}"));
    let mut egresses = [mesh.egress("egress-0").await, mesh.egress("egress-1").await];
    mesh.ready(&egresses.each_ref());
    let ingesters = [mesh.ingester("ingester-0"), mesh.ingester("ingester-1")];
    for ingester in &ingesters {
        ingester.linked(2).await;
    }
    let load = Load::start(&ingesters.each_ref(), 8);
    upstream.wait_for(200).await;
    for (turn, name) in ["egress-2", "egress-3"].into_iter().enumerate() {
        let fresh = mesh.egress(name).await;
        mesh.ready(&[&egresses[0], &egresses[1], &fresh]);
        for ingester in &ingesters {
            ingester.linked(3).await;
        }
        let old = std::mem::replace(&mut egresses[turn], fresh);
        mesh.ready(&egresses.each_ref());
        old.terminate().await;
        for ingester in &ingesters {
            ingester.linked(2).await;
        }
        let before = upstream.received().len();
        upstream.wait_for(before + 200).await;
    }
    let accepted = load.end().await;
    until("everything is delivered", || ingesters.iter().all(|ingester| ingester.waiting() == 0)).await;
    let times = delivered(&upstream);
    assert_eq!(missing(&accepted, &times), Vec::<&String>::new());
    let twice: BTreeMap<_, _> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(twice, BTreeMap::new(), "a drain leaves nothing to be repeated");
    assert_eq!(ingesters.each_ref().map(|i| i.metric("zen_ingester_lost_leases_total")), [0, 0]);
}

/// An egress that is killed takes nothing with it: what it had is delivered by the other at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_egress_loses_nothing() {
    let upstream = Upstream::http().await;
    let mesh = Mesh::new(&manifests(&upstream, "delivery: {concurrency: 32}"));
    let (stays, killed) = (mesh.egress("stays").await, mesh.egress("killed").await);
    mesh.ready(&[&stays, &killed]);
    let ingesters = [mesh.ingester("ingester-0"), mesh.ingester("ingester-1")];
    for ingester in &ingesters {
        ingester.linked(2).await;
    }
    let load = Load::start(&ingesters.each_ref(), 8);
    upstream.wait_for(200).await;
    let began = tokio::time::Instant::now();
    killed.kill();
    for ingester in &ingesters {
        ingester.linked(1).await;
    }
    let before = upstream.received().len();
    upstream.wait_for(before + 200).await;
    let accepted = load.end().await;
    until("everything is delivered", || ingesters.iter().all(|ingester| ingester.waiting() == 0)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "no lease had to end: {:?}", began.elapsed());
    assert_eq!(missing(&accepted, &delivered(&upstream)), Vec::<&String>::new());
}

/// D-10: two ingesters and two egresses together keep to the Destination's concurrency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_sees_its_concurrency_and_no_more() {
    let (upstream, gate) = (Upstream::http().await, Gate::closed());
    let mesh = Mesh::new(&manifests(&upstream, "delivery: {concurrency: 5}"));
    let egresses = [mesh.egress("egress-0").await, mesh.egress("egress-1").await];
    mesh.ready(&egresses.each_ref());
    let ingesters = [mesh.ingester("ingester-0"), mesh.ingester("ingester-1")];
    for ingester in &ingesters {
        ingester.linked(2).await;
    }
    let load = Load::start(&ingesters.each_ref(), 8);
    // While sessions come and go there may be more for a moment: each ingester hears of them at its own time.
    upstream.wait_for(500).await;
    let held = Arc::<AtomicUsize>::default();
    let answer = Answer::status(200).when(&gate);
    upstream.always_with({
        let held = Arc::clone(&held);
        move |_| {
            held.fetch_add(1, Ordering::Relaxed);
            answer.clone()
        }
    });
    // All that there can be is there: each ingester has a backlog, and two leases for each slot at work.
    until("there is a backlog", || ingesters.iter().all(|ingester| ingester.waiting() > 100)).await;
    let leases = || ingesters.each_ref().map(|ingester| ingester.metric("zen_ingester_leases_total"));
    let before = leases();
    let accepted = load.end().await;
    assert_eq!((held.load(Ordering::Relaxed), leases()), (5, before), "five attempts, and no lease beyond");
    gate.open();
    until("everything is delivered", || ingesters.iter().all(|ingester| ingester.waiting() == 0)).await;
    assert_eq!(missing(&accepted, &delivered(&upstream)), Vec::<&String>::new());
}

/// How long a backlog of three ingesters takes over the link of one egress; how many events it was.
pub async fn backlog(events: u64) -> (u64, Duration) {
    let upstream = Upstream::http().await;
    let mesh = Mesh::new(&manifests(&upstream, "delivery: {concurrency: 64}"));
    let ingesters = [mesh.ingester("ingester-0"), mesh.ingester("ingester-1"), mesh.ingester("ingester-2")];
    let waiting = || ingesters.iter().map(IngesterPod::waiting).sum::<u64>();
    let load = Load::start(&ingesters.each_ref(), 6);
    until("a backlog", || waiting() > events).await;
    load.end().await;
    let (due, began) = (waiting(), tokio::time::Instant::now());
    let egress = mesh.egress("egress-0").await;
    mesh.ready(&[&egress]);
    while waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (due, began.elapsed())
}

/// D-02: mode `Direct` needs no egress; mode `Egress` waits for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_delivery_needs_no_egress() {
    for (mode, arrives) in [("Direct", true), ("Egress", false)] {
        let upstream = Upstream::http().await;
        let mesh = Mesh::new(&manifests(&upstream, &format!("mode: {mode}")));
        let ingester = mesh.ingester("ingester-0");
        let load = Load::start(&[&ingester], 1);
        until("events were taken in", || ingester.metric("zen_ingester_accepted_total") >= 20).await;
        let accepted = load.end().await;
        if arrives {
            until("everything is delivered", || ingester.waiting() == 0).await;
            assert_eq!(missing(&accepted, &delivered(&upstream)), Vec::<&String>::new());
        } else {
            assert_eq!((ingester.waiting(), upstream.received().len()), (accepted.len() as u64, 0));
        }
    }
}

/// Sources are led away before a replica goes: its answers ask for another connection, and nothing is refused meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_asks_its_clients_to_connect_anew() {
    let upstream = Upstream::http().await;
    let mesh = Mesh::new(&manifests(&upstream, "mode: Direct"));
    let ingester = mesh.ingester("ingester-0");
    let load = Load::start(&[&ingester], 4);
    until("events were taken in", || ingester.metric("zen_ingester_accepted_total") >= 50).await;
    assert_eq!(ingester.metric("zen_ingester_connections"), 4);
    ingester.replica.ingester.leave(true);
    let before = ingester.metric("zen_ingester_accepted_total");
    until("they go on", || ingester.metric("zen_ingester_accepted_total") >= before + 50).await;
    load.end().await;
    until("no connection is left", || ingester.metric("zen_ingester_connections") == 0).await;
}
