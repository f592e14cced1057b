//! A hub with several ingesters behind one address, and members of it.

mod front;
mod member;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zen_compile::{Enrolled, KeyVersion, Mode, Snapshot, compile};
use zen_identity::policy::Mesh;
use zen_ingester::ending::{Ending, Ends, Limits};
use zen_ingester::relay::Door;
use zen_ingester::replica::{Addresses, Relaying, Replica};
use zen_model::{ClusterId, Secret, Timestamp};
use zen_pki::{Ca, Identity, Scope};
use zen_pod::keys::Member as Membership;
use zen_runtime::{Readiness, Tasks};
use zen_seal::RootKey;
use zen_testkit::Upstream;
use zen_verify::SigningKeys;

use crate::fleet::{Started, domain, id};
use crate::kit::{Audited, TOKEN, until};
pub use front::Front;
pub use member::Member;

/// Of a lease: shorter than the partition of the test.
pub const TERM: Duration = Duration::from_secs(3);

/// Every tenant here calls its cluster so.
const EU: &str = "eu";

/// What both sides apply: a Webhook of the tenant, and a Destination in its cluster.
fn manifests(tenant: &str, target: &str, destination: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: s, namespace: {tenant}}}
stringData: {{token: {TOKEN}}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: hook, namespace: {tenant}}}
spec:
  verification: {{provider: bearer, secrets: [{{secretRef: {{name: s, key: token}}}}]}}
  event: {{id: {{header: X-Event}}}}
  routes: [{{destinations: [{{name: ci}}]}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: {tenant}}}
spec:
  mode: Relay
  cluster: {EU}
  target: {{url: '{target}'}}
  network: {{allowCidrs: [127.0.0.0/8]}}
  {destination}
"
    )
}

pub fn versions(versions: &[(u32, Option<Timestamp>)]) -> Vec<KeyVersion> {
    versions.iter().map(|(version, until)| KeyVersion { version: *version, until: *until }).collect()
}

pub fn cluster(text: &str) -> ClusterId {
    text.parse().unwrap()
}

/// A dead peer is noticed within half a second.
pub fn options() -> zen_link::Options {
    zen_link::Options {
        connect_timeout: Duration::from_secs(2),
        greeting_timeout: Duration::from_secs(2),
        keep_alive: Duration::from_millis(300),
        keep_alive_timeout: Duration::from_millis(1500),
        backoff: (Duration::from_millis(20), Duration::from_millis(300)),
        ..zen_link::Options::default()
    }
}

pub struct Hub {
    ca: Ca,
    issuer: Ca,
    signing: Arc<SigningKeys>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    tenants: Vec<(String, Arc<Upstream>)>,
    destination: String,
    enrolled: Mutex<std::collections::BTreeMap<ClusterId, Arc<Enrolled>>>,
    pub ingesters: Vec<Pod>,
    peers: Vec<watch::Sender<Addresses>>,
    pub front: Front,
    closed: AtomicUsize,
}

impl Hub {
    /// With one member cluster called [`EU`] for each tenant.
    pub async fn new(tenants: &[&str], destination: &str, ingesters: usize) -> Self {
        let ca = Ca::ephemeral(&domain()).unwrap();
        let issuer = ca.issue_issuer(&Scope::Hub, Timestamp::now()).unwrap();
        let mut with_targets = Vec::new();
        for tenant in tenants {
            with_targets.push(((*tenant).to_owned(), Arc::new(Upstream::http().await)));
        }
        let enrolled = tenants.iter().map(|tenant| {
            let enrolled = Enrolled {
                uid: format!("uid-{tenant}"),
                enabled: true,
                joined: true,
                connected: None,
                versions: versions(&[(1, None)]),
            };
            (cluster(&format!("{tenant}/{EU}")), Arc::new(enrolled))
        });
        let mut hub = Self {
            ca,
            issuer,
            signing: Arc::new(SigningKeys::new(Secret::new([7; 32]))),
            snapshot: Arc::default(),
            tenants: with_targets,
            destination: destination.to_owned(),
            enrolled: Mutex::new(enrolled.collect()),
            ingesters: Vec::new(),
            peers: Vec::new(),
            front: Front::start().await,
            closed: AtomicUsize::new(0),
        };
        hub.compile();
        for number in 0..ingesters {
            hub.add(&format!("ingester-{number}")).await;
        }
        hub
    }

    fn compile(&self) {
        let texts = self.tenants.iter().map(|(tenant, at)| manifests(tenant, &at.url("/"), &self.destination));
        let (mut objects, _) = zen_live::testing::objects(&texts.collect::<Vec<_>>().join("---\n"));
        objects.clusters = self.enrolled.lock().unwrap().clone();
        let before = self.snapshot.load_full();
        self.snapshot.store(Arc::new(compile(&objects, Some(&before), Mode::Standalone).snapshot));
        for pod in &self.ingesters {
            // An enrollment that is gone takes its Destinations out of effect; they are not deleted.
            pod.replica.feed.configured(false);
        }
    }

    pub fn enrolled(&self, of: &str) -> Enrolled {
        (*self.enrolled.lock().unwrap()[&cluster(of)]).clone()
    }

    /// The `ClusterEnrollment` is this one from now on, or gone.
    pub fn enroll(&self, of: &str, enrolled: Option<Enrolled>) {
        let mut known = self.enrolled.lock().unwrap();
        match enrolled {
            Some(enrolled) => known.insert(cluster(of), Arc::new(enrolled)),
            None => known.remove(&cluster(of)),
        };
        drop(known);
        self.compile();
    }

    pub fn identity(&self, account: &str) -> Identity {
        let issued = self.issuer.issue_workload(&id(account), Duration::from_hours(1)).unwrap();
        Identity::new(&issued, &self.ca.roots().unwrap()).unwrap()
    }

    /// One more ingester, which the others and the front learn of.
    pub async fn add(&mut self, name: &str) {
        let (snapshot, signing) = (Arc::clone(&self.snapshot), Arc::clone(&self.signing));
        let Started { address: intake, replica, mut registry, readiness, ends, mut tasks, state } =
            Started::new(name, snapshot, signing, TERM);
        let metrics = zen_link::Metrics::register(registry.sub_registry_with_prefix("zen_link"));
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let (peers, following) = watch::channel(Addresses::default());
        let mesh = Mesh::new(&domain(), "zen-mesh").unwrap();
        let audited = Audited::new();
        let relaying = Relaying {
            listener: relay,
            door: Arc::new(Door::new(mesh, Arc::clone(&self.snapshot), &self.signing).unwrap()),
            identity: self.identity("zen-ingester"),
            peers: following,
            metrics,
            options: options(),
            notes: audited.notes(),
        };
        replica.relay(&mut tasks, relaying).unwrap();
        self.ingesters.push(Pod {
            address: intake,
            relay: address,
            replica,
            registry,
            readiness,
            ends,
            tasks,
            audited,
            _state: state,
        });
        self.peers.push(peers);
        self.introduce();
    }

    /// Ends one as SIGTERM does, and waits for it.
    pub async fn terminate(&mut self, at: usize) {
        let pod = self.ingesters.remove(at);
        self.peers.remove(at);
        self.introduce();
        let ending = Ending {
            readiness: pod.readiness.gate("process"),
            ingester: &pod.replica.ingester,
            tasks: pod.tasks,
            ends: pod.ends,
            queue: Arc::clone(&pod.replica.queue),
            limits: Limits::POD,
        };
        ending.run(Duration::ZERO).await;
    }

    /// Kills one.
    pub fn remove(&mut self, at: usize) {
        self.ingesters.remove(at);
        self.peers.remove(at);
        self.introduce();
    }

    fn introduce(&self) {
        for (pod, peers) in self.ingesters.iter().zip(&self.peers) {
            let others = self.ingesters.iter().map(|other| other.relay).filter(|relay| *relay != pod.relay);
            peers.send_replace(Arc::new(others.collect::<BTreeSet<_>>()));
        }
        let mut backends = self.front.backends.lock().unwrap();
        let gone = |address: &SocketAddr| !self.ingesters.iter().any(|pod| pod.relay == *address);
        if backends.is_empty() || backends.iter().any(gone) || backends.len() > 1 {
            *backends = self.ingesters.iter().map(|pod| pod.relay).collect();
        }
    }

    pub fn intakes(&self) -> Vec<SocketAddr> {
        self.ingesters.iter().map(|pod| pod.address).collect()
    }

    pub fn waiting(&self) -> u64 {
        self.ingesters.iter().map(Pod::waiting).sum()
    }

    pub fn dead(&self) -> u64 {
        let of = |pod: &Pod| pod.replica.queue.stats().destinations.values().map(|d| d.dead).sum::<u64>();
        self.ingesters.iter().map(of).sum()
    }

    pub async fn emptied(&self) {
        let deadline = tokio::time::timeout(Duration::from_mins(2), async {
            while self.waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(deadline.await.is_ok(), "{} events wait still", self.waiting());
    }

    /// Members' streams that are up.
    pub fn streams(&self) -> usize {
        let sessions = |pod: &Pod| {
            let mut text = String::new();
            text::encode(&mut text, &pod.registry).unwrap();
            let of =
                |role| zen_runtime::metrics::value(&text, "zen_link_sessions", &[("role", role)]).unwrap_or_default();
            // Feeds at peers are sessions of both roles.
            (of("ingester"), of("egress"))
        };
        let counts: Vec<(f64, f64)> = self
            .ingesters
            .iter()
            .map(|pod| {
                let (ingester, egress) = sessions(pod);
                (ingester.to_string().parse().unwrap(), egress.to_string().parse().unwrap())
            })
            .collect();
        let total: f64 = counts.iter().map(|(ingester, egress)| ingester - egress).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few sessions")]
        let total = total.max(0.0) as usize;
        total
    }

    /// Whether so many streams lease at every ingester: a stream that is up may still be refused there.
    pub fn lease(&self, streams: usize) -> bool {
        // Each has one session more, with the egress of its own process.
        self.ingesters.iter().all(|pod| pod.metric("zen_ingester_link_sessions") == streams as u64 + 1)
    }

    /// Streams that were closed by a change of their enrollment, since it was last forgotten.
    pub fn closed(&self) -> usize {
        let all = || self.ingesters.iter().map(Pod::closed).sum::<usize>();
        all() - self.closed.load(Ordering::Relaxed)
    }

    pub fn forget_closed(&self) {
        let all: usize = self.ingesters.iter().map(Pod::closed).sum();
        self.closed.store(all, Ordering::Relaxed);
    }

    pub fn member(&self, of: &str) -> Member {
        let cluster = cluster(of);
        let (tenant, upstream) =
            self.tenants.iter().find(|(tenant, _)| tenant == cluster.tenant().as_str()).unwrap().clone();
        let issuer = self.ca.issue_issuer(&Scope::Cluster(cluster.clone()), Timestamp::now()).unwrap();
        let branch = RootKey::of(self.signing.branch()).unwrap();
        let (mut objects, _) = zen_live::testing::objects(&manifests(&tenant, &upstream.url("/"), &self.destination));
        objects.member = Some(cluster.clone());
        let snapshot = compile(&objects, None, Mode::Standalone).snapshot;
        assert_eq!(snapshot.destinations.len(), 1, "{:?}", snapshot.unusable);
        let member = Member {
            cluster,
            issuer,
            roots: self.ca.roots().unwrap(),
            branch,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            upstream,
            following: watch::Sender::new(Arc::new(Membership {
                cluster: self::cluster(of),
                relay: None,
                keys: Vec::new(),
            })),
        };
        member.follow(self.front.address, &[1]);
        member
    }
}

pub struct Pod {
    pub address: SocketAddr,
    pub relay: SocketAddr,
    pub replica: Replica,
    pub registry: Registry,
    /// Whom it refused.
    pub audited: Audited,
    readiness: Readiness,
    ends: Ends,
    tasks: Tasks,
    _state: TempDir,
}

impl Pod {
    pub fn metric(&self, name: &str) -> u64 {
        value(&self.registry, name, &[])
    }

    pub fn waiting(&self) -> u64 {
        self.replica.queue.stats().destinations.values().map(|destination| destination.waiting).sum()
    }

    fn closed(&self) -> usize {
        ["EnrollmentUnknown", "EnrollmentDisabled", "KeyVersionEnded"]
            .map(|code| value(&self.registry, "zen_ingester_relay_closed_total", &[("code", code)]))
            .iter()
            .map(|count| usize::try_from(*count).unwrap())
            .sum()
    }
}

pub fn value(registry: &Registry, name: &str, labels: &[(&str, &str)]) -> u64 {
    let mut exposition = String::new();
    text::encode(&mut exposition, registry).unwrap();
    let value = zen_runtime::metrics::value(&exposition, name, labels).unwrap_or_default();
    value.to_string().parse().expect("a counter or a gauge of things")
}

/// Waits for the streams of a hub.
pub async fn streams(hub: &Hub, count: usize) {
    until("the streams are up", || hub.streams() == count).await;
}
