//! The delivery as a Secret, for pods that ask for it (Z-03).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::kube_objects::pod;
use crate::stage::{PATIENCE, Stage};

pub async fn a_secret_lives_and_goes_with_its_pod(stage: &Stage) {
    let asks = [("inject", "db"), ("env", "db"), ("delivery", "secret")];
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), "team-a");
    stage.dry_run(&pod("dry", &asks)).await.unwrap();
    let made = stage.create(&pod("old-style", &asks)).await.unwrap();
    let source = made.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].secret.clone().unwrap();
    let name = source.secret_name.unwrap();
    let secret = wait(&secrets, &name, true).await.unwrap();
    let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
    assert_eq!((text("k0"), text("k1")), ("MARKER-two".into(), "MARKER-three".into()));
    assert_eq!(secret.owner_references()[0].uid, made.uid().unwrap());
    assert_eq!(stage.audit.last_of("Pod/team-a/old-style"), ("ZenLock/team-a/db".to_owned(), true, ""));
    // Only this one was made: the dry-run left none.
    assert_eq!(secrets.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let lock = stage.control_plane.kubectl(&[
        "-n",
        "team-a",
        "wait",
        "zenlock/db",
        "--for=condition=PlaintextInEtcd",
        "--timeout=60s",
    ]);
    lock.await.unwrap();
    let events = stage
        .control_plane
        .kubectl(&["-n", "team-a", "get", "events", "-o", "jsonpath={.items[*].reason}"])
        .await
        .unwrap();
    assert!(events.contains("SecretDelivery"), "{events}");

    // A pod that ended needs it no more.
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "team-a");
    let ended = json!({"status": {"phase": "Succeeded"}});
    pods.patch_status("old-style", &PatchParams::default(), &Patch::Merge(&ended)).await.unwrap();
    wait(&secrets, &name, false).await;
    let gone = ["-n", "team-a", "wait", "zenlock/db", "--for=condition=PlaintextInEtcd=False", "--timeout=60s"];
    stage.control_plane.kubectl(&gone).await.unwrap();

    // A Secret of somebody else is not touched, whatever its name is.
    let taken: Secret = serde_json::from_value(
        json!({"metadata": {"name": "zen-mesh-unsealed-taken"}, "stringData": {"k0": "theirs"}}),
    )
    .unwrap();
    secrets.create(&PostParams::default(), &taken).await.unwrap();
    let mut copied = serde_json::to_value(&made).unwrap();
    copied["metadata"] =
        json!({"name": "copied", "namespace": "team-a", "annotations": made.annotations(), "labels": made.labels()});
    copied["spec"]["volumes"][0]["secret"]["secretName"] = "zen-mesh-unsealed-taken".into();
    stage.create(&copied).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = stage
            .control_plane
            .kubectl(&["-n", "team-a", "get", "events", "-o", "jsonpath={.items[*].note}{.items[*].message}"])
            .await
            .unwrap();
        if events.contains("zen-mesh-unsealed-taken is not of this pod") {
            break;
        }
        assert!(Instant::now() < deadline, "{events}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let theirs = secrets.get("zen-mesh-unsealed-taken").await.unwrap();
    assert_eq!(theirs.data.unwrap()["k0"].0, b"theirs");
}

async fn wait(secrets: &Api<Secret>, name: &str, there: bool) -> Option<Secret> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = secrets.get_opt(name).await.unwrap();
        if found.is_some() == there {
            return found;
        }
        assert!(Instant::now() < deadline, "Secret {name}: {}", found.is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
