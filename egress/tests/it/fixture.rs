use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use zen_compile::{DeliveryMode, Destination, Format, Snapshot, Target};
use zen_deliver::{Deliverer, StaticResolver};
use zen_egress::{Egress, Link, Options, Parts};
use zen_link::frame::{FromEgress, FromIngester, Lease, Token};
use zen_model::observe::{Observation, Observer};
use zen_model::{Event, ObjectKey, Secret, Settlement, Timestamp, breaker, retry, settle};
use zen_testkit::Upstream;
use zen_verify::zen_signature::Keys;

pub const TERM: Duration = Duration::from_mins(1);

pub fn keys() -> Keys {
    Keys::new(vec![("link".into(), Secret::new(*b"0123456789abcdef0123456789abcdef"))]).expect("a key ring")
}

pub fn destination(name: &str, upstream: &Upstream) -> Destination {
    Destination {
        key: ObjectKey::new("team-a", name),
        revision: 1,
        mode: DeliveryMode::Egress,
        cluster: None,
        paused: false,
        target: Target::Url {
            tls: false,
            host: "127.0.0.1".into(),
            port: upstream.address().port(),
            path_and_query: "/".into(),
        },
        allow_from: Vec::new(),
        tls: None,
        server_name: String::new(),
        authentication: None,
        signing: Vec::new(),
        forward: Vec::new(),
        set: Vec::new(),
        format: Format::Raw,
        idempotent: true,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(30),
        max_response: 64 * 1024,
        concurrency: 4,
        transient: retry::Policy::TRANSIENT,
        throttled: retry::Policy::THROTTLED,
        breaker: breaker::Settings::default(),
        allow_cidrs: vec!["127.0.0.0/8".parse().expect("a network")],
        dead_letter_retention: Duration::from_hours(336),
    }
}

#[derive(Default)]
pub struct Watch(pub Mutex<Vec<Observation>>);

impl Observer for Watch {
    fn is_watched(&self) -> bool {
        true
    }

    fn observe(&self, observation: Observation) {
        self.0.lock().expect("no panic").push(observation);
    }
}

/// An egress with one session, and the ingester's end of it.
pub struct Bench {
    pub egress: Arc<Egress>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub watch: Arc<Watch>,
    pub registry: Registry,
    pub shutdown: CancellationToken,
    pub to_egress: Option<mpsc::Sender<FromIngester>>,
    pub from_egress: mpsc::Receiver<FromEgress>,
    pub running: JoinHandle<()>,
    pub settled: Vec<(Token, Settlement, Option<settle::Attempt>)>,
    pub renewed: Vec<Token>,
    pub begun: Vec<Token>,
    pub draining: bool,
}

pub fn snapshot(generation: u64, destinations: Vec<Destination>) -> Snapshot {
    let destinations: HashMap<_, _> =
        destinations.into_iter().map(|destination| (destination.key.clone(), Arc::new(destination))).collect();
    Snapshot { generation, destinations, ..Snapshot::default() }
}

impl Bench {
    pub fn new(destinations: Vec<Destination>) -> Self {
        Self::with(destinations, Options::default())
    }

    pub fn with(destinations: Vec<Destination>, options: Options) -> Self {
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(1, destinations)));
        let watch = Arc::new(Watch::default());
        let mut registry = Registry::default();
        let parts = Parts {
            snapshot: Arc::clone(&snapshot),
            deliverer: Deliverer::new(Arc::new(StaticResolver::default())),
            link_keys: Arc::new(keys()),
            target_keys: Arc::new(|_| Arc::new(keys())),
            observer: Arc::clone(&watch) as Arc<dyn Observer>,
            member: None,
            options: Options { max_leases: 100, ..options },
        };
        let egress = Egress::new(parts, registry.sub_registry_with_prefix("zen_egress"));
        let (to_egress, incoming) = mpsc::channel(16);
        let (outgoing, from_egress) = mpsc::channel(4);
        let incoming = Box::pin(ReceiverStream::new(incoming));
        let link = Link { peer: "spiffe://test/ns/x/sa/ingester".into(), term: TERM, keys: None, outgoing, incoming };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&egress).run(link, shutdown.clone()));
        Self {
            egress,
            snapshot,
            watch,
            registry,
            shutdown,
            to_egress: Some(to_egress),
            from_egress,
            running,
            settled: Vec::new(),
            renewed: Vec::new(),
            begun: Vec::new(),
            draining: false,
        }
    }

    pub async fn send(&self, frame: FromIngester) {
        self.to_egress.as_ref().expect("not closed").send(frame).await.expect("the session is up");
    }

    pub async fn lease(&self, leases: Vec<Lease>) {
        self.send(FromIngester { leases, ..FromIngester::default() }).await;
    }

    /// Reads one frame; false at the end.
    pub async fn read(&mut self) -> bool {
        let Some(frame) = self.from_egress.recv().await else { return false };
        self.take(frame);
        true
    }

    /// Reads the frames that have come already.
    pub fn read_what_is_there(&mut self) {
        while let Ok(frame) = self.from_egress.try_recv() {
            self.take(frame);
        }
    }

    fn take(&mut self, frame: FromEgress) {
        self.draining |= frame.draining;
        self.renewed.extend(frame.renew);
        self.begun.extend(frame.begin);
        self.settled.extend(frame.settled.into_iter().map(|settled| settled.into_parts().expect("a valid settlement")));
    }

    /// Reads until so many settlements have come, and returns them in order of the event.
    pub async fn settled(&mut self, count: usize) -> Vec<Settlement> {
        while self.settled.len() < count {
            assert!(self.read().await, "the session ended");
        }
        self.settled.sort_by_key(|(token, ..)| token.seq);
        self.settled.iter().map(|(_, settlement, _)| settlement.clone()).collect()
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encodes");
        text
    }

    /// Ends the session from the ingester's side and waits for the egress.
    pub async fn hang_up(mut self) {
        self.to_egress = None;
        while self.read().await {}
        self.running.await.expect("no panic");
    }
}

pub fn event(seq: u64) -> Event {
    let body = Bytes::from(format!("{{\"seq\":{seq}}}"));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
    Event {
        id: format!("evt-{seq}"),
        namespace: "team-a".into(),
        webhook: "github".into(),
        r#type: "push".into(),
        source: "test".into(),
        time: 1_700_000_000_000,
        content_type: "application/json".into(),
        content_hash: Bytes::copy_from_slice(hash.as_ref()),
        body,
        ..Event::default()
    }
}

pub fn lease_of(name: &str, seq: u64, event: &Event) -> Lease {
    Lease {
        token: Token { seq, destination: 1, lease: seq + 1000 },
        destination: format!("team-a/{name}"),
        attempts: 0,
        first_attempt: 0,
        signature: keys().sign(&event.id, &event.content_hash, Timestamp::now()),
        slots: 0,
        record: Bytes::from(event.encode_to_vec()),
    }
}

pub fn lease(name: &str, seq: u64) -> Lease {
    lease_of(name, seq, &event(seq))
}

pub fn leases(name: &str, seqs: std::ops::Range<u64>) -> Vec<Lease> {
    seqs.map(|seq| lease(name, seq)).collect()
}
