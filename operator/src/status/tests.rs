//! The whole of it against a scripted API server: what is sent, and what happens when that does not go well.

use serde_json::{Value, json};
use zen_compile::{Mode, Objects, Plane, compile};
use zen_identity::control::{ObjectRef, ObjectReport, Report, ReportQuery};
use zen_model::ObjectKey;
use zen_runtime::lease::{Elector, Leadership, Options};
use zen_testkit::api_server::{ApiServer, Call, Reply, Watch};

use super::*;
use crate::names;
use crate::writer;

const WEBHOOKS: &str = "/apis/zen-mesh.io/v1alpha1/webhooks";
const STATUS: &str = "/apis/zen-mesh.io/v1alpha1/namespaces/team-a/webhooks/github/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team-a/events";

/// A data plane that has everything in effect, at once.
#[derive(Clone)]
struct InEffect(Arc<Vec<ObjectReport>>);

impl Source for InEffect {
    async fn report(&self, pod: &Pod, query: &ReportQuery) -> Result<Report, ReportError> {
        if query.after > 0 {
            std::future::pending::<()>().await;
        }
        Ok(Report {
            instance: pod.name.to_string(),
            plane: pod.plane,
            epoch: "e".to_owned(),
            revision: 1,
            complete: true,
            objects: self.0.to_vec(),
            gone: Vec::new(),
        })
    }
}

fn webhook(spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook",
        "metadata": {"namespace": "team-a", "name": "github", "uid": "uid-1", "generation": 1, "resourceVersion": "5"},
        "spec": spec, "status": status,
    })
}

fn spec(path: &str) -> Value {
    let secrets = json!([{"secretRef": {"name": "github", "key": "secret"}}]);
    json!({"path": path, "verification": {"provider": "github", "secrets": secrets}, "routes": [{"destinations": [{"name": "ci"}]}]})
}

/// An API server with one Webhook and one ready ingester, and the operator's status part on it.
struct Scene {
    server: ApiServer,
    webhooks: Watch,
    published: channel::Sender<Arc<Published>>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Scene {
    fn start(webhook: &Value) -> Self {
        Self::start_with(webhook, Leadership::unguarded())
    }

    fn start_with(webhook: &Value, leadership: Leadership) -> Self {
        let server = ApiServer::new();
        let webhooks = server.watch(WEBHOOKS, vec![webhook.clone()]);
        for kind in ["destinations", "zenlocks", "clusterenrollments"] {
            server.watch(&format!("/apis/zen-mesh.io/v1alpha1/{kind}"), vec![]);
        }
        let endpoint = json!({
            "addresses": ["192.0.2.7"], "targetRef": {"kind": "Pod", "name": "zen-ingester-0", "uid": "pod-1"},
        });
        let slice = json!({
            "metadata": {"name": "s", "namespace": "zen-mesh", "labels": {pods::SERVICE_LABEL: names::INGESTER_PEERS}},
            "addressType": "IPv4", "endpoints": [endpoint],
        });
        server.watch("/apis/discovery.k8s.io/v1/namespaces/zen-mesh/endpointslices", vec![slice]);
        let (snapshot, first) = compiled(webhook);
        let (sender, published) = channel::channel(Arc::new(first));
        let (_, settings) = channel::channel(Settings {
            ingester_replicas: 1,
            intake: "intake.example.com".into(),
            opens_zen_locks: false,
        });
        let report = ObjectReport {
            object: ObjectRef { kind: "Webhook".into(), namespace: "team-a".into(), name: "github".into() },
            uid: Some("uid-1".into()),
            observed_generation: Some(1),
            serving: true,
            problems: vec![],
            last_verified: None,
            breaker: None,
        };
        let parts = Parts {
            client: server.client(),
            writer: Writer::new(server.client(), leadership, "zen-operator-0", writer::Metrics::default()),
            namespace: "zen-mesh".into(),
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            published,
            settings,
            source: InEffect(Arc::new(vec![report])),
            metrics: Metrics::default(),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(parts, shutdown.clone()));
        Self { server, webhooks, published: sender, shutdown, running }
    }

    fn patches(&self) -> Vec<Value> {
        let received = self.server.received();
        received.iter().filter(|it| it.method == http::Method::PATCH).map(|it| it.body.clone()).collect()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic").expect("an end in good order");
        self.server.finish();
    }
}

fn compiled(webhook: &Value) -> (Snapshot, Published) {
    let key = ObjectKey::new("team-a", "github");
    let object: zen_crds::Webhook = serde_json::from_value(webhook.clone()).expect("a Webhook");
    let destination =
        json!({"metadata": {"name": "ci", "namespace": "team-a"}, "spec": {"target": {"url": "https://example.com"}}});
    let destination: zen_crds::Destination = serde_json::from_value(destination).expect("a Destination");
    let objects = Objects {
        webhooks: [(key, Arc::new(object))].into(),
        destinations: [(ObjectKey::new("team-a", "ci"), Arc::new(destination))].into(),
        ..Objects::default()
    };
    let compiled = compile(&objects, None, Mode::Cluster(Plane::Operator));
    let published = Published { verdicts: compiled.verdicts, ..Published::default() };
    (compiled.snapshot, published)
}

fn fine() -> Value {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({
        "observedGeneration": 1, "url": "https://intake.example.com/team-a/github",
        "conditions": [
            condition("Accepted", "Accepted", conditions::words::ACCEPTED),
            condition("ResolvedRefs", "ResolvedRefs", conditions::words::RESOLVED),
            condition("Programmed", "Programmed", conditions::words::PROGRAMMED),
        ],
    })
}

#[tokio::test(start_paused = true)]
async fn one_apply_with_a_manager_of_its_own() {
    let scene = Scene::start(&webhook(&spec("/team-a/github"), &json!(null)));
    let whole = |body: &Value| {
        let conditions = body["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let types: Vec<_> = conditions.iter().filter_map(|it| it["type"].as_str()).collect();
        body["metadata"] == json!({"name": "github", "namespace": "team-a", "uid": "uid-1"})
            && types == ["Accepted", "ResolvedRefs", "Programmed"]
            && conditions.iter().all(|it| it["status"] == "True" && it["observedGeneration"] == 1)
            && body["status"]["url"] == "https://intake.example.com/team-a/github"
    };
    let call = Call::patch(STATUS).query("fieldManager", names::STATUS_MANAGER).query("force", "true").body(whole);
    scene.server.expect(call, Reply::stored());
    scene.server.done().await;
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(scene.patches().len(), 1, "nothing changes, nothing is written");
    scene.end().await;
}

/// K-02: after a restart of the operator the API server has what should be.
#[tokio::test(start_paused = true)]
async fn what_is_there_already_is_not_written() {
    let scene = Scene::start(&webhook(&spec("/team-a/github"), &fine()));
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(scene.patches(), Vec::<Value>::new());
    // Nor after the list was made anew, nor for a change of what is not ours.
    scene.webhooks.expired();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let mut labelled = webhook(&spec("/team-a/github"), &fine());
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let foreign = json!({"type": "example.com/Seen", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    labelled["status"]["conditions"].as_array_mut().expect("conditions").push(foreign);
    scene.webhooks.modified(labelled);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(scene.patches(), Vec::<Value>::new());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_for_the_worse_is_an_event_and_so_is_its_end() {
    let scene = Scene::start(&webhook(&spec("/team-a/github"), &fine()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let event = |kind: &'static str, reason: &'static str| {
        move |body: &Value| body["type"] == kind && body["reason"] == reason && body["regarding"]["uid"] == "uid-1"
    };
    let problem = |reason: &'static str| {
        move |body: &Value| {
            let condition = &body["status"]["conditions"][0];
            let kept = condition["lastTransitionTime"] == "2026-01-01T00:00:00Z";
            condition["reason"] == reason && kept == (reason == "Accepted" && condition["status"] == "False")
        }
    };
    scene.server.expect(Call::patch(STATUS).body(problem("PathNotGranted")), Reply::stored());
    scene.server.expect(Call::post(EVENTS).body(event("Warning", "PathNotGranted")), Reply::stored());
    let (_, refused) = compiled(&webhook(&spec("/team-b/github"), &json!(null)));
    scene.published.send_replace(Arc::new(refused));
    scene.server.done().await;
    scene.server.expect(Call::patch(STATUS).body(problem("Accepted")), Reply::stored());
    scene.server.expect(Call::post(EVENTS).body(event("Normal", "Programmed")), Reply::stored());
    let (_, accepted) = compiled(&webhook(&spec("/team-a/github"), &json!(null)));
    scene.published.send_replace(Arc::new(accepted));
    scene.server.done().await;
    scene.end().await;
}

/// 409, 404, 429, 5xx and silence: tried again, in its time, and written once in the end.
#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_by_their_kind() {
    for (reply, at_least, at_most) in [
        (Reply::conflict(), 1.0, 2.0),
        (Reply::not_found(), 1.0, 2.0),
        (Reply::busy(7), 7.0, 8.0),
        (Reply::unavailable(), 0.1, 1.0),
        (Reply::internal(), 0.1, 1.0),
        (Reply::forbidden(), 60.0, 61.0),
        (Reply::never(), 4.0, 5.0),
    ] {
        let what = format!("{reply:?}");
        let scene = Scene::start(&webhook(&spec("/team-a/github"), &json!(null)));
        let began = Instant::now();
        scene.server.expect(Call::patch(STATUS), reply);
        scene.server.expect(Call::patch(STATUS), Reply::stored());
        scene.server.done().await;
        let took = began.elapsed().as_secs_f64();
        assert!((at_least..at_most).contains(&took), "{what}: {took}");
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(scene.patches().len(), 2, "{what}");
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing_and_ends() {
    let server = ApiServer::new();
    let elector = Elector::new(server.client(), Options::new("zen-mesh", "zen-operator", "me"));
    let scene = Scene::start_with(&webhook(&spec("/team-a/github"), &json!(null)), elector.leadership());
    let ended = scene.running.await.expect("no panic");
    assert!(matches!(ended, Err(Error::NotLeader(_))), "{ended:?}");
    scene.server.finish();
}

/// One malformed object stalls nothing (K-02): it has a status of its own.
#[tokio::test(start_paused = true)]
async fn a_malformed_object_stalls_no_watch() {
    let scene = Scene::start(&webhook(&spec("/team-a/github"), &fine()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut odd = webhook(&json!({"verification": 7, "hosts": "x"}), &json!({"conditions": "none", "url": {}}));
    odd["metadata"]["name"] = json!("odd");
    scene.webhooks.added(odd.clone());
    scene.webhooks.raw(
        "{\"type\": \"MODIFIED\", \"object\": {\"kind\": \"Webhook\", \"metadata\": {\"resourceVersion\": \"9\"}}}",
    );
    let (_, mut published) = compiled(&webhook(&spec("/team-b/github"), &json!(null)));
    published.verdicts.push(zen_compile::Verdict {
        key: ObjectKey::new("team-a", "odd"),
        ..published.verdicts.last().expect("one").clone()
    });
    let odd_status = STATUS.replace("github", "odd");
    scene.server.allow(Call::patch(&odd_status), Reply::stored());
    scene.server.allow(Call::patch(STATUS), Reply::stored());
    scene.server.allow(Call::post(EVENTS), Reply::stored());
    scene.published.send_replace(Arc::new(published));
    scene.server.seen(&Call::patch(&odd_status), 1).await;
    scene.server.seen(&Call::patch(STATUS), 1).await;
    scene.end().await;
}
