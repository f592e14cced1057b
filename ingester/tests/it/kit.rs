//! Configurations from manifests, an intake on port 0, and a client that speaks bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_compile::{Mode, Objects, SecretData, Snapshot, Verdict, compile};
use zen_ingester::{Ingester, Limits, Parts, feed, listener};
use zen_model::observe::{Observation, Observer};
use zen_model::{ObjectKey, Secret, Timestamp};
use zen_queue::Queue;
use zen_verify::zen_signature::Keys;

use crate::memory::Memory;

/// The token of every Webhook here whose provider is `bearer`.
pub const TOKEN: &str = "correct-horse";

/// Compiles Webhooks (name → spec) and Destinations of namespace `a`, with the secret `a/s` whose key `token` is [`TOKEN`].
pub fn configuration(webhooks: &[(&str, Value)], destinations: &[(&str, Value)]) -> (Snapshot, Vec<Verdict>) {
    let manifest = |kind: &str, name: &str, spec: &Value| json!({"apiVersion": "zen-mesh.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "a"}, "spec": spec});
    let mut objects = Objects::default();
    for (name, spec) in webhooks {
        let webhook = serde_json::from_value(manifest("Webhook", name, spec)).expect("a Webhook");
        objects.webhooks.insert(ObjectKey::new("a", *name), Arc::new(webhook));
    }
    for (name, spec) in destinations {
        let destination = serde_json::from_value(manifest("Destination", name, spec)).expect("a Destination");
        objects.destinations.insert(ObjectKey::new("a", *name), Arc::new(destination));
    }
    let data = BTreeMap::from([("token".to_owned(), Secret::new(TOKEN)), ("next".to_owned(), Secret::new("battery"))]);
    objects.secrets.insert(ObjectKey::new("a", "s"), Arc::new(SecretData::new("Opaque", data)));
    let compiled = compile(&objects, None, Mode::Standalone);
    (compiled.snapshot, compiled.verdicts)
}

/// A bearer Webhook with these fields beside its verification.
pub fn bearer(more: &Value) -> Value {
    let mut spec = json!({
        "verification": {"provider": "bearer", "secrets": [{"secretRef": {"name": "s", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    spec
}

/// A Destination that nothing here ever calls.
pub fn destination() -> Value {
    json!({"target": {"url": "https://ci.example.com/hooks"}})
}

/// Keeps what it is shown.
#[derive(Debug, Default)]
pub struct Seen(pub Mutex<Vec<Observation>>);

impl Observer for Seen {
    fn is_watched(&self) -> bool {
        true
    }

    fn observe(&self, observation: Observation) {
        self.0.lock().unwrap().push(observation);
    }
}

/// An intake that runs.
pub struct Intake<Q: Queue = Memory> {
    pub address: SocketAddr,
    pub queue: Arc<Q>,
    pub ingester: Ingester,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub verdicts: Vec<Verdict>,
    pub seen: Arc<Seen>,
    pub registry: Registry,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
}

impl Intake {
    /// The usual configuration: Webhook `a/hook` to Destination `a/ci`.
    pub fn usual() -> Self {
        Self::with(&[("hook", bearer(&json!({})))], Limits::default())
    }

    pub fn with(webhooks: &[(&str, Value)], limits: Limits) -> Self {
        Self::start(configuration(webhooks, &[("ci", destination())]), limits, None)
    }

    pub fn start(configured: (Snapshot, Vec<Verdict>), limits: Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::over(Memory::new(), configured, limits, tls)
    }
}

impl<Q: Queue> Intake<Q> {
    /// Over any queue.
    pub fn over(
        queue: Arc<Q>,
        (snapshot, verdicts): (Snapshot, Vec<Verdict>),
        limits: Limits,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let seen = Arc::<Seen>::default();
        let mut registry = Registry::default();
        let parts = Parts {
            snapshot: Arc::clone(&snapshot),
            queue: Arc::clone(&queue) as _,
            observer: Arc::clone(&seen) as _,
            link_keys: keys(),
            limits,
            feed: feed::Options::default(),
        };
        let ingester = Ingester::new(parts, registry.sub_registry_with_prefix("zen_ingester"));
        let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn({
            let (ingester, shutdown) = (ingester.clone(), shutdown.clone());
            async move { ingester.serve(listener, tls, shutdown).await }
        });
        Self { address, queue, ingester, snapshot, verdicts, seen, registry, shutdown, served }
    }

    /// Sends bytes, ends nothing, and reads answers until the server closes.
    pub async fn talk(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        read_all(&mut client).await
    }

    /// Sends a POST with these header lines and reads one answer.
    pub async fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(&post(path, headers, body)).await.unwrap();
        read_one(&mut client, &mut Vec::new()).await.expect("an answer")
    }

    /// A POST that verifies.
    pub async fn good(&self, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let authorization = format!("authorization: Bearer {TOKEN}");
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        self.post(path, &all, body).await
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// The link keys of every test.
pub fn keys() -> Arc<Keys> {
    Arc::new(Keys::new(vec![("k1".to_owned(), Secret::new([7; 32]))]).expect("keys"))
}

/// A POST as bytes, with length.
pub fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut lines = format!("POST {path} HTTP/1.1\r\nhost: hooks.example.com\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        lines += header;
        lines += "\r\n";
    }
    [lines.as_bytes(), b"\r\n", body].concat()
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code: {self:?}")).to_owned()
    }
}

/// Answers until the end of the stream.
pub async fn read_all(client: &mut TcpStream) -> Vec<Answer> {
    let mut buffer = Vec::new();
    let mut answers = Vec::new();
    while let Some(answer) = read_one(client, &mut buffer).await {
        answers.push(answer);
    }
    assert!(buffer.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&buffer));
    answers
}

/// The next answer, `100 Continue` included; none at the end of the stream.
pub async fn read_one(client: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Answer> {
    loop {
        if let Some((answer, length)) = parse(buffer) {
            buffer.drain(..length);
            return Some(answer);
        }
        // A reset is an end too: what it takes with it is missing.
        let read = tokio::time::timeout(Duration::from_mins(5), client.read_buf(buffer)).await.expect("in time");
        if read.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let body = bytes.get(end..end + length)?.to_vec();
    Some((Answer { status, headers, body }, end + length))
}

/// Waits for a condition that others bring about, at most 40 s.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..40_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// A request as the provider signs it with [`TOKEN`]: header lines and body.
pub fn signed(provider: &str, body: Option<&'static [u8]>, now: Timestamp) -> (Vec<String>, Bytes) {
    let config = zen_verify::Config {
        preset: zen_verify::preset(provider).expect("a preset"),
        secrets: vec![zen_verify::LabelledSecret { label: "s/token".into(), secret: Secret::new(TOKEN) }],
        tolerance: Duration::from_mins(5),
        public_url: None,
        generic: None,
        api_key: None,
    };
    let sample = zen_verify::sign(&config, "https://h/a/hook", body.map(Bytes::from_static), 0, now).expect("signs");
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    (sample.headers.iter().map(line).collect(), sample.body)
}

/// An audit log, to look into.
pub struct Audited {
    log: zen_audit::Log,
    folder: tempfile::TempDir,
}

impl Audited {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = "zen-ingester/zen-ingester-0".parse().unwrap();
        let log = zen_audit::Log::open(zen_audit::Options::new(folder.path(), writer)).unwrap();
        Self { log, folder }
    }

    pub fn notes(&self) -> zen_pod::audit::Notes {
        zen_pod::audit::Notes::of(&self.log)
    }

    /// So many entries are there, without the first, which opens the chain.
    pub fn count(&self) -> u64 {
        self.log.head().seq.saturating_sub(1)
    }

    /// What was noted until now, as `zen audit verify` takes it: `<action> <who> <object> <reason or what was done>`. Nothing is
    /// noted afterwards.
    pub async fn told(&self) -> Vec<String> {
        use zen_audit::verify::{Lenience, files};
        self.log.clone().close().await;
        let files = files::expand(&[self.folder.path().to_owned()]).unwrap();
        assert_eq!(files::verify(&files, &[], Lenience::default()).unwrap().findings, vec![]);
        let entries = files::entries(&files).unwrap().into_iter().filter(|entry| !entry.action.starts_with("chain."));
        let words = entries.map(|entry| {
            let why = entry.details.get("done").unwrap_or(&entry.reason);
            assert_eq!(entry.allowed, entry.reason.is_empty(), "{entry:?}");
            format!("{} {} {} {why}", entry.action, entry.who, entry.object).trim_end().to_owned()
        });
        words.collect()
    }
}
