//! The API server of a member, and its operator step by step: each step by a keeper of its own, as if the process had ended
//! after every write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::watch;
use zen_audit::Record;
use zen_enroll::bundle::{CLEAR, SEALED, SECRET, SECRET_TYPE};
use zen_identity::client::{Clock, SystemResolver};
use zen_lock::Recipient;
use zen_model::Timestamp;
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain, TrustRoots};
use zen_runtime::lease::Leadership;
use zen_testkit::api_server::{ApiServer, Call, Reply};

use super::super::keep::{Error, Keeper, Next};
use super::super::{AGENT, Leads, MEMBER, Member, Metrics, PENDING};
use super::hub::Hub;
use crate::configuration::Followed;
use crate::identity::ISSUER;
use crate::settings::{self, Workloads};
use crate::{Writer, names, writer};

pub const NAMESPACE: &str = "zen-mesh";
pub const SECRETS: &str = "/api/v1/namespaces/zen-mesh/secrets";
const CONFIG_MAPS: &str = "/api/v1/namespaces/zen-mesh/configmaps";
pub const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/zen-mesh/events";

pub fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
}

pub struct Cluster {
    pub server: ApiServer,
    state: Arc<Mutex<State>>,
    /// Milliseconds that its clock is ahead.
    pub ahead: Arc<AtomicU64>,
    pub pins: Vec<String>,
    pub records: Mutex<Vec<Record>>,
}

/// `path` and name, as kind and name: a Secret and a ConfigMap may share one.
fn key(path: &str, name: &str) -> String {
    format!("{path}/{name}")
}

impl Cluster {
    pub fn new() -> Self {
        let cluster = Self {
            server: ApiServer::new(),
            state: Arc::default(),
            ahead: Arc::default(),
            pins: Vec::new(),
            records: Mutex::default(),
        };
        let secrets = [MEMBER, SECRET, PENDING, AGENT, ISSUER, names::EGRESS_KEYS].map(|name| (SECRETS, name));
        for (path, name) in secrets.into_iter().chain([(CONFIG_MAPS, MEMBER), (CONFIG_MAPS, names::TRUST)]) {
            cluster.serve(path, name);
        }
        cluster.server.allow(Call::post(EVENTS), Reply::stored());
        cluster.server.allow(Call::patch(EVENTS).under(), Reply::stored());
        cluster
    }

    /// Everything works for this object, unless a test says otherwise.
    pub fn serve(&self, path: &'static str, name: &str) {
        let (state, at) = (Arc::clone(&self.state), key(path, name));
        let only = Call::get(path).query("fieldSelector", &format!("metadata.name={name}"));
        self.server.allow(
            only,
            Reply::with(move |_| {
                let state = state.lock().expect("no panic");
                let items: Vec<_> = state.objects.get(&at).cloned().into_iter().collect();
                json!({"kind": "List", "apiVersion": "v1", "items": items,
                       "metadata": {"resourceVersion": state.version.max(1).to_string()}})
            }),
        );
        let (state, at) = (Arc::clone(&self.state), key(path, name));
        self.server.allow(
            Call::patch(&key(path, name)),
            Reply::with(move |received| {
                let mut body = received.body.clone();
                let manager = received.query.get("fieldManager").cloned().unwrap_or_default();
                body["metadata"]["managedFields"] = json!([{
                    "manager": manager, "operation": "Apply", "apiVersion": "v1",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}},
                }]);
                state.lock().expect("no panic").put(&at, body)
            }),
        );
        let (state, at) = (Arc::clone(&self.state), key(path, name));
        self.server.allow(
            Call::delete(&key(path, name)),
            Reply::with(move |_| state.lock().expect("no panic").objects.remove(&at).expect("there")),
        );
    }

    pub fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.ahead);
        Arc::new(move || Timestamp(Timestamp::now().0 + ahead.load(Ordering::Relaxed)))
    }

    pub fn later(&self, by: Duration) {
        self.ahead.fetch_add(u64::try_from(by.as_millis()).expect("fits"), Ordering::Relaxed);
    }

    /// What somebody applies.
    pub fn apply(&self, bundle: &zen_enroll::Bundle) {
        let (clear, sealed) = bundle.data();
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": SECRET},
            "data": {CLEAR: STANDARD.encode(clear), SEALED: STANDARD.encode(sealed)},
        });
        self.state.lock().expect("no panic").put(&key(SECRETS, SECRET), body);
    }

    pub fn put(&self, name: &str, object: Value) {
        self.state.lock().expect("no panic").put(&key(SECRETS, name), object);
    }

    pub fn delete(&self, name: &str) {
        self.state.lock().expect("no panic").objects.remove(&key(SECRETS, name)).expect("there");
    }

    pub fn secret(&self, name: &str) -> Option<Value> {
        self.state.lock().expect("no panic").objects.get(&key(SECRETS, name)).cloned()
    }

    pub fn config_map(&self, name: &str) -> Option<Value> {
        self.state.lock().expect("no panic").objects.get(&key(CONFIG_MAPS, name)).cloned()
    }

    pub fn entry(&self, name: &str, key: &str) -> String {
        let secret = self.secret(name).expect("there");
        let bytes = STANDARD.decode(secret["data"][key].as_str().expect("there")).expect("base64");
        String::from_utf8(bytes).expect("text")
    }

    pub fn trust(&self) -> String {
        self.config_map(names::TRUST).expect("there")["data"]["ca.crt"].as_str().expect("text").to_owned()
    }

    /// Makes the key for bundles, as the first start does.
    pub async fn recipient(&self) -> Recipient {
        if self.config_map(MEMBER).is_none() || self.secret(MEMBER).is_none() {
            // Other steps may fail beyond these two.
            self.steps(2).await.expect("steps");
        }
        let map = self.config_map(MEMBER).expect("there");
        map["data"]["recipient"].as_str().expect("text").parse().expect("a public key")
    }

    /// What the identity service would hand out as the operator's own.
    pub fn identity(&self) -> Option<Identity> {
        self.secret(ISSUER)?;
        let (chain, key) = (self.entry(ISSUER, "tls.crt"), self.entry(ISSUER, "tls.key"));
        let key = zen_model::Secret::new(key);
        let ca = Ca::from_pem(&chain, &key, ISSUER, &domain(), Timestamp::now()).ok()?;
        let id: SpiffeId = ca.scope()?.workload(&domain(), NAMESPACE, "zen-operator").ok()?;
        let roots = TrustRoots::from_pem(&self.trust()).ok()?;
        Identity::new(&ca.issue_workload(&id, Duration::from_hours(1)).ok()?, &roots).ok()
    }

    /// Steps until there is nothing to do now, each by a process of its own. Fails with the first step that does.
    pub async fn drive(&self) -> Result<Option<String>, Error> {
        let mut problem = None;
        for _ in 0..40 {
            let (next, said) = self.step().await?;
            problem = said;
            if let Next::Wait(_) = next {
                return Ok(problem);
            }
        }
        panic!("it never rests: {problem:?}")
    }

    /// One step of a new process, and what it says is wrong.
    pub async fn step(&self) -> Result<(Next, Option<String>), Error> {
        let steps = self.steps(1).await?;
        Ok(steps.into_iter().next().expect("one"))
    }

    /// So many steps of one process.
    pub async fn steps(&self, count: usize) -> Result<Vec<(Next, Option<String>)>, Error> {
        let metrics = Metrics::default();
        let resolver = Arc::new(SystemResolver::searching());
        let member = Member::with(self.server.client(), NAMESPACE, domain(), metrics, self.clock(), resolver);
        let writer =
            Writer::new(self.server.client(), Leadership::unguarded(), "zen-operator-0", writer::Metrics::default());
        let mut workloads = Workloads::parse(settings::tests::LEAST).expect("valid");
        workloads.member = Some(settings::Member { root_fingerprints: self.pins.clone() });
        let workloads = Followed { is_known: true, content: Some(Arc::new(workloads)), ..Followed::default() };
        let (_tell, workloads) = watch::channel(workloads);
        let (identity, note) = (|| self.identity(), |record| self.records.lock().expect("no panic").push(record));
        let leads = Leads { writer: &writer, workloads, identity: Some(&identity), note: &note };
        let mut keeper = Keeper::new(&member.0, &leads);
        let mut steps = Vec::new();
        for _ in 0..count {
            let next = keeper.step(false).await?.expect("goes on");
            steps.push((next, member.problem()));
        }
        Ok(steps)
    }

    /// Enrolled at this hub with its next bundle.
    pub async fn enroll(&self, hub: &Hub) {
        let recipient = self.recipient().await;
        self.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
        self.settle().await;
    }

    /// Drives one process until the hub was asked and nothing is left to do.
    pub async fn settle(&self) {
        let steps = self.steps(16).await.expect("steps");
        let (last, problem) = steps.last().expect("some");
        assert!(matches!(last, Next::Wait(_)) && problem.is_none(), "{steps:?}");
    }

    /// Reasons of the Events, in order.
    pub fn said(&self) -> Vec<String> {
        let received = self.server.received();
        let events = received.iter().filter(|received| received.method == "POST" && received.path == EVENTS);
        events.map(|event| event.body["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl State {
    fn put(&mut self, at: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["namespace"] = NAMESPACE.into();
        object["metadata"]["uid"] = format!("uid-{at}").into();
        self.objects.insert(at.to_owned(), object.clone());
        object
    }
}
