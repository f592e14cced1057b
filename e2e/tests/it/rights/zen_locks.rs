//! What the ZenLock webhook does with its rights: admission, status, Events, unsealing for pods and planes, and Secret delivery.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use zen_lock::{Identity, Recipient, seal};
use zen_model::Secret;
use zen_runtime::lease::{Elector, Options};

use super::stage::{NAMESPACE, Stage};
use crate::pods::stage::{get, until};

const VALUE: &str = "correct-horse";

pub async fn run(stage: &Stage) {
    let to = published(stage).await;
    stage.kubectl(&["create", "serviceaccount", "ci", "-n", "team-a"]).await;
    admitted(stage, &zen_lock(&to)).await;
    stage.until_condition("zenlock", "ci-token", "Decryptable=True").await;
    said_twice(stage).await;
    second_replica(stage).await;
    pods(stage).await;
    planes(stage).await;
}

/// The public key, which the webhook publishes.
pub async fn published(stage: &Stage) -> Recipient {
    let config_maps: Api<ConfigMap> = Api::namespaced(stage.admin(), NAMESPACE);
    let read = async || config_maps.get_opt("zen-mesh-recipients").await.unwrap();
    until("the public key is published", async || read().await.is_some()).await;
    let text = read().await.unwrap().data.unwrap()["recipients.txt"].clone();
    let line = text.lines().find(|line| line.starts_with("age1")).expect("a key");
    line.parse().unwrap()
}

pub fn zen_lock(to: &Recipient) -> Value {
    let sealed = seal(&Secret::new(VALUE), std::slice::from_ref(to)).unwrap();
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ZenLock",
        "metadata": {"name": "ci-token", "namespace": "team-a"},
        "spec": {
            "encryptedData": {"token": sealed},
            "allowedSubjects": [
                {"kind": "ServiceAccount", "name": "ci"},
                {"kind": "Webhook", "name": "locked"},
                {"kind": "Destination", "name": "locked"},
            ],
        },
    })
}

/// The registration is in effect a moment after it is written.
async fn admitted(stage: &Stage, zen_lock: &Value) {
    let bad = {
        let mut bad = zen_lock.clone();
        bad["spec"]["encryptedData"]["token"] =
            "-----BEGIN AGE ENCRYPTED FILE-----\nbm9uc2Vuc2U=\n-----END AGE ENCRYPTED FILE-----\n".into();
        bad.to_string()
    };
    until("admission refuses what is no age file", async || {
        stage.dry_run(&bad).await.is_err_and(|told| told.contains("ZenLockInvalid"))
    })
    .await;
    stage.apply(&zen_lock.to_string()).await;
}

/// The key is taken away and comes back: the ZenLock says so, and the Event that repeats is counted.
async fn said_twice(stage: &Stage) {
    let folder = stage.identities_of_zen_locks();
    let file = std::fs::read_dir(&folder).unwrap().next().expect("an identity").unwrap().path();
    let (kept, other) = (std::fs::read(&file).unwrap(), Identity::generate().to_file(jiff::Timestamp::now()));
    for _ in 0..2 {
        for (content, condition) in [(other.expose(), "Decryptable=False"), (&kept, "Decryptable=True")] {
            std::fs::write(&file, content).unwrap();
            stage.until_condition("zenlock", "ci-token", condition).await;
        }
    }
}

/// Another replica would lead: it looks at who does.
async fn second_replica(stage: &Stage) {
    let options = Options::new(NAMESPACE, "zenlock-webhook", "another");
    let elector = Elector::new(stage.client("zenlock-webhook"), options);
    let held = tokio::time::timeout(Duration::from_secs(5), elector.acquire()).await;
    assert!(held.is_err(), "the first one leads");
}

fn pod(name: &str, delivery: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name, "annotations": {"zen-mesh.io/inject": "ci-token", "zen-mesh.io/delivery": delivery}},
        "spec": {"serviceAccountName": "ci", "containers": [{"name": "main", "image": "none"}]},
    });
    serde_json::from_value(pod).unwrap()
}

async fn pods(stage: &Stage) {
    let pods: Api<Pod> = Api::namespaced(stage.admin(), "team-a");
    let made = pods.create(&PostParams::default(), &pod("memory", "memory")).await.unwrap();
    let folder = stage.fetch(&made, "ci").await;
    assert_eq!(std::fs::read_to_string(folder.join("files/ci-token/token")).unwrap(), VALUE);

    let made = pods.create(&PostParams::default(), &pod("etcd", "secret")).await.unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(stage.admin(), "team-a");
    let ours = ListParams::default().labels("zen-mesh.io/delivery=secret");
    let delivered = async || secrets.list(&ours).await.unwrap().items;
    until("the pod has its Secret", async || !delivered().await.is_empty()).await;
    assert_eq!(delivered().await[0].metadata.owner_references.as_ref().unwrap()[0].uid, made.metadata.uid.unwrap());
    // Nobody collects garbage here: a pod that is over loses its Secret by the webhook's own hand.
    let over = r#"{"status":{"phase":"Succeeded"}}"#;
    stage.kubectl(&["patch", "pod", "etcd", "-n", "team-a", "--subresource=status", "--type=merge", "-p", over]).await;
    until("the Secret goes", async || delivered().await.is_empty()).await;
    for name in ["memory", "etcd"] {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
}

/// On behalf of objects that name the ZenLock and that it names.
async fn planes(stage: &Stage) {
    let reference = json!({"zenLockRef": {"name": "ci-token", "key": "token"}});
    let webhook = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": {"name": "locked", "namespace": "team-a"},
        "spec": {
            "verification": {"provider": "github", "secrets": [reference]},
            "routes": [{"destinations": [{"name": "locked"}]}],
        },
    });
    let destination = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Destination", "metadata": {"name": "locked", "namespace": "team-a"},
        "spec": {"target": {"url": "https://ci.example.com"}, "authentication": {"bearer": reference}},
    });
    for object in [webhook, destination] {
        stage.apply(&object.to_string()).await;
    }
    for (account, kind) in [("zen-ingester", "Webhook"), ("zen-egress", "Destination")] {
        let answer = stage.unseal_as(account, "ci-token", kind, "locked").await;
        assert!(answer.contains("Y29ycmVjdC1ob3JzZQ=="), "{account}: {answer}");
    }
    // They do so themselves, with their own tokens.
    stage.until_condition("webhook", "locked", "Programmed=True").await;
    for admin in [stage.ingester_admin(), stage.egress_admin()] {
        until("it was answered", async || {
            get(admin, "/metrics").await.1.contains("zen_unseal_requests_total{result=\"answered\"}")
        })
        .await;
    }
}
