//! An API server with the few objects that the identity service knows, and a service on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zen_identity::Mesh;
use zen_identity::client::Clock;
use zen_model::Timestamp;
use zen_pki::{Ca, TrustDomain};
use zen_rotation::{inventory, record};
use zen_runtime::lease::Leadership;
use zen_testkit::api_server::{ApiServer, Call, Received, Reply, Watch};

use super::super::{CA, CA_NEXT, ISSUER, ISSUER_NEXT, Service, Settings, Source};
use crate::{Writer, names, writer};

pub(crate) const SECRETS: &str = "/api/v1/namespaces/zen-mesh/secrets";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/zen-mesh/configmaps";
pub(crate) const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/zen-mesh/events";
pub(crate) const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

pub(crate) fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

pub(crate) fn mesh() -> Mesh {
    Mesh::new(&domain(), "zen-mesh").expect("valid")
}

pub(crate) fn settings() -> Settings {
    Settings::new(mesh(), Duration::from_hours(1), ["hooks.example.com".to_owned()])
}

/// Objects by name, and who watches them.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    watches: BTreeMap<String, Watch>,
    version: u64,
}

impl State {
    fn put(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["namespace"] = "zen-mesh".into();
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        object["metadata"]["uid"] = format!("uid-{name}").into();
        let there = self.objects.insert(name.clone(), object.clone()).is_some();
        if let Some(watch) = self.watches.get(&name) {
            if there { watch.modified(object.clone()) } else { watch.added(object.clone()) }
        }
        object
    }
}

/// Everything works unless a test says otherwise.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    state: Arc<Mutex<State>>,
    pub(crate) clock: Clock,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let (start, epoch) = (Instant::now(), Timestamp::now());
        let clock: Clock = Arc::new(move || epoch.plus(start.elapsed()));
        let cluster = Self { server: ApiServer::new(), state: Arc::default(), clock };
        for (path, name) in [
            (SECRETS, CA),
            (SECRETS, CA_NEXT),
            (SECRETS, ISSUER),
            (SECRETS, ISSUER_NEXT),
            (SECRETS, names::INGESTER_KEYS),
            (SECRETS, names::EGRESS_KEYS),
            (CONFIG_MAPS, names::TRUST),
            (CONFIG_MAPS, record::CONFIG_MAP),
            (CONFIG_MAPS, inventory::CONFIG_MAP),
        ] {
            let watch = Watch::default();
            cluster.state.lock().expect("no panic").watches.insert(name.to_owned(), watch.clone());
            let only = Call::get(path).query("fieldSelector", &format!("metadata.name={name}"));
            let state = Arc::clone(&cluster.state);
            cluster.server.allow(
                only.clone(),
                Reply::with(move |_| {
                    let state = state.lock().expect("no panic");
                    let items: Vec<_> = state.objects.get(name).cloned().into_iter().collect();
                    json!({"kind": "List", "apiVersion": "v1", "items": items,
                           "metadata": {"resourceVersion": state.version.max(1).to_string()}})
                }),
            );
            cluster.server.allow(only.query("watch", "true"), Reply::watch(&watch));
        }
        for call in [
            Call::patch(&format!("{SECRETS}/{CA}")),
            Call::patch(&format!("{SECRETS}/{CA_NEXT}")),
            Call::patch(&format!("{SECRETS}/{ISSUER}")),
            Call::patch(&format!("{SECRETS}/{ISSUER_NEXT}")),
            Call::patch(&format!("{CONFIG_MAPS}/{}", names::TRUST)),
            Call::patch(&format!("{CONFIG_MAPS}/{}", record::CONFIG_MAP)),
            Call::patch(&format!("{CONFIG_MAPS}/{}", inventory::CONFIG_MAP)),
        ] {
            let state = Arc::clone(&cluster.state);
            let put = move |body: Value| state.lock().expect("no panic").put(body);
            cluster.server.allow(
                call,
                Reply::with(move |received| {
                    let mut body = received.body.clone();
                    let manager = received.query.get("fieldManager").cloned().unwrap_or_default();
                    body["metadata"]["managedFields"] = json!([{
                        "manager": manager, "operation": "Apply", "apiVersion": "v1",
                        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}},
                    }]);
                    put(body)
                }),
            );
        }
        for name in [CA, CA_NEXT, ISSUER_NEXT] {
            let state = Arc::clone(&cluster.state);
            let gone = move |_: &Received| {
                let mut state = state.lock().expect("no panic");
                if let Some(object) = state.objects.remove(name) {
                    state.watches[name].deleted(object);
                }
                json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            };
            cluster.server.allow(Call::delete(&format!("{SECRETS}/{name}")), Reply::with(gone));
        }
        cluster.server.allow(Call::post(EVENTS), Reply::stored());
        cluster.server.allow(Call::patch(EVENTS).under(), Reply::stored());
        cluster
    }

    pub(crate) fn put(&self, object: Value) {
        self.state.lock().expect("no panic").put(object);
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut state = self.state.lock().expect("no panic");
        let object = state.objects.remove(name).expect("there");
        state.watches[name].deleted(object);
    }

    pub(crate) fn object(&self, name: &str) -> Option<Value> {
        self.state.lock().expect("no panic").objects.get(name).cloned()
    }

    /// The text of an entry of a Secret.
    pub(crate) fn entry(&self, name: &str, key: &str) -> String {
        let object = self.object(name).expect("there");
        let bytes = STANDARD.decode(object["data"][key].as_str().expect("there")).expect("base64");
        String::from_utf8(bytes).expect("text")
    }

    /// A replica; the leader also keeps the CA.
    pub(crate) fn start(&self, source: Source, leads: bool) -> Replica {
        let (change, receiver) = watch::channel(settings());
        let mut registry = Registry::default();
        let service =
            Service::with_clock(self.server.client(), source, receiver, &mut registry, Arc::clone(&self.clock));
        let running = tokio::spawn({
            let service = service.clone();
            async move { Box::pin(service.run()).await }
        });
        let writer =
            Writer::new(self.server.client(), Leadership::unguarded(), "zen-operator-0", writer::Metrics::default());
        let keeping = leads.then(|| {
            let service = service.clone();
            let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": names::WORKLOADS, "uid": "u"});
            tokio::spawn(async move { service.keep(&writer, Some(&owner)).await })
        });
        Replica { service, change, running, keeping, registry }
    }

    /// Writes that came, Events aside, by method and path.
    pub(crate) fn writes(&self) -> Vec<String> {
        let received = self.server.received();
        let is_write = |path: &str| path != REVIEWS && !path.starts_with(EVENTS);
        let writes = received.iter().filter(|received| received.method != "GET" && is_write(&received.path));
        writes.map(|received| format!("{} {}", received.method, received.path)).collect()
    }
}

pub(crate) struct Replica {
    pub(crate) service: Service,
    pub(crate) change: watch::Sender<Settings>,
    pub(crate) running: JoinHandle<super::super::Changed>,
    pub(crate) keeping: Option<JoinHandle<()>>,
    pub(crate) registry: Registry,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
        self.keeping.iter().for_each(JoinHandle::abort);
    }
}

/// A Secret as the operator makes it.
pub(crate) fn tls_secret(name: &str, certificate: &str, key: &[u8]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}},
        "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)},
    })
}

pub(crate) fn secret_of(name: &str, ca: &Ca) -> Value {
    tls_secret(name, ca.certificate_pem(), ca.key_pem().expose())
}
