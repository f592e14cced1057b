//! The unseal API, asked as pods and planes ask it, with tokens of the API server (Z-03, Z-08).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;
use zen_identity::Component;
use zen_identity::client::{Resolve, StaticResolver};
use zen_identity::endpoint::Endpoint;
use zen_pki::{Identity, TrustRoots, named_client};
use zenlock_webhook::fetch::ask::{Api, Error};
use zenlock_webhook::fetch::{self, Arguments};

use crate::kube_objects::{pod, zen_lock};
use crate::stage::{PATIENCE, Stage, mesh};

const AUDIENCE: &str = zenlock_webhook::AUDIENCE;

fn resolver() -> Arc<dyn Resolve> {
    Arc::new(StaticResolver(HashMap::from([("localhost".to_owned(), vec![[127, 0, 0, 1].into()])])))
}

/// What the pod's container would run, with its files in a folder of this test.
fn arguments(pod: &Pod, container: usize, folder: &Path, token: &str) -> Arguments {
    let containers = pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap();
    let mut arguments = Arguments::of_args(containers[container].args.as_ref().unwrap()).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    arguments.token = folder.join("token");
    std::fs::write(&arguments.token, token).unwrap();
    arguments.dir = folder.join("volume");
    std::fs::create_dir_all(&arguments.dir).unwrap();
    arguments
}

/// The status and code of a refusal.
async fn refused(arguments: &Arguments) -> (u16, String) {
    match Api::new(arguments, Some(resolver())).unwrap().unseal().await {
        Err(Error::Refused { status, refusal }) => {
            assert!(!refusal.message.contains("MARKER") && !refusal.request_id.is_empty(), "{refusal:?}");
            (status.as_u16(), refusal.code)
        }
        other => panic!("not refused: {:?}", other.map(|answer| answer.locks.len())),
    }
}

fn folder(stage: &Stage, name: &str) -> PathBuf {
    stage.folder.path().join("pods").join(name)
}

pub async fn a_pod_gets_what_it_was_admitted_for(stage: &Stage) {
    let made = stage.create(&pod("gets", &[("inject", "ci-token,db"), ("env", "db")])).await.unwrap();
    let token = stage.token("team-a", "ci", AUDIENCE, Some(&made)).await;
    let arguments = arguments(&made, 0, &folder(stage, "gets"), &token);
    // It asks again when its sandbox is made anew.
    for _ in 0..2 {
        fetch::run(&arguments, Some(resolver())).await.unwrap();
        let read = |path: &str| std::fs::read_to_string(arguments.dir.join(path)).unwrap();
        assert_eq!(read("files/ci-token/token"), "MARKER-one");
        assert_eq!(
            (read("files/db/password"), read("files/db/user.name")),
            ("MARKER-two".into(), "MARKER-three".into())
        );
        assert_eq!(read("env/variables"), "PASSWORD='MARKER-two'\nUSER_NAME='MARKER-three'\n");
        assert_eq!(stage.audit.last_of("Pod/team-a/gets"), ("ZenLock/team-a/db".to_owned(), true, ""));
    }
    assert!(!stage.audit.text().contains("MARKER"));
    // A subject that is taken off the list gets nothing more, at once; neither does anybody of a ZenLock that is gone.
    let to = [stage.age.recipient()];
    stage.apply(&zen_lock("team-a", "ci-token", &to, &[("token", "MARKER-one")], &["web"])).await.unwrap();
    assert_eq!(refused(&arguments).await, (403, "SubjectNotAllowed".to_owned()));
    assert_eq!(stage.audit.last_of("Pod/team-a/gets").2, "SubjectNotAllowed");
    stage.control_plane.kubectl(&["-n", "team-a", "delete", "zenlock", "ci-token"]).await.unwrap();
    assert_eq!(refused(&arguments).await, (404, "ZenLockNotFound".to_owned()));
    stage.apply(&zen_lock("team-a", "ci-token", &to, &[("token", "MARKER-one")], &["ci"])).await.unwrap();
}

pub async fn stolen_and_stale_tokens_get_nothing(stage: &Stage) {
    let victim = stage.create(&pod("victim", &[("inject", "ci-token,db")])).await.unwrap();
    let other = stage.create(&pod("other", &[("inject", "db")])).await.unwrap();
    let plain = stage.create(&pod("nothing", &[])).await.unwrap();
    let with = |token: &str| arguments(&victim, 0, &folder(stage, "victim"), token);
    let code = |status: u16, code: &str| (status, code.to_owned());
    // Another pod of the same account asks for what only this one was admitted for.
    for pod in [&other, &plain] {
        let token = stage.token("team-a", "ci", AUDIENCE, Some(pod)).await;
        assert_eq!(refused(&with(&token)).await, code(403, "NotAdmitted"));
    }
    assert!(!stage.audit.last_of("Pod/team-a/other").1);
    let wrong = stage.token("team-a", "ci", "https://kubernetes.default.svc.cluster.local", Some(&victim)).await;
    assert_eq!(refused(&with(&wrong)).await, code(401, "TokenInvalid"));
    let unbound = stage.token("team-a", "ci", AUDIENCE, None).await;
    assert_eq!(refused(&with(&unbound)).await, code(403, "TokenNotPodBound"));
    assert_eq!(refused(&with("nonsense")).await, code(401, "TokenInvalid"));
    let token = stage.token("team-a", "ci", AUDIENCE, Some(&victim)).await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    patch_status(stage, "victim", &ended).await;
    assert_eq!(refused(&with(&token)).await, code(403, "PodEnding"));
    // Deleted, and replaced by another of the same name. The API server remembers for ten seconds what it said of a token;
    // the look at the live pod does not.
    stage.delete("team-a", "victim").await;
    let said = refused(&with(&token)).await;
    assert!([code(401, "TokenInvalid"), code(403, "PodNotFound")].contains(&said), "{said:?}");
    stage.create(&pod("victim", &[("inject", "ci-token,db")])).await.unwrap();
    let said = refused(&with(&token)).await;
    assert!([code(401, "TokenInvalid"), code(403, "PodReplaced")].contains(&said), "{said:?}");
    // An annotation that is changed later admits for nothing.
    let token = stage.token("team-a", "ci", AUDIENCE, Some(&other)).await;
    stage
        .control_plane
        .kubectl(&["-n", "team-a", "annotate", "--overwrite", "pod", "other", "zen-mesh.io/inject=ci-token,db"])
        .await
        .unwrap();
    assert_eq!(refused(&with(&token)).await, code(403, "NotAdmitted"));
}

async fn patch_status(stage: &Stage, name: &str, patch: &Value) {
    let api: kube::Api<Pod> = kube::Api::namespaced(stage.client.clone(), "team-a");
    api.patch_status(name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
}

pub async fn planes_ask_on_behalf_of_objects_that_name_the_zenlock(stage: &Stage) {
    let to = [stage.age.recipient()];
    let mut lock = zen_lock("team-a", "hook", &to, &[("secret", "MARKER-hook")], &[]);
    lock["spec"]["allowedSubjects"] =
        json!([{"kind": "Webhook", "name": "github"}, {"kind": "Webhook", "name": "other"}]);
    stage.apply(&lock).await.unwrap();
    let webhook = |name: &str, lock: &str| {
        json!({
            "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": {"name": name, "namespace": "team-a"},
            "spec": {
                "verification": {"provider": "github", "secrets": [{"zenLockRef": {"name": lock, "key": "secret"}}]},
                "routes": [{"destinations": [{"name": "ci"}]}],
            },
        })
    };
    stage.apply(&webhook("github", "hook")).await.unwrap();
    stage.apply(&webhook("other", "another")).await.unwrap();
    let subject = |kind: &str, name: &str| json!({"kind": kind, "namespace": "team-a", "name": name});
    let ask = async |component: Component, subject: Value| {
        let asked = json!({"locks": [{"namespace": "team-a", "name": "hook"}], "subject": subject});
        as_plane(stage, component, &asked).await
    };
    let (status, answer) = ask(Component::Ingester, subject("Webhook", "github")).await;
    assert_eq!(
        (status, &answer["locks"][0]["data"]["secret"]),
        (StatusCode::OK, &"TUFSS0VSLWhvb2s=".into()),
        "{answer}"
    );
    let who = mesh().id(Component::Ingester).to_string();
    assert_eq!(stage.audit.last_of(&who), ("ZenLock/team-a/hook".to_owned(), true, ""));
    for (component, subject, code) in [
        (Component::Egress, subject("Webhook", "github"), "SubjectNotPermitted"),
        (Component::Ingester, subject("Webhook", "missing"), "SubjectNotPermitted"),
        // Allowed, and does not use it.
        (Component::Ingester, subject("Webhook", "other"), "SubjectNotPermitted"),
        (Component::Ingester, subject("Destination", "github"), "SubjectNotPermitted"),
        (
            Component::Ingester,
            json!({"kind": "Webhook", "namespace": "team-b", "name": "github"}),
            "SubjectNotPermitted",
        ),
        (Component::Ingester, Value::Null, "SubjectNotPermitted"),
    ] {
        let (_, answer) = ask(component, subject.clone()).await;
        assert_eq!(answer["code"], code, "{component:?} {subject}");
    }
    // The operator meets this pod while certificates are exchanged (T-04), and has nothing opened (T-05).
    let (status, answer) = ask(Component::Operator, subject("Webhook", "github")).await;
    assert_eq!((status, &answer["code"]), (StatusCode::FORBIDDEN, &"SubjectNotPermitted".into()), "{answer}");
}

async fn as_plane(stage: &Stage, component: Component, asked: &Value) -> (StatusCode, Value) {
    let issued = stage.ca.issue_workload(mesh().id(component), Duration::from_hours(1)).unwrap();
    let roots = TrustRoots::from_pem(stage.ca.certificate_pem()).unwrap();
    let identity = Identity::new(&issued, &roots).unwrap();
    let endpoint = Endpoint::with_resolver(&format!("https://localhost:{}", stage.https.port()), resolver()).unwrap();
    let request = Request::post("/v1/unseal")
        .header("host", "localhost")
        .body(Full::new(Bytes::from(asked.to_string())))
        .unwrap();
    let tls = named_client(&roots, Some(&identity)).unwrap();
    let response = endpoint.send(&tls, &request, PATIENCE, 1 << 20).await.unwrap();
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

pub async fn a_change_reaches_the_files_within_five_seconds(stage: &Stage) {
    let to = [stage.age.recipient()];
    stage.apply(&zen_lock("team-a", "live", &to, &[("token", "before")], &["ci"])).await.unwrap();
    let made = stage.create(&pod("follows", &[("inject", "live"), ("refresh", "true")])).await.unwrap();
    let token = stage.token("team-a", "ci", AUDIENCE, Some(&made)).await;
    let sidecar = arguments(&made, 1, &folder(stage, "follows"), &token);
    assert!(sidecar.watch);
    let file = sidecar.dir.join("files/live/token");
    let running = tokio::spawn(async move { fetch::run(&sidecar, Some(resolver())).await });
    let until = async |value: &str| {
        let began = Instant::now();
        while std::fs::read_to_string(&file).ok().as_deref() != Some(value) {
            assert!(began.elapsed() < PATIENCE, "{value:?} does not come");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    };
    until("before").await;
    for value in ["after", "later"] {
        stage.apply(&zen_lock("team-a", "live", &to, &[("token", value)], &["ci"])).await.unwrap();
        let took = until(value).await;
        println!("a change reached the files after {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    running.abort();
}
