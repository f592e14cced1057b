//! A hub that leads, and what a member does by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use prometheus_client::registry::Registry;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_enroll::proof::{self, Proof};
use zen_enroll::{Answer, Bundle, Opened, Redeem, Sync};
use zen_identity::exchange::exchange;
use zen_lock::{Identity as AgeIdentity, Keyring};
use zen_model::{ClusterId, Secret, Timestamp};
use zen_pki::{Ca, Identity, Scope, TrustRoots, hub_client, issuer_request};
use zen_rotation::record::{self, Action};
use zen_rotation::{Phase, Plan, Rate, Subject};
use zen_runtime::lease::Leadership;
use zen_seal::RootKey;
use zen_seal::cluster::ClusterKey;
use zen_testkit::api_server::{Call, Reply, Watch};

use super::super::Hub;
use crate::configuration::Followed;
use crate::identity::tests::cluster::{Cluster, Replica, SECRETS, domain, mesh, secret_of, settings};
use crate::identity::{CA, CA_NEXT, ISSUER_NEXT, Source};
use crate::settings::Workloads;
use crate::settings::tests::DEFAULT;
use crate::{Writer, names, writer};

pub(super) const NAME: &str = "hub.example.com";
const ALL: &str = "/apis/zen-mesh.io/v1alpha1/clusterenrollments";
const OF: &str = "/apis/zen-mesh.io/v1alpha1/namespaces/";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/";
pub(super) const CREATED: &str = "2026-01-01T00:00:00Z";

/// Enrollments, and who watches them.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    watch: Watch,
    version: u64,
    /// Statuses that were written, and tries that came too late.
    writes: usize,
    conflicts: usize,
}

impl State {
    fn put(&mut self, key: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let there = self.objects.insert(key.to_owned(), object.clone()).is_some();
        if there {
            self.watch.modified(object.clone());
        } else {
            self.watch.added(object.clone());
        }
        object
    }

    fn list(&self, only: impl Fn(&str) -> bool) -> Value {
        let items: Vec<_> =
            self.objects.iter().filter(|(key, _)| only(key)).map(|(_, object)| object.clone()).collect();
        json!({"kind": "ClusterEnrollmentList", "apiVersion": "zen-mesh.io/v1alpha1", "items": items,
               "metadata": {"resourceVersion": self.version.max(1).to_string()}})
    }

    /// As an API server: another version is a conflict.
    fn swap(&mut self, key: &str, body: &Value) -> Reply {
        let Some(there) = self.objects.get(key).cloned() else { return Reply::not_found() };
        if body["metadata"]["uid"] != there["metadata"]["uid"] {
            return Reply::made_again();
        }
        if body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"] {
            self.conflicts += 1;
            return Reply::conflict();
        }
        self.writes += 1;
        let mut object = there;
        object["status"] = body["status"].clone();
        Reply::ok(self.put(key, object))
    }
}

pub(super) struct Stage {
    pub(super) replica: Replica,
    pub(super) hub: Hub,
    pub(super) roots: TrustRoots,
    pub(super) registry: Registry,
    pub(super) workloads: watch::Sender<Followed<Workloads>>,
    pub(super) address: SocketAddr,
    pub(super) member: AgeIdentity,
    pub(super) root: RootKey,
    state: Arc<Mutex<State>>,
    ahead: Arc<AtomicU64>,
    pub(super) cluster: Cluster,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(super) fn workloads(hub: &str) -> Followed<Workloads> {
    let content = Workloads::parse(&format!("{DEFAULT}{hub}\n")).expect("valid");
    Followed { is_known: true, content: Some(Arc::new(content)), ..Followed::default() }
}

pub(super) fn cluster(text: &str) -> ClusterId {
    text.parse().expect("a cluster")
}

impl Stage {
    /// A hub that leads, without an enrollment.
    pub(super) async fn start() -> Self {
        Self::with(&format!("hub: {{url: 'https://{NAME}:8445', relay: 'relay.example.com:9446'}}"), true).await
    }

    #[expect(clippy::similar_names, reason = "a stage has a state")]
    pub(super) async fn with(hub: &str, leads: bool) -> Self {
        let mut cluster = Cluster::new();
        let ahead = Arc::new(AtomicU64::new(0));
        let (plain, more) = (Arc::clone(&cluster.clock), Arc::clone(&ahead));
        cluster.clock = Arc::new(move || plain().plus(Duration::from_millis(more.load(Ordering::SeqCst))));
        let root = RootKey::random();
        let state = Arc::new(Mutex::new(State::default()));
        script(&cluster, &root, &state);
        let replica = cluster.start(Source::Secret, true);
        replica.change.send_replace(settings().with_hub([NAME.to_owned()]));
        replica.service.identity().await;
        let (tell, workloads) = watch::channel(workloads(hub));
        let mut registry = Registry::default();
        let hub = Hub::new(cluster.server.client(), replica.service.clone(), mesh(), workloads, &mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let (serving, end) = (hub.clone(), stop.clone());
        tasks.push(tokio::spawn(async move { serving.serve(listener, end).await.expect("serves") }));
        if leads {
            let writer = Writer::new(
                cluster.server.client(),
                Leadership::unguarded(),
                "zen-operator-0",
                writer::Metrics::default(),
            );
            let (leading, end) = (hub.clone(), stop.clone());
            tasks.push(tokio::spawn(async move { leading.lead(&writer, end).await.expect("leads") }));
        }
        let bundle = replica.service.bundle().expect("roots");
        let stage = Self {
            roots: TrustRoots::from_pem(&bundle).expect("roots"),
            member: AgeIdentity::generate(),
            workloads: tell,
            replica,
            hub,
            registry,
            address,
            root,
            state,
            ahead,
            cluster,
            stop,
            tasks,
        };
        // The certificate is for the name as soon as the settings have reached it.
        stage.until(async || stage.raw("/", None, Vec::new(), None).await.is_ok()).await;
        stage.until(async || !leads || stage.hub.0.lead.load().is_some()).await;
        // Whatever is asked from now on is of this leader's time.
        stage.ahead.fetch_add(1000, Ordering::SeqCst);
        stage
    }

    /// Another leader on the same API server, some seconds later: it has none of the memory of the one before.
    pub(super) async fn another_leader(&mut self) {
        self.ahead.fetch_add(5000, Ordering::SeqCst);
        let before = self.hub.0.lead.load_full().expect("leads");
        let client = self.cluster.server.client();
        let writer = Writer::new(client, Leadership::unguarded(), "zen-operator-1", writer::Metrics::default());
        let (leading, end) = (self.hub.clone(), self.stop.clone());
        self.tasks.push(tokio::spawn(async move { leading.lead(&writer, end).await.expect("leads") }));
        self.until(async || {
            let lead = self.hub.0.lead.load_full().expect("leads");
            !Arc::ptr_eq(&lead, &before) && lead.branches.load().is_some() && !lead.all().is_empty()
        })
        .await;
        self.ahead.fetch_add(1000, Ordering::SeqCst);
    }

    pub(super) async fn until(&self, what: impl AsyncFn() -> bool) {
        let waited = async {
            while !what().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.expect("in time");
    }

    /// The hub's clock.
    pub(super) fn now(&self) -> Timestamp {
        (self.cluster.clock)()
    }

    pub(super) fn later(&self, more: Duration) {
        let millis = u64::try_from(more.as_millis()).expect("short");
        self.ahead.fetch_add(millis, Ordering::SeqCst);
        // Whatever the watch tells lets it look at the clock.
        self.hub.0.lead.load().as_ref().expect("leads").changed.notify_one();
    }

    /// Fingerprint of the root in use.
    pub(super) fn root(&self) -> String {
        zen_pki::certificates(&self.cluster.entry(CA, "tls.crt")).remove(0).0
    }

    /// An exchange of the root is in this phase; fingerprint of the one that comes.
    pub(super) async fn exchange_root(&self, phase: Phase) -> String {
        if self.cluster.object(CA_NEXT).is_none() {
            let next = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
            let issuer = next.issue_intermediate(Timestamp::now()).expect("an issuing CA");
            self.cluster.put(secret_of(CA_NEXT, &next));
            self.cluster.put(secret_of(ISSUER_NEXT, &issuer));
        }
        let new = zen_pki::certificates(&self.cluster.entry(CA_NEXT, "tls.crt")).remove(0).0;
        let plan = Plan::default();
        let request = record::Request { id: "r".to_owned(), action: Action::Start, subject: Subject::Root, plan };
        let state = record::State::default().answered(&request, Ok(&self.root()), Rate::default(), Timestamp(0));
        let state = state.entered(phase, Some(&new), "", Timestamp(1));
        self.cluster.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": record::CONFIG_MAP},
            "data": {record::STATE: serde_json::to_string(&state).expect("JSON")},
        }));
        self.until(async || self.replica.service.trusted().len() == 2).await;
        new
    }

    /// An enrollment as a person applies it: with a new uid when it was deleted before.
    pub(super) fn apply(&self, id: &str, spec: &Value) {
        let mut state = self.state.lock().expect("no panic");
        let (namespace, name) = id.split_once('/').expect("a cluster");
        let mut object = state.objects.get(id).cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ClusterEnrollment",
                "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{}", state.version),
                             "generation": 0, "creationTimestamp": CREATED},
            })
        });
        object["metadata"]["generation"] = (object["metadata"]["generation"].as_i64().expect("a number") + 1).into();
        let mut whole =
            json!({"recipient": self.member.recipient().as_str(), "ttl": "30m", "bundle": "1", "disabled": false});
        for (key, value) in spec.as_object().expect("a map") {
            whole[key] = value.clone();
        }
        object["spec"] = whole;
        state.put(id, object);
    }

    pub(super) fn delete(&self, id: &str) {
        let mut state = self.state.lock().expect("no panic");
        let object = state.objects.remove(id).expect("there");
        state.version += 1;
        state.watch.deleted(object);
    }

    pub(super) fn status(&self, id: &str) -> Value {
        let state = self.state.lock().expect("no panic");
        state.objects.get(id).map(|object| object["status"].clone()).unwrap_or_default()
    }

    pub(super) fn writes(&self) -> usize {
        self.state.lock().expect("no panic").writes
    }

    /// Waits until the status has this phase, and nothing is left to be written.
    pub(super) async fn phase(&self, id: &str, phase: &str) -> Value {
        self.until(async || self.status(id)["phase"] == phase).await;
        self.status(id)
    }

    /// Waits for a bundle that is another than the one before, and opens it as the member does.
    pub(super) async fn bundle(&self, id: &str, before: Option<&Opened>) -> Opened {
        let known = before.map(|before| before.stamp.issued_at.to_string());
        let opened = || {
            let data = self.status(id)["bundle"]["data"].clone();
            let bundle = Bundle::from_data(data["clear"].as_str()?, data["sealed"].as_str()?).expect("a bundle");
            let opened = bundle.open(&Keyring::new(vec![self.member.clone()]), &[], self.now()).expect("opens");
            (Some(opened.stamp.issued_at.to_string()) != known).then_some(opened)
        };
        self.until(async || opened().is_some()).await;
        opened().expect("there")
    }

    /// One request; none where no connection came to be.
    pub(super) async fn raw(
        &self,
        path: &str,
        proof: Option<&str>,
        body: Vec<u8>,
        identity: Option<&Identity>,
    ) -> Result<(u16, Value), String> {
        let tls = hub_client(&self.roots, &domain(), identity).expect("a configuration");
        let mut request = Request::post(path).header("host", NAME).header("content-type", "application/json");
        if let Some(proof) = proof {
            request = request.header(proof::HEADER, proof);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let name = ServerName::try_from(NAME).expect("a name");
        let answer = exchange(self.address, name, tls, request, Duration::from_secs(20), 1 << 20).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let code = answer.status().as_u16();
        let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
        if code != 200 {
            assert!(!body["request_id"].as_str().expect("an id").is_empty() && body["message"].is_string());
            let passes = ["NotLeader", "RateLimited", "TooManyRequests", "IssuerUnavailable"];
            let passes = passes.contains(&body["code"].as_str().expect("a code"));
            assert_eq!(answer.headers().contains_key("retry-after"), passes, "{body}");
        }
        Ok((code, body))
    }

    /// The code of a refusal; `Issued` for none.
    pub(super) async fn code(&self, path: &str, proof: &str, body: Vec<u8>, identity: Option<&Identity>) -> String {
        let (status, answer) = self.raw(path, Some(proof), body, identity).await.expect("an answer");
        if status == 200 { "Issued".to_owned() } else { answer["code"].as_str().expect("a code").to_owned() }
    }

    /// Redeems a bundle with a signing request, proven now.
    pub(super) async fn redeem(&self, opened: &Opened, csr: &str) -> Result<Answer, String> {
        let (body, proof) = Redeem::new(opened, csr.to_owned()).prove(opened, self.now()).expect("proven");
        let path = zen_enroll::path(&opened.cluster);
        let (status, answer) = self.raw(&path, Some(&proof.value()), body, None).await?;
        if status != 200 {
            return Err(answer["code"].as_str().expect("a code").to_owned());
        }
        Ok(serde_json::from_value(answer).expect("an answer"))
    }

    /// Enrolls, from the bundle to the identity of the member's operator.
    pub(super) async fn enroll(&self, id: &str) -> Member {
        self.apply(id, &json!({}));
        let opened = self.bundle(id, None).await;
        self.member(&opened).await
    }

    pub(super) async fn member(&self, opened: &Opened) -> Member {
        let (csr, key) = csr(&opened.cluster);
        let answer = self.redeem(opened, &csr).await.expect("enrolled");
        Member::of(&opened.cluster, &answer, &key, self.now())
    }
}

/// What the API server has besides.
fn script(cluster: &Cluster, root: &RootKey, state: &Arc<Mutex<State>>) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": names::ROOT, "namespace": "zen-mesh"},
        "data": {names::ROOT_KEY: STANDARD.encode(root.text().as_bytes())},
    });
    let named = Call::get(SECRETS).query("fieldSelector", &format!("metadata.name={}", names::ROOT));
    cluster.server.allow(named, Reply::list(vec![secret]));
    let all = Arc::clone(state);
    cluster.server.allow(Call::get(ALL), Reply::with(move |_| all.lock().expect("no panic").list(|_| true)));
    let watch = state.lock().expect("no panic").watch.clone();
    cluster.server.allow(Call::get(ALL).query("watch", "true"), Reply::watch(&watch));
    let one = Arc::clone(state);
    let list = move |received: &zen_testkit::api_server::Received| {
        let namespace = received.path[OF.len()..].split('/').next().unwrap_or_default().to_owned();
        let name = received.query["fieldSelector"].replace("metadata.name=", "");
        one.lock().expect("no panic").list(|key| key == format!("{namespace}/{name}"))
    };
    cluster.server.allow(Call::get(OF).under(), Reply::with(list));
    let patched = Arc::clone(state);
    let swap = move |received: &zen_testkit::api_server::Received| {
        let mut segments = received.path[OF.len()..].split('/');
        let (namespace, name) = (segments.next().unwrap_or_default(), segments.nth(1).unwrap_or_default());
        assert_eq!(segments.next(), Some("status"));
        patched.lock().expect("no panic").swap(&format!("{namespace}/{name}"), &received.body)
    };
    cluster.server.allow(Call::patch(OF).under(), Reply::by(swap));
    cluster.server.allow(Call::post(EVENTS).under(), Reply::stored());
    cluster.server.allow(Call::patch(EVENTS).under(), Reply::stored());
}

pub(super) fn csr(cluster: &ClusterId) -> (String, Secret) {
    issuer_request(&domain(), &Scope::Cluster(cluster.clone())).expect("a request")
}

/// An enrolled cluster.
pub(super) struct Member {
    pub(super) cluster: ClusterId,
    pub(super) ca: Ca,
    pub(super) roots: TrustRoots,
    pub(super) key: ClusterKey,
    pub(super) answer: Answer,
}

impl Member {
    pub(super) fn of(cluster: &ClusterId, answer: &Answer, key: &Secret, now: Timestamp) -> Self {
        let ca = Ca::from_pem(&answer.issued.chain, key, "the issuing CA", &domain(), now).expect("of the key");
        let newest = &answer.given.keys[0];
        Self {
            cluster: cluster.clone(),
            roots: TrustRoots::from_pem(&answer.given.roots).expect("roots"),
            key: ClusterKey::given(&newest.agent_key.0, cluster, newest.version).expect("32 bytes"),
            answer: answer.clone(),
            ca,
        }
    }

    /// The identity of one of its workloads.
    pub(super) fn identity(&self, account: &str, now: Timestamp) -> Identity {
        let id = Scope::Cluster(self.cluster.clone()).workload(&domain(), "zen-mesh", account).expect("an id");
        let issued = self.ca.issue_workload_at(&id, now, Duration::from_hours(1)).expect("issued");
        Identity::new(&issued, &self.roots).expect("an identity")
    }

    /// A request of its operator, as it is due.
    pub(super) fn ask(&self, csr: Option<String>, now: Timestamp) -> (Vec<u8>, Proof) {
        let sync = Sync { cluster: self.cluster.clone(), csr, holds: None };
        sync.prove(self.key.id(), &self.key.agent(), now).expect("proven")
    }
}
