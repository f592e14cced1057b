//! The operator's status part on a control plane of its own. The pods are stood in for: each watches and compiles the
//! objects as a real one does, and reports without a network between.

use std::time::Duration;

use kube::Client;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_compile::Plane;
use zen_e2e::ControlPlane;
use zen_identity::control::{self, Report, ReportQuery};
use zen_live::cluster::{Cluster, Options};
use zen_operator::names;
use zen_operator::status::{self, Parts, Pod, ReportError, Settings, Source};
use zen_operator::writer::{Metrics, Writer};
use zen_pod::Reports;
use zen_pod::reports::Item;
use zen_runtime::lease::Leadership;

use crate::api_server::install;

/// Namespace of the release.
pub const NAMESPACE: &str = "zen-mesh";
/// How long a test waits for what should happen at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// A control plane with a mesh on it.
pub struct Mesh {
    pub control_plane: ControlPlane,
    pub client: Client,
    pub metrics: prometheus_client::registry::Registry,
    pods: FakePods,
    operator: Option<Operator>,
    end: CancellationToken,
}

struct Operator {
    _cluster: Cluster,
    end: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), zen_operator::writer::Error>>,
}

/// One ingester and one egress.
#[derive(Clone)]
struct FakePods {
    ingester: Reports,
    egress: Reports,
}

impl Source for FakePods {
    async fn report(&self, pod: &Pod, query: &ReportQuery) -> Result<Report, ReportError> {
        let reports = match pod.plane {
            control::Plane::Ingester => &self.ingester,
            control::Plane::Egress => &self.egress,
        };
        Ok(reports.after(query).await)
    }
}

impl Mesh {
    /// With the namespaces `team-a`, `team-b` and `security`; `hooks.example.com` is granted to `team-b`.
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        let client = control_plane.client().await.unwrap();
        install(&client).await;
        for namespace in [NAMESPACE, "team-a", "team-b", "security"] {
            apply(&client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
        }
        let mesh = "grants: [{namespace: team-b, hosts: [hooks.example.com]}]";
        apply(&client, &config_map(names::MESH, names::MESH_KEY, mesh)).await;
        for (service, pod) in [(names::INGESTER_PEERS, "zen-ingester-0"), (names::EGRESS, "zen-egress-0")] {
            apply(&client, &slice(service, pod)).await;
        }
        let end = CancellationToken::new();
        let pods = FakePods {
            ingester: Reports::new("zen-ingester-0", control::Plane::Ingester, end.clone()),
            egress: Reports::new("zen-egress-0", control::Plane::Egress, end.clone()),
        };
        for (plane, reports) in [(Plane::Ingester, &pods.ingester), (Plane::Egress, &pods.egress)] {
            tokio::spawn(stand_in(cluster(&control_plane, plane).await, reports.clone()));
        }
        let metrics = prometheus_client::registry::Registry::default();
        let mut mesh = Self { control_plane, client, metrics, pods, operator: None, end };
        mesh.start_operator().await;
        mesh
    }

    /// Ends the operator.
    pub async fn stop_operator(&mut self) {
        let operator = self.operator.take().expect("it runs");
        operator.end.cancel();
        operator.running.await.unwrap().unwrap();
    }

    /// Starts one anew; its metrics begin at zero.
    pub async fn start_operator(&mut self) {
        self.metrics = prometheus_client::registry::Registry::default();
        let operator = Operator::start(&self.control_plane, &self.client, &self.pods, &mut self.metrics).await;
        self.operator = Some(operator);
    }

    /// Applies an object as its user does.
    pub async fn apply(&self, object: &Value) {
        apply(&self.client, object).await;
    }

    /// Applies objects of a manifest.
    pub async fn apply_all(&self, manifest: &str) {
        for object in crate::samples::documents(manifest) {
            self.apply(&object).await;
        }
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.control_plane.kubectl(&["delete", kind, "-n", namespace, name]).await.unwrap();
    }

    /// The object as it is.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        api(&self.client, kind, namespace).get(name).await.map(|object| json!(object)).unwrap()
    }

    /// Waits until a condition of the object has this reason; its message.
    pub async fn until(&self, kind: &str, namespace: &str, name: &str, condition: &str, reason: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object = self.get(kind, namespace, name).await;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let found = conditions.iter().find(|it| it["type"] == condition && it["reason"] == reason);
            if let Some(found) = found.filter(|_| current) {
                return found["message"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "{kind} {name}: no {condition} {reason}: {:#}", object["status"]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// So many writes of this outcome, by the operator's metrics.
    pub fn writes(&self, kind: &str, outcome: &str) -> u32 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let value = zen_runtime::metrics::value(&text, "writes_total", &[("kind", kind), ("outcome", outcome)]);
        format!("{:.0}", value.unwrap_or_default()).parse().unwrap()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(operator) = &self.operator {
            operator.end.cancel();
        }
        self.end.cancel();
    }
}

impl Operator {
    async fn start(
        control_plane: &ControlPlane,
        client: &Client,
        pods: &FakePods,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Self {
        let cluster = cluster(control_plane, Plane::Operator).await;
        let settings =
            Settings { ingester_replicas: 2, intake: "intake.example.com".to_owned(), opens_zen_locks: false };
        let (_, settings) = watch::channel(settings);
        let end = CancellationToken::new();
        let metrics = Metrics::default();
        metrics.register(registry);
        let parts = Parts {
            client: client.clone(),
            writer: Writer::new(client.clone(), Leadership::unguarded(), "zen-operator-0", metrics),
            namespace: NAMESPACE.to_owned(),
            snapshot: cluster.snapshot(),
            published: cluster.published(),
            settings,
            source: pods.clone(),
            metrics: status::Metrics::default(),
        };
        let running = tokio::spawn(status::run(parts, end.clone()));
        Self { _cluster: cluster, end, running }
    }
}

async fn cluster(control_plane: &ControlPlane, plane: Plane) -> Cluster {
    let client = zen_live::cluster::client(control_plane.config().await.unwrap()).unwrap();
    let options = Options { plane, member: None, mesh_namespace: NAMESPACE.into(), cache: None };
    Cluster::start(client, options).await.unwrap()
}

/// Reports what this plane compiles, as a pod does.
async fn stand_in(cluster: Cluster, reports: Reports) {
    let mut published = cluster.published();
    loop {
        let verdicts = published.borrow_and_update().verdicts.clone();
        reports.replace(verdicts.into_iter().map(|verdict| Item { verdict, last_verified: None, breaker: None }));
        if published.changed().await.is_err() {
            return;
        }
    }
}

fn config_map(name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {key: text},
    })
}

fn slice(service: &str, pod: &str) -> Value {
    let target = json!({"kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": format!("uid-of-{pod}")});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": pod, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": true}, "targetRef": target}],
    })
}

/// Applies an object as its user does.
pub async fn apply(client: &Client, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let params = kube::api::PatchParams::apply("user").force();
    let name = object["metadata"]["name"].as_str().unwrap();
    let patch = kube::api::Patch::Apply(object);
    api(client, kind, namespace).patch(name, &params, &patch).await.unwrap_or_else(|error| panic!("{object}: {error}"));
}

fn api(client: &Client, kind: &str, namespace: &str) -> kube::Api<DynamicObject> {
    let (group, version) = match kind {
        "EndpointSlice" => ("discovery.k8s.io", "v1"),
        "Webhook" | "Destination" | "ZenLock" | "ClusterEnrollment" => (zen_crds::GROUP, zen_crds::VERSION),
        _ => ("", "v1"),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        kube::Api::all_with(client.clone(), &resource)
    } else {
        kube::Api::namespaced_with(client.clone(), namespace, &resource)
    }
}
