//! The loop against a scripted API server that fails on any call that is not expected. K-02, K-03, K-06.

mod age;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use zen_compile::{Plane, Reference, ReferenceKind};
use zen_runtime::lease::{Elector, Leadership, Options};
use zen_testkit::api_server::{ApiServer, Call, Reply, Watch};

use super::*;
use crate::decide::keys;
use crate::settings::tests::LEAST;
use crate::{names, writer};

const CORE: &str = "/api/v1/namespaces/zen-mesh";
const APPS: &str = "/apis/apps/v1/namespaces/zen-mesh";
const POLICY: &str = "/apis/policy/v1/namespaces/zen-mesh/poddisruptionbudgets";
const NETWORK: &str = "/apis/networking.k8s.io/v1/namespaces/zen-mesh/networkpolicies";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const REGISTRATIONS: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// A cluster in which the operator has just begun to lead.
struct Cluster {
    server: ApiServer,
    watches: BTreeMap<String, Watch>,
    workloads: watch::Sender<Followed<Workloads>>,
    published: watch::Sender<Arc<Published>>,
    known: watch::Sender<Known>,
    orders: watch::Receiver<Orders>,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

struct Setup {
    server: ApiServer,
    lists: BTreeMap<String, Vec<Value>>,
    leadership: Leadership,
    workloads: String,
    references: Vec<Reference>,
}

impl Setup {
    /// Root key, its branches and the trust bundle are there; nothing else is.
    fn new() -> Self {
        let server = ApiServer::new();
        let mut lists: BTreeMap<String, Vec<Value>> = [
            format!("{CORE}/secrets"),
            format!("{CORE}/pods"),
            format!("{CORE}/persistentvolumeclaims"),
            format!("{CORE}/services"),
            format!("{APPS}/statefulsets"),
            format!("{APPS}/deployments"),
            POLICY.to_owned(),
            NETWORK.to_owned(),
            format!("{RBAC}/roles"),
            format!("{RBAC}/rolebindings"),
            REGISTRATIONS.to_owned(),
            format!("{ADMISSION}/mutatingwebhookconfigurations"),
            format!("{ADMISSION}/validatingwebhookconfigurations"),
            format!("{CORE}/configmaps"),
        ]
        .into_iter()
        .map(|path| (path, Vec::new()))
        .collect();
        lists.insert(format!("{CORE}/secrets"), secrets());
        // Nothing is there under any name that is asked for.
        for path in lists.keys() {
            server.allow(Call::get(path), Reply::list(vec![]));
        }
        for tenant in ["team-a", "team-b"] {
            server.allow(Call::get(&format!("{RBAC}/namespaces/{tenant}/")).under(), Reply::list(vec![]));
        }
        server.allow(Call::patch("/").under(), Reply::stored());
        let leadership = Leadership::unguarded();
        Self { server, lists, leadership, workloads: LEAST.to_owned(), references: Vec::new() }
    }

    fn has(mut self, path: &str, object: Value) -> Self {
        self.lists.entry(path.to_owned()).or_default().push(object);
        self
    }

    fn start(self) -> Cluster {
        let Self { server, lists, leadership, workloads, references } = self;
        let mut watches = BTreeMap::new();
        let by_name = ["secrets", "apiservices", "webhookconfigurations", "configmaps"];
        for (path, items) in lists {
            // A list of names that is not for a watch keeps its own answer.
            let selector = if by_name.iter().any(|name| path.ends_with(name)) { None } else { Some("labelSelector") };
            let watch = Watch::default();
            if path.ends_with("secrets") {
                for item in &items {
                    let name = item["metadata"]["name"].as_str().expect("a name");
                    let call = Call::get(&path).query("fieldSelector", &format!("metadata.name={name}"));
                    server.allow(call, Reply::list(vec![item.clone()]));
                }
            } else {
                let value = match &*path {
                    path if path.ends_with("pods") || path.ends_with("claims") => {
                        "app.kubernetes.io/name=zen-mesh,app.kubernetes.io/component=ingester"
                    }
                    _ => "app.kubernetes.io/managed-by=zen-operator",
                };
                let call = Call::get(&path);
                let call = if let Some(selector) = selector { call.query(selector, value) } else { call };
                server.allow(call, Reply::list(items));
            }
            server.allow(Call::get(&path).query("watch", "true"), Reply::watch(&watch));
            watches.insert(path, watch);
        }
        // An event of a watch goes to one connection: this one is told apart from those of the other Secrets.
        let age = Call::get(&format!("{CORE}/secrets")).query("watch", "true");
        let watch = Watch::default();
        server.allow(age.query("fieldSelector", "metadata.name=zen-mesh-age"), Reply::watch(&watch));
        watches.insert(names::AGE.to_owned(), watch);
        let metrics = Metrics::default();
        let (workloads, told_workloads) = watch::channel(settings(&workloads));
        let (_mesh, mesh) = watch::channel(Followed { is_known: true, ..Followed::default() });
        let (_bundle, bundles) = watch::channel(Some(Arc::from("-----BEGIN CERTIFICATE-----\n")));
        let (published, told) = watch::channel(Arc::new(referring(references, true)));
        let (give, orders) = watch::channel(Orders::default());
        let (known, told_known) = watch::channel(Known::new());
        let writer = Writer::new(server.client(), leadership, "zen-operator-0", writer::Metrics::default());
        let parts = Parts {
            client: server.client(),
            writer,
            namespace: "zen-mesh".to_owned(),
            workloads: told_workloads,
            mesh,
            bundles,
            signing: watch::channel(None).1,
            published: told,
            orders: give,
            known: told_known,
            metrics: metrics.clone(),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(parts, shutdown.clone()));
        Cluster { server, watches, workloads, published, known, orders, metrics, shutdown, task }
    }
}

impl Cluster {
    /// Waits until everything was looked at once.
    async fn settled(&self) {
        while self.metrics.first.get() == 0.0 {
            assert!(!self.task.is_finished(), "the loop ended");
            tokio::task::yield_now().await;
        }
    }

    /// Paths that were written, less the release namespace's prefix.
    fn written(&self) -> Vec<String> {
        let writes = self.server.received().into_iter().filter(|call| call.method != http::Method::GET);
        writes.map(|call| format!("{} {}", call.method, call.path)).collect()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("joins").expect("ends well");
        self.server.finish();
    }
}

fn secrets() -> Vec<Value> {
    let value = |object: &crate::Object| {
        let mut value = Value::Object(object.body().clone());
        value["metadata"]["resourceVersion"] = "1".into();
        value["metadata"]["annotations"][names::APPLIED] = writer::digest(object.body()).into();
        value
    };
    let keys::Keys::Make(root) = keys::keys("zen-mesh", keys::Observed::default(), None) else { panic!("a root key") };
    let root = value(&root);
    let typed: Secret = serde_json::from_value(root.clone()).expect("a Secret");
    let observed = keys::Observed { root: Some(&typed), ..keys::Observed::default() };
    let keys::Keys::Branches { objects, .. } = keys::keys("zen-mesh", observed, None) else { panic!("branches") };
    [root].into_iter().chain(objects.iter().map(value)).collect()
}

fn settings(text: &str) -> Followed<Workloads> {
    let object = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        name: Some(names::WORKLOADS.to_owned()),
        namespace: Some("zen-mesh".to_owned()),
        uid: Some("u1".to_owned()),
        ..ObjectReference::default()
    };
    let content = Some(Arc::new(Workloads::parse(text).expect("valid")));
    Followed { is_known: true, content, problem: None, object: Some(object) }
}

fn referring(references: Vec<Reference>, complete: bool) -> Published {
    Published { references, complete, ..Published::default() }
}

fn secret_of(key: &str) -> Reference {
    Reference { plane: Plane::Ingester, kind: ReferenceKind::Secret, key: key.parse().expect("a key") }
}

fn all() -> BTreeSet<String> {
    let paths = [
        format!("{CORE}/services/zen-ingester"),
        format!("{CORE}/services/zen-ingester-peers"),
        format!("{CORE}/services/zen-ingester-api"),
        format!("{CORE}/services/zen-egress"),
        format!("{APPS}/statefulsets/zen-ingester"),
        format!("{APPS}/deployments/zen-egress"),
        format!("{POLICY}/zen-ingester"),
        format!("{POLICY}/zen-egress"),
        format!("{NETWORK}/zen-ingester"),
        format!("{NETWORK}/zen-egress"),
    ];
    paths.into_iter().map(|path| format!("PATCH {path}")).collect()
}

#[tokio::test]
async fn tenants_grant_what_is_used_and_no_longer() {
    let ours = |kind: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "zen-ingester",
            "namespace": "team-b", "uid": "u", "resourceVersion": "1",
            "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "zen-ingester"}})
    };
    let mut setup = Setup::new()
        .has(&format!("{RBAC}/roles"), ours("Role"))
        .has(&format!("{RBAC}/rolebindings"), ours("RoleBinding"));
    setup.references = vec![secret_of("team-a/github")];
    let done = || Reply::ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
    setup.server.allow(Call::delete(&format!("{RBAC}/namespaces/")).under(), done());
    let cluster = setup.start();
    cluster.settled().await;
    let tenants = |cluster: &Cluster| {
        let calls = cluster.written().into_iter();
        let calls = calls.filter_map(|call| Some(call.replace(RBAC, "")).filter(|rest| *rest != call));
        calls.collect::<BTreeSet<_>>()
    };
    let [role, binding] = ["roles", "rolebindings"].map(|kind| format!("/namespaces/team-a/{kind}/zen-ingester"));
    let of_b = ["roles", "rolebindings"].map(|kind| format!("DELETE /namespaces/team-b/{kind}/zen-ingester"));
    let mut expected: BTreeSet<_> =
        [format!("PATCH {role}"), format!("PATCH {binding}")].into_iter().chain(of_b).collect();
    assert_eq!(tenants(&cluster), expected);
    // One more name changes the Role and not the binding.
    let names = |wanted: &'static [&'static str]| {
        Call::patch(&format!("{RBAC}/namespaces/team-a/roles/zen-ingester"))
            .body(move |body| body["rules"][0]["resourceNames"] == json!(wanted))
    };
    let both = vec![secret_of("team-a/github"), secret_of("team-a/stripe")];
    cluster.published.send_replace(Arc::new(referring(both, true)));
    cluster.server.seen(&names(&["github", "stripe"]), 1).await;
    // While a watch is broken nothing is taken away.
    cluster.published.send_replace(Arc::new(referring(vec![secret_of("team-b/x")], false)));
    let of_b = Call::patch(&format!("{RBAC}/namespaces/team-b/roles/zen-ingester"));
    cluster.server.seen(&of_b, 1).await;
    expected.extend(["roles", "rolebindings"].map(|kind| format!("PATCH /namespaces/team-b/{kind}/zen-ingester")));
    cluster.server.seen(&Call::patch(&format!("{RBAC}/namespaces/team-b/rolebindings/zen-ingester")), 1).await;
    assert_eq!(tenants(&cluster), expected);
    cluster.end().await;
}

#[tokio::test]
async fn a_smaller_mesh_drains_first() {
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "zen-ingester",
        "namespace": "zen-mesh", "uid": "u", "resourceVersion": "1",
        "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}},
        "spec": {"replicas": 2, "serviceName": "x", "selector": {}, "template": {}}});
    let pod = |ordinal: u32, ready: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("zen-ingester-{ordinal}"),
            "namespace": "zen-mesh", "uid": format!("p{ordinal}"), "resourceVersion": "1"},
            "status": {"phase": "Running", "podIP": format!("10.0.0.{ordinal}"),
                       "conditions": [{"type": "Ready", "status": ready}]}})
    };
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "queue-zen-ingester-1",
        "namespace": "zen-mesh", "uid": "c1", "resourceVersion": "1"}});
    let pods = format!("{CORE}/pods");
    let claims = format!("{CORE}/persistentvolumeclaims");
    let setup = Setup::new()
        .has(&format!("{APPS}/statefulsets"), set)
        .has(&pods, pod(0, "True"))
        .has(&pods, pod(1, "True"))
        .has(&claims, claim.clone());
    setup.server.allow(Call::post("/apis/events.k8s.io/v1/").under(), Reply::stored());
    let cluster = setup.start();
    let mut orders = cluster.orders.clone();
    let given = orders.wait_for(|orders| !orders.drain.is_empty()).await.expect("goes on").clone();
    assert_eq!((given.drain, given.pods[&1].address.to_string()), ([1].into(), "10.0.0.1".to_owned()));
    let replicas = |wanted: i64| {
        Call::patch(&format!("{APPS}/statefulsets/zen-ingester")).body(move |body| body["spec"]["replicas"] == wanted)
    };
    cluster.server.seen(&replicas(2), 1).await;
    // It has: its volume is marked, and then it may go.
    let heard = crate::scale::drains::Heard {
        uid: "p1".to_owned(),
        state: Some(crate::scale::DrainState::Drained),
        since: Instant::now(),
    };
    cluster.known.send_replace(Known::from([(1, heard)]));
    let mark = Call::patch(&format!("{claims}/queue-zen-ingester-1"));
    let mark = mark.body(|body| body["metadata"]["annotations"][names::DRAINED].is_string());
    cluster.server.seen(&mark, 1).await;
    let one = |call: &zen_testkit::api_server::Received| {
        call.path.contains("statefulsets") && call.body["spec"]["replicas"] == 1
    };
    assert!(!cluster.server.received().iter().any(one));
    let mut marked = claim;
    marked["metadata"]["annotations"] = json!({names::DRAINED: "2026-01-01T00:00:00Z"});
    marked["metadata"]["resourceVersion"] = "2".into();
    cluster.watches[&claims].modified(marked);
    cluster.server.seen(&replicas(1), 1).await;
    cluster.end().await;
}

#[tokio::test]
async fn without_the_lease_the_loop_ends() {
    let mut setup = Setup::new();
    let options = Options::new("zen-mesh", "zen-operator", "us");
    setup.leadership = Elector::new(setup.server.client(), options).leadership();
    let cluster = setup.start();
    let error = cluster.task.await.expect("joins").expect_err("not the leader");
    assert!(matches!(error, Error::NotLeader(_)), "{error}");
    assert!(cluster.server.received().iter().all(|call| call.method == http::Method::GET));
}

/// One that the settings own goes with them; whoever deletes them wants nothing made again.
#[tokio::test]
async fn without_settings_nothing_is_made() {
    let setup = Setup::new();
    let cluster = setup.start();
    cluster.settled().await;
    let before = cluster.written().len();
    cluster.workloads.send_replace(Followed { is_known: true, ..Followed::default() });
    let mut deleted = cluster.server.received();
    deleted.retain(|call| call.method == http::Method::PATCH && call.path.contains("/services/"));
    for call in deleted {
        let mut object = call.body;
        object["metadata"]["resourceVersion"] = "4".into();
        cluster.watches[&format!("{CORE}/services")].deleted(object);
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.written().len(), before);
    cluster.end().await;
}
