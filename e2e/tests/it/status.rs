//! Objects say what is wrong with them, in `kubectl get` and `kubectl describe`, and no other object is touched (issue
//! "on a real Kubernetes": bad input by hand; K-01, K-02).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::mesh::Mesh;

/// What is right, and stays as it is.
const GOOD: &str = "
apiVersion: v1
kind: Secret
metadata: {name: good, namespace: team-a}
stringData: {secret: It's a Secret to Everybody}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec: {target: {url: https://ci.example.com/hooks}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: good, namespace: team-a}
spec:
  verification: {provider: github, secrets: [{secretRef: {name: good, key: secret}}]}
  routes: [{destinations: [{name: ci}]}]
";

fn webhook(name: &str, spec: &str) -> Value {
    let verification = "verification: {provider: github, secrets: [{secretRef: {name: good, key: secret}}]}";
    let spec: Value = serde_saphyr::from_str(&format!("{{{verification}, {spec}}}")).unwrap();
    let metadata = json!({"name": name, "namespace": "team-a"});
    json!({"apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": metadata, "spec": spec})
}

async fn versions(mesh: &Mesh) -> Vec<Value> {
    let mut versions = Vec::new();
    for (kind, name) in [("Webhook", "good"), ("Destination", "ci"), ("Secret", "good")] {
        versions.push(mesh.get(kind, "team-a", name).await["metadata"]["resourceVersion"].clone());
    }
    versions
}

/// Accepted, Programmed and Problem of a Webhook, as `kubectl get` shows them.
async fn shown(mesh: &Mesh, name: &str) -> Vec<String> {
    let table = mesh.control_plane.kubectl(&["get", "wh", "-n", "team-a", name]).await.unwrap();
    let (head, row) = table.split_once('\n').unwrap();
    let from = head.find("ACCEPTED").unwrap();
    row[from..].split_whitespace().map(str::to_owned).collect()
}

async fn described(mesh: &Mesh, name: &str) -> String {
    let text = mesh.control_plane.kubectl(&["describe", "wh", "-n", "team-a", name]).await.unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn bad_input_by_hand() {
    let mesh = Mesh::start().await;
    mesh.apply_all(GOOD).await;
    mesh.until("Webhook", "team-a", "good", "Programmed", "Programmed").await;
    mesh.until("Destination", "team-a", "ci", "Programmed", "Programmed").await;
    let per_replica = mesh.until("Webhook", "team-a", "good", "PerReplicaState", "PerReplicaState").await;
    assert!(per_replica.contains("webhook-id"), "two ingesters are wanted: {per_replica}");
    let untouched = versions(&mesh).await;
    let table = mesh.control_plane.kubectl(&["get", "wh", "-n", "team-a", "good"]).await.unwrap();
    assert!(table.contains("https://intake.example.com/team-a/good"), "{table}");
    assert_eq!(shown(&mesh, "good").await[..2], ["True", "True"]);

    // A Destination that does not exist.
    mesh.apply(&webhook("lost", "routes: [{destinations: [{name: nowhere}]}]")).await;
    let message = mesh.until("Webhook", "team-a", "lost", "ResolvedRefs", "RefNotFound").await;
    assert_eq!(
        message,
        "spec.routes[0].destinations[0]: Destination team-a/nowhere does not exist: events for it wait until it does. \
         Create it, or correct the name."
    );
    assert_eq!(shown(&mesh, "lost").await[..3], ["True", "True", "RefNotFound"]);

    // Two Webhooks on one path.
    mesh.apply(&webhook("second", "path: /team-a/good, routes: [{destinations: [{name: ci}]}]")).await;
    let message = mesh.until("Webhook", "team-a", "second", "Accepted", "Conflicted").await;
    assert!(message.starts_with("spec.path: team-a/good is older or comes first"), "{message}");
    assert_eq!(shown(&mesh, "second").await[..3], ["False", "False", "Conflicted"]);

    // A host that is granted to another namespace.
    mesh.apply(&webhook("squat", "hosts: [hooks.example.com], routes: [{destinations: [{name: ci}]}]")).await;
    let message = mesh.until("Webhook", "team-a", "squat", "Accepted", "HostNotGranted").await;
    assert!(message.contains("hooks.example.com") && message.contains("mesh.yaml"), "{message}");
    assert_eq!(shown(&mesh, "squat").await[..3], ["False", "False", "HostNotGranted"]);

    // A Destination of another namespace that does not consent, and then does.
    let audit = |allowed: Value| {
        let metadata = json!({"name": "audit", "namespace": "security"});
        let spec = json!({"target": {"url": "https://audit.example.com"}, "allowFrom": {"namespaces": allowed}});
        json!({"apiVersion": "zen-mesh.io/v1alpha1", "kind": "Destination", "metadata": metadata, "spec": spec})
    };
    mesh.apply(&audit(json!([]))).await;
    mesh.apply(&webhook("across", "routes: [{destinations: [{name: audit, namespace: security}]}]")).await;
    let message = mesh.until("Webhook", "team-a", "across", "ResolvedRefs", "RefNotPermitted").await;
    assert!(message.contains("security/audit") && message.contains("allowFrom"), "{message}");
    assert_eq!(shown(&mesh, "across").await[..3], ["True", "True", "RefNotPermitted"]);
    let text = described(&mesh, "across").await;
    assert!(text.contains("Reason: RefNotPermitted Status: False Type: ResolvedRefs"), "{text}");
    assert!(text.contains("Warning RefNotPermitted"), "an Event says it too: {text}");
    mesh.apply(&audit(json!(["team-a"]))).await;
    mesh.until("Webhook", "team-a", "across", "ResolvedRefs", "ResolvedRefs").await;

    // A Secret that vanishes, and comes back.
    mesh.apply_all(&GOOD.replace("name: good", "name: brief").replace("team-a/good", "team-a/brief")).await;
    mesh.until("Webhook", "team-a", "brief", "Programmed", "Programmed").await;
    mesh.delete("secret", "team-a", "brief").await;
    let message = mesh.until("Webhook", "team-a", "brief", "ResolvedRefs", "RefNotFound").await;
    assert!(message.contains("Secret team-a/brief does not exist"), "{message}");
    assert_eq!(shown(&mesh, "brief").await[..3], ["True", "False", "RefNotFound"]);
    let text = described(&mesh, "brief").await;
    assert!(text.contains("Secret team-a/brief does not exist") && text.contains("Create it, or correct the name."));
    mesh.apply_all(&GOOD.replace("name: good", "name: brief")).await;
    mesh.until("Webhook", "team-a", "brief", "Programmed", "Programmed").await;
    assert!(described(&mesh, "brief").await.contains("Normal Programmed"));

    // Kinds that this release does not act on say so.
    mesh.apply(&crate::samples::with(
        crate::samples::named("ZenLock", "ci-token"),
        "/metadata/namespace",
        json!("team-a"),
    ))
    .await;
    mesh.until("ZenLock", "team-a", "ci-token", "Accepted", "NotSupported").await;

    assert_eq!(versions(&mesh).await, untouched, "other objects were touched");
}

/// Another writer has its own parts of the status; ours are taken back. A restart writes nothing.
#[tokio::test]
async fn other_writers_and_a_restart() {
    let mut mesh = Mesh::start().await;
    mesh.apply_all(GOOD).await;
    mesh.until("Webhook", "team-a", "good", "Programmed", "Programmed").await;
    mesh.until("Destination", "team-a", "ci", "Programmed", "Programmed").await;

    let audited = json!({
        "type": "example.com/Audited", "status": "True", "reason": "Audited", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let theirs = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": {"name": "good", "namespace": "team-a"},
        "status": {"url": "https://elsewhere.example.com", "conditions": [audited]},
    });
    let path = "/apis/zen-mesh.io/v1alpha1/namespaces/team-a/webhooks/good/status?fieldManager=auditor";
    let send = |force: &str| {
        let request =
            http::Request::patch(format!("{path}{force}")).header("content-type", "application/apply-patch+yaml");
        mesh.client.request::<Value>(request.body(serde_json::to_vec(&theirs).unwrap()).unwrap())
    };
    let refused = send("").await.unwrap_err().to_string();
    assert!(refused.contains("conflict with \"zen-operator-status\"") && refused.contains(".status.url"), "{refused}");
    send("&force=true").await.unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    let object = loop {
        let object = mesh.get("Webhook", "team-a", "good").await;
        if object["status"]["url"] == "https://intake.example.com/team-a/good" {
            break object;
        }
        assert!(Instant::now() < deadline, "the URL is not taken back: {object:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let conditions = object["status"]["conditions"].as_array().unwrap();
    assert!(conditions.contains(&audited), "the other writer's condition stays: {conditions:#?}");
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    let spec_of_ours =
        managers.iter().any(|it| it["manager"] == "zen-operator-status" && it["subresource"] != "status");
    assert!(!spec_of_ours, "the operator never writes what users write: {managers:#?}");

    let before = versions(&mesh).await;
    mesh.stop_operator().await;
    mesh.start_operator().await;
    mesh.apply(&webhook("late", "routes: [{destinations: [{name: ci}]}]")).await;
    mesh.until("Webhook", "team-a", "late", "Programmed", "Programmed").await;
    assert_eq!(versions(&mesh).await, before);
    counted(&mesh, 1).await;
    assert_eq!((mesh.writes("Webhook", "Applied"), mesh.writes("Destination", "Applied")), (1, 0));
}

/// The first pass: one write for each object, at the rate that ten thousand need (`ZEN_STATUS_OBJECTS=10000` for all of
/// them). The next operator has nothing to write.
#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_written_once_each() {
    let objects: u32 = std::env::var("ZEN_STATUS_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut mesh = Mesh::start().await;
    mesh.apply_all(GOOD).await;
    mesh.until("Webhook", "team-a", "good", "Programmed", "Programmed").await;
    mesh.stop_operator().await;
    for chunk in (0..objects).collect::<Vec<_>>().chunks(64) {
        let all = chunk.iter().map(|number| {
            let object = webhook(&format!("many-{number}"), "routes: [{destinations: [{name: ci}]}]");
            let client = mesh.client.clone();
            async move { crate::mesh::apply(&client, &object).await }
        });
        all.collect::<tokio::task::JoinSet<()>>().join_all().await;
    }
    let began = Instant::now();
    mesh.start_operator().await;
    while mesh.writes("Webhook", "Applied") < objects {
        assert!(began.elapsed() < Duration::from_mins(1), "{} of {objects}", mesh.writes("Webhook", "Applied"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = began.elapsed();
    eprintln!("{objects} first statuses in {took:?}: {:.0} a second", f64::from(objects) / took.as_secs_f64());
    let last = format!("many-{}", objects - 1);
    mesh.until("Webhook", "team-a", &last, "Programmed", "Programmed").await;

    mesh.stop_operator().await;
    assert_eq!(mesh.writes("Webhook", "Applied"), objects, "once each");
    mesh.start_operator().await;
    mesh.apply(&webhook("late", "routes: [{destinations: [{name: ci}]}]")).await;
    mesh.until("Webhook", "team-a", "late", "Programmed", "Programmed").await;
    counted(&mesh, 1).await;
    assert_eq!(mesh.writes("Webhook", "Applied"), 1, "nothing else");
}

/// A write is counted when its answer is there, which may be after others can see what it changed.
async fn counted(mesh: &Mesh, webhooks: u32) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while mesh.writes("Webhook", "Applied") < webhooks {
        assert!(Instant::now() < deadline, "a write is not counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
