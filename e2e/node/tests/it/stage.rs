//! What the tests under load stand on: a namespace, a Webhook in effect, and a private service that counts what arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use zen_e2e_node::{Cluster, Namespace, Source, Tally};
use zen_testkit::{Received, Upstream};

/// Whatever a loaded machine takes.
pub const SOON: Duration = Duration::from_mins(2);
/// Of the Webhook `github`.
pub const SECRET: &str = "a secret of the end-to-end test";

/// A Webhook for the Destination `ci`, and its Secret.
pub fn webhook(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: github, namespace: {namespace}}}
stringData: {{secret: {SECRET}}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: github, namespace: {namespace}}}
spec:
  verification: {{provider: github, secrets: [{{secretRef: {{name: github, key: secret}}}}]}}
  routes: [{{destinations: [{{name: ci}}]}}]
---"
    )
}

/// A Webhook, its Secret and a Destination that names the Service `ci`, in effect at every replica.
pub async fn apply(cluster: &Cluster, namespace: &str) -> Source {
    let manifests = webhook(namespace)
        + &format!(
            "
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: {namespace}}}
spec:
  target: {{service: {{name: ci, port: 80, path: /hooks, scheme: http}}}}
  delivery: {{retry: {{transient: {{attempts: 100, initial: 1s, factor: 1}}}}}}
"
        );
    cluster.apply(&manifests).await.unwrap();
    programmed(cluster, namespace, &["webhook/github", "destination/ci"]).await;
    Source::new(cluster, &format!("/{namespace}/github"), SECRET).await.unwrap()
}

/// The Service `ci` of a namespace, with this target behind it.
pub fn service(namespace: &str, target: &Upstream) -> String {
    let address = target.address();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: ci, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: ci-test, namespace: {namespace}, labels: {{kubernetes.io/service-name: ci}}}}
addressType: IPv4
ports: [{{name: http, port: {}}}]
endpoints: [{{addresses: [{}], targetRef: {{kind: Pod, name: test, namespace: {namespace}}}}}]
",
        address.port(),
        address.ip()
    )
}

/// Waits until these are in effect at every replica.
pub async fn programmed(cluster: &Cluster, namespace: &str, objects: &[&str]) {
    for object in objects {
        let wait = ["wait", "--for=condition=Programmed", object, "--namespace", namespace, "--timeout=120s"];
        cluster.kubectl(&wait).await.unwrap();
    }
}

/// All of it.
pub struct Stage {
    pub namespace: Namespace,
    pub source: Source,
    pub target: Upstream,
}

impl Stage {
    /// The private service is this process, behind a Service of the namespace: it loses no count whatever dies, and can
    /// be asked while the API server is away. Its endpoint names a pod, because the guard lets nothing through to an address
    /// of the network behind which there is none.
    pub async fn new(cluster: &Cluster, prefix: &str) -> Self {
        let namespace = Namespace::new(cluster, prefix).await.unwrap();
        let target = Upstream::http_at(cluster.host_ip().parse().unwrap()).await;
        cluster.apply(&service(&namespace.name, &target)).await.unwrap();
        let source = apply(cluster, &namespace.name).await;
        let stage = Self { namespace, source, target };
        // The way is open: what follows is not about beginnings.
        let first = stage.source.deliver("first", SOON).await.unwrap();
        stage.all_of(&[first].into(), SOON).await;
        stage
    }

    /// How often each event arrived.
    pub fn arrived(&self) -> BTreeMap<String, usize> {
        let mut arrived = BTreeMap::new();
        for request in self.target.received() {
            *arrived.entry(id(&request)).or_default() += 1;
        }
        arrived
    }

    /// Deliveries that arrived after the first `seen`, once there is one.
    pub async fn after(&self, seen: usize) -> Vec<Received> {
        self.target.wait_for_count(seen + 1).await;
        self.target.received_after(seen)
    }

    /// Waits until all of these have arrived; how long that took.
    pub async fn all_of(&self, ids: &BTreeSet<String>, limit: Duration) -> Duration {
        let began = Instant::now();
        let (mut missing, mut seen) = (ids.clone(), 0);
        let waiting = async {
            while !missing.is_empty() {
                let new = self.after(seen).await;
                seen += new.len();
                for request in new {
                    missing.remove(&id(&request));
                }
            }
        };
        let arrived = timeout(limit, waiting).await.is_ok();
        assert!(arrived, "{} of {} have not arrived within {limit:?}: {missing:?}", missing.len(), ids.len());
        began.elapsed()
    }

    /// Everything that was acknowledged arrives; says what there was.
    pub async fn account(&self, what: &str, tally: &Tally, limit: Duration) {
        assert!(tally.given_up.is_empty(), "{what}: {tally}");
        let ids: BTreeSet<String> = tally.ids().map(str::to_owned).collect();
        assert_eq!(ids.len(), tally.acknowledged.len(), "{what}: two deliveries of one id");
        let last = self.all_of(&ids, limit).await;
        let repeated = self.arrived().values().filter(|times| **times > 1).count();
        println!("{what}: {tally}; all arrived {last:.1?} after the last request, {repeated} more than once");
    }
}

/// Of the event.
pub fn id(request: &Received) -> String {
    request.header("ce-id").unwrap_or_default().to_owned()
}
