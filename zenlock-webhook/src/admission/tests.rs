//! Admission against a scripted API server: what is answered from memory, and what never is (Z-02, Z-04).

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;
use zen_lock::{Identity, seal};
use zen_model::Secret;
use zen_testkit::Gate;
use zen_testkit::api_server::{ApiServer, Call, Reply, Watch};

use super::*;
use crate::audit::{Auditor, Recording};
use crate::custody::Custody;
use crate::versions::Versions;

const ALL: &str = "/apis/zen-mesh.io/v1alpha1/zenlocks";
const DB: &str = "/apis/zen-mesh.io/v1alpha1/namespaces/team-a/zenlocks/db";

#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl Auditor for Counted {
    fn record(&self, _: Entry) -> Recording<'_> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

struct Stage {
    server: ApiServer,
    watch: Watch,
    versions: Versions,
    folder: tempfile::TempDir,
    identity: Identity,
    custody: Custody,
    audit: Arc<Counted>,
    router: Router,
    following: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Stage {
    /// ZenLock `db` has version 5, everywhere, and these accounts may use it.
    async fn start(accounts: &[&str]) -> Self {
        let server = ApiServer::new();
        let watch = server.watch(ALL, vec![metadata("5")]);
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Identity::generate();
        put(&folder, "1.txt", &identity);
        let custody = Custody::new(folder.path());
        custody.load().expect("loads");
        let versions = Versions::default();
        let locks = Arc::new(Locks::new(server.client(), custody.clone(), versions.clone()));
        let settings = Settings {
            image: "zenlock-webhook:1".to_owned(),
            pull_policy: None,
            url: "https://zenlock-webhook.zen-mesh.svc".to_owned(),
            roots: String::new(),
            env_files: true,
        };
        let audit = Arc::new(Counted::default());
        let router = router(Parts {
            locks,
            settings: watch::channel(Some(Arc::new(settings))).1,
            secret_delivery: false,
            audit: Arc::clone(&audit) as Audit,
            metrics: Metrics::default(),
        });
        let (followed, client) = (versions.clone(), server.client());
        let following = tokio::spawn(async move { followed.follow(client).await });
        let stage = Self { server, watch, versions, folder, identity, custody, audit, router, following };
        stage.live("5", accounts);
        stage.until_current("5", true).await;
        stage
    }

    /// What the API server answers from now on when it is asked for `db`.
    fn live(&self, version: &str, accounts: &[&str]) {
        let open = Gate::closed();
        open.open();
        self.held(version, accounts, &open);
    }

    /// As [`Stage::live`], once the gate is open.
    fn held(&self, version: &str, accounts: &[&str], gate: &Gate) {
        let subjects: Vec<_> = accounts.iter().map(|name| json!({"kind": "ServiceAccount", "name": name})).collect();
        let sealed = seal(&Secret::new("hunter2"), &[self.identity.recipient()]).expect("sealed");
        let mut object = metadata(version);
        object["spec"] = json!({"encryptedData": {"password": sealed}, "allowedSubjects": subjects});
        self.server.allow(Call::get(DB), Reply::ok(object).held(gate));
    }

    async fn until_current(&self, version: &str, is: bool) {
        let key = ("team-a".to_owned(), "db".to_owned());
        let told = async {
            while self.versions.is_current(&key, version) != is {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("the watch tells");
    }

    /// The code of the answer, empty where the pod is admitted with what it asks for.
    async fn review(&self) -> String {
        let (status, answer) = self.post(Body::from(review().to_string())).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let response = &serde_json::from_str::<Value>(&answer).expect("a review")["response"];
        if response["allowed"] == true {
            let patch = response["patch"].as_str().and_then(|patch| STANDARD.decode(patch).ok()).expect("base64");
            let patch: Value = serde_json::from_slice(&patch).expect("JSON");
            assert!(patch.to_string().contains("zen-mesh-unseal"), "{patch}");
            return String::new();
        }
        response["status"]["reason"].as_str().expect("a code").to_owned()
    }

    async fn post(&self, body: Body) -> (StatusCode, String) {
        let request = Request::post(PODS).body(body).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("answered");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(body.into()).expect("text"))
    }

    /// How often `db` was read from the API server.
    fn looks(&self) -> usize {
        self.server.received().iter().filter(|call| call.path == DB).count()
    }
}

fn metadata(version: &str) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ZenLock",
        "metadata": {"namespace": "team-a", "name": "db", "uid": "u1", "resourceVersion": version},
    })
}

fn put(folder: &tempfile::TempDir, name: &str, identity: &Identity) {
    let file = identity.to_file("2026-01-02T03:04:05Z".parse().expect("a time"));
    std::fs::write(folder.path().join(name), file.expose()).expect("written");
}

fn review() -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop", "namespace": "team-a", "annotations": {"zen-mesh.io/inject": "db"}},
        "spec": {"serviceAccountName": "ci", "containers": [{"name": "shop", "image": "shop:1"}]},
    });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": kind, "resource": resource, "namespace": "team-a", "operation": "CREATE",
            "userInfo": {"username": "admin"}, "object": pod, "oldObject": null, "dryRun": false,
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_burst_costs_a_few_looks_and_what_comes_after_it_none() {
    let stage = Stage::start(&["ci"]).await;
    let arrived = Gate::closed();
    stage.held("5", &["ci"], &arrived);
    let burst = join_all((0..200).map(|_| stage.review()));
    let (answers, ()) = tokio::join!(burst, async {
        stage.server.seen(&Call::get(DB), 1).await;
        arrived.open();
    });
    assert!(answers.iter().all(String::is_empty));
    // As many looks as there may be at one time; all others share the one after.
    assert!((1..=33).contains(&stage.looks()), "{}", stage.looks());
    let before = stage.looks();
    for _ in 0..20 {
        assert_eq!(stage.review().await, "");
    }
    assert_eq!((stage.looks(), stage.audit.0.load(Ordering::SeqCst)), (before, 220));
    // A watch that hangs is found out after a while, by one look.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!((stage.review().await, stage.review().await, stage.looks()), (String::new(), String::new(), before + 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_withdrawn_or_deleted_admits_no_more() {
    let stage = Stage::start(&["ci"]).await;
    assert_eq!(stage.review().await, "");
    stage.live("6", &["web"]);
    // The watch has not said so: the pod is admitted, and gets nothing, because unsealing looks at the object itself.
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 1));
    stage.watch.modified(metadata("6"));
    stage.until_current("6", true).await;
    assert_eq!((stage.review().await, stage.looks()), ("SubjectNotAllowed".to_owned(), 2));
    stage.live("7", &["ci"]);
    stage.watch.modified(metadata("7"));
    stage.until_current("7", true).await;
    assert_eq!((stage.review().await, stage.review().await, stage.looks()), (String::new(), String::new(), 3));
    stage.server.allow(Call::get(DB), Reply::not_found());
    stage.watch.deleted(metadata("8"));
    stage.until_current("7", false).await;
    assert_eq!(stage.review().await, "ZenLockNotFound");
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_refused_because_of_what_was() {
    let stage = Stage::start(&["web"]).await;
    assert_eq!((stage.review().await, stage.looks()), ("SubjectNotAllowed".to_owned(), 1));
    assert_eq!((stage.review().await, stage.looks()), ("SubjectNotAllowed".to_owned(), 2));
    // Mended a moment ago, and the watch is behind.
    stage.live("6", &["ci"]);
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 3));
    // What was read is no version that the watch knows: it is read again.
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 4));
    stage.watch.modified(metadata("6"));
    stage.until_current("6", true).await;
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 4));
    // Deleted, and made again: the first that the watch tells is that it is gone.
    stage.watch.deleted(metadata("7"));
    stage.until_current("6", false).await;
    stage.live("8", &["ci"]);
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 5));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_says_nothing() {
    let stage = Stage::start(&["ci"]).await;
    assert_eq!((stage.review().await, stage.review().await, stage.looks()), (String::new(), String::new(), 1));
    stage.server.allow(Call::get(ALL), Reply::unavailable());
    stage.watch.expired();
    stage.until_current("5", false).await;
    for looks in 2..5 {
        assert_eq!((stage.review().await, stage.looks()), (String::new(), looks));
    }
    stage.server.allow(Call::get(ALL), Reply::list(vec![metadata("5")]));
    stage.until_current("5", true).await;
    assert_eq!((stage.review().await, stage.looks()), (String::new(), 4));
}

/// Z-06: what opens depends on the keys in force.
#[tokio::test(start_paused = true)]
async fn other_keys_are_another_question() {
    let stage = Stage::start(&["ci"]).await;
    assert_eq!(stage.review().await, "");
    put(&stage.folder, "1.txt", &Identity::generate());
    stage.custody.load().expect("loads");
    assert_eq!((stage.review().await, stage.looks()), ("NotDecryptable".to_owned(), 2));
    put(&stage.folder, "1.txt", &stage.identity);
    stage.custody.load().expect("loads");
    assert_eq!((stage.review().await, stage.review().await, stage.looks()), (String::new(), String::new(), 3));
}

/// Bodies that do not come hold their room no longer than the API server waits, and who came first is first.
#[tokio::test(start_paused = true)]
async fn memory_for_bodies_is_bounded() {
    let stage = Stage::start(&["ci"]).await;
    let stalled = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let began = Instant::now();
    let stuck = join_all((0..8).map(|_| stage.post(stalled())));
    let waits = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (stage.review().await, began.elapsed())
    };
    let (stuck, (answer, after)) = tokio::join!(stuck, waits);
    assert!(stuck.iter().all(|(status, _)| *status == StatusCode::SERVICE_UNAVAILABLE), "{stuck:?}");
    assert_eq!(answer, "");
    assert!(after >= PATIENCE && after < PATIENCE + Duration::from_millis(500), "{after:?}");
    let large = stage.post(Body::from(vec![b' '; LARGEST_POD + 1])).await;
    assert_eq!(large.0, StatusCode::PAYLOAD_TOO_LARGE);
}
