//! The objects of a cluster, from a scripted API server that fails in every way that watches do (K-04, K-06).

mod broken;
mod cached;
mod egress;
mod grants;
mod locks;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zen_compile::{Plane, Serving, Snapshot, Verdict};
use zen_live::Published;
use zen_live::cluster::{Cluster, Options};
use zen_model::{Namespace, ObjectKey, ObjectReason};
use zen_testkit::api_server::{ApiServer, Call, Reply, Watch};

const WEBHOOKS: &str = "/apis/zen-mesh.io/v1alpha1/webhooks";
const DESTINATIONS: &str = "/apis/zen-mesh.io/v1alpha1/destinations";
const ENROLLMENTS: &str = "/apis/zen-mesh.io/v1alpha1/clusterenrollments";
const NAMESPACES: &str = "/api/v1/namespaces";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const MESH: &str = "/api/v1/namespaces/zen-mesh/configmaps";
const SECRETS: &str = "/api/v1/namespaces/team-a/secrets";

/// An API server with a few objects.
struct World {
    server: ApiServer,
    webhooks: Watch,
    destinations: Watch,
    namespaces: Watch,
    enrollments: Watch,
    mesh: Watch,
}

impl World {
    fn new(webhooks: Vec<Value>, destinations: Vec<Value>) -> Self {
        let server = ApiServer::new();
        let webhooks = server.watch(WEBHOOKS, webhooks);
        let destinations = server.watch(DESTINATIONS, destinations);
        let namespaces =
            server.watch(NAMESPACES, vec![json!({"metadata": {"name": "team-a", "resourceVersion": "1"}})]);
        let enrollments = server.watch(ENROLLMENTS, Vec::new());
        let world = Self { mesh: Watch::default(), server, webhooks, destinations, namespaces, enrollments };
        let mesh = json!({
            "metadata": {"name": "zen-mesh", "namespace": "zen-mesh", "resourceVersion": "1"},
            "data": {"mesh.yaml": "trustDomain: example.org\n"},
        });
        world.one(MESH, "zen-mesh", Reply::list(vec![mesh]), &world.mesh);
        world
    }

    /// Answers lists of one name so, and serves watches of it.
    fn one(&self, path: &str, name: &str, reply: Reply, watch: &Watch) {
        let selector = format!("metadata.name={name}");
        self.server.allow(Call::get(path).query("fieldSelector", &selector), reply);
        let watched = Call::get(path).query("fieldSelector", &selector).query("watch", "true");
        self.server.allow(watched, Reply::watch(watch));
    }

    /// A Secret with one key `k`.
    fn secret(&self, name: &str, value: &str) -> Watch {
        let watch = Watch::default();
        self.one(SECRETS, name, Reply::list(vec![secret(name, value)]), &watch);
        watch
    }

    async fn start(&self, plane: Plane) -> Cluster {
        self.start_with(plane, None).await
    }

    async fn start_with(&self, plane: Plane, cache: Option<PathBuf>) -> Cluster {
        self.start_of(plane, None, cache).await
    }

    async fn start_of(&self, plane: Plane, member: Option<&str>, cache: Option<PathBuf>) -> Cluster {
        let member = member.map(|id| id.parse().expect("a cluster"));
        let options = Options { plane, member, mesh_namespace: Namespace::from("zen-mesh"), cache };
        let started = tokio::time::timeout(Duration::from_mins(2), Cluster::start(self.server.client(), options));
        started.await.expect("starts in time").expect("starts")
    }
}

/// An object of ours in namespace `team-a`.
fn own(kind: &str, name: &str, version: u32, spec: &Value) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {
            "name": name, "namespace": "team-a", "uid": format!("uid-{name}"), "generation": version,
            "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}], "annotations": {"note": "x"},
        },
    })
}

/// A Webhook that verifies with key `k` of a Secret, in this version.
fn hook(name: &str, version: u32, of: &str) -> Value {
    own(
        "Webhook",
        name,
        version,
        &json!({
            "verification": {"provider": "github", "secrets": [{"secretRef": {"name": of, "key": "k"}}]},
            "routes": [{"destinations": [{"name": "ci"}]}],
        }),
    )
}

fn destination(name: &str) -> Value {
    own("Destination", name, 1, &json!({"target": {"url": "https://ci.example/"}}))
}

fn secret(name: &str, value: &str) -> Value {
    use base64::Engine as _;
    json!({
        "metadata": {"name": name, "namespace": "team-a", "resourceVersion": "1"}, "type": "Opaque",
        "data": {"k": base64::engine::general_purpose::STANDARD.encode(value)},
    })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team-a", name)
}

fn verdict<'a>(published: &'a Published, name: &str) -> Option<&'a Verdict> {
    published.verdicts.iter().find(|verdict| verdict.key.name.as_str() == name)
}

fn serves(published: &Published, name: &str) -> bool {
    verdict(published, name).is_some_and(|verdict| verdict.serving)
}

fn reason(published: &Published, name: &str) -> Option<ObjectReason> {
    verdict(published, name)?.problems.first().map(|problem| problem.reason)
}

/// Waits until what is in effect fits; the deadline only ends a test that fails.
async fn until(cluster: &Cluster, what: &str, fits: impl Fn(&Published, &Snapshot) -> bool) -> Arc<Published> {
    let (mut published, snapshot) = (cluster.published(), cluster.snapshot());
    let waited = published.wait_for(|published| fits(published, &snapshot.load()));
    let found = tokio::time::timeout(Duration::from_mins(2), waited).await;
    let found = found.ok().and_then(|found| Some(Arc::clone(&*found.ok()?)));
    assert!(found.is_some(), "{what}: {:?}", cluster.published().borrow());
    found.expect("asserted")
}

#[tokio::test(start_paused = true)]
async fn the_first_configuration_has_everything_that_it_names() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && serves(&published, "ci") && published.complete, "{published:?}");
    assert_eq!(published.generation, 1);
    let a = verdict(&published, "a").expect("judged");
    assert_eq!((a.uid.as_deref(), a.observed_generation), (Some("uid-a"), Some(1)));
    let snapshot = cluster.snapshot().load_full();
    assert!(matches!(snapshot.webhook("h", "/team-a/a").expect("routed").serving, Serving::Active(_)));
    assert_eq!(snapshot.mesh.trust_domain, "example.org");
    assert_eq!(published.references.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn changes_take_effect_and_others_wake_nobody() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    let secrets = world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    let revision = |snapshot: &Snapshot| snapshot.webhooks[&key("a")].revision;
    let first = revision(&cluster.snapshot().load());

    // A status is no change, and neither is a label of the object.
    let mut same = hook("a", 1, "s");
    same["metadata"]["resourceVersion"] = "2".into();
    same["metadata"]["labels"] = json!({"x": "y"});
    same["status"] = json!({"url": "https://x/"});
    world.webhooks.modified(same);
    world.webhooks.added(hook("b", 3, "s"));
    until(&cluster, "another Webhook", |published, _| serves(published, "b")).await;
    assert_eq!(cluster.published().borrow().generation, 2, "the status made none");

    let mut rotated = secret("s", "two");
    rotated["metadata"]["resourceVersion"] = "4".into();
    secrets.modified(rotated);
    until(&cluster, "a rotated Secret", |_, snapshot| revision(snapshot) != first).await;

    world
        .namespaces
        .modified(json!({"metadata": {"name": "team-a", "resourceVersion": "5", "labels": {"tier": "gold"}}}));
    world.destinations.deleted(destination("ci"));
    until(&cluster, "a deleted Destination", |_, snapshot| snapshot.destinations.is_empty()).await;
    world.webhooks.deleted(hook("b", 3, "s"));
    until(&cluster, "a deleted Webhook", |published, _| verdict(published, "b").is_none()).await;
    assert!(cluster.snapshot().load().webhook("h", "/team-a/b").is_none());
}

#[tokio::test(start_paused = true)]
async fn one_object_that_cannot_be_read_is_refused_and_the_others_go_on() {
    let malformed = own("Webhook", "bad", 1, &json!({"path": "/team-a/x", "verification": 5}));
    let world = World::new(vec![malformed, hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && !serves(&published, "bad"));
    assert_eq!(reason(&published, "bad"), Some(ObjectReason::Invalid));
    assert_eq!(verdict(&published, "bad").and_then(|bad| bad.uid.clone()).as_deref(), Some("uid-bad"));
    let held = cluster.snapshot().load_full();
    assert!(matches!(held.webhook("h", "/team-a/x").expect("its place is kept").serving, Serving::Invalid(_)));

    // Metadata that no API server sends take nobody with them either.
    world
        .webhooks
        .modified(json!({"metadata": {"name": "odd", "namespace": "team-a", "resourceVersion": "9", "labels": 5}}));
    world.webhooks.modified(hook("bad", 10, "s"));
    let published = until(&cluster, "mended", |published, _| serves(published, "bad")).await;
    assert_eq!(reason(&published, "odd"), Some(ObjectReason::Invalid));
    assert!(serves(&published, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_mesh_configuration_that_cannot_be_read_leaves_the_last_good_one() {
    let world = World::new(vec![], vec![]);
    let cluster = world.start(Plane::Operator).await;
    let mesh = |version: &str, text: &str| {
        json!({
            "metadata": {"name": "zen-mesh", "namespace": "zen-mesh", "resourceVersion": version},
            "data": {"mesh.yaml": text},
        })
    };
    for (version, bad) in [("2", "grants: 5\n"), ("3", "a: [\n"), ("4", "trustDomian: x\n")] {
        world.mesh.modified(mesh(version, bad));
        let published = until(&cluster, bad, |published, _| {
            published.generation.to_string() == version && !published.findings.is_empty()
        });
        published.await;
        assert_eq!(cluster.snapshot().load().mesh.trust_domain, "example.org");
    }
    world.mesh.modified(mesh("5", "trustDomain: other.org\n"));
    let published = until(&cluster, "mended", |_, snapshot| snapshot.mesh.trust_domain == "other.org").await;
    assert!(published.findings.is_empty());
}
