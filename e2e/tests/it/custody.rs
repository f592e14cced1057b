//! With the CA's root and the age identities in files (or CSI volumes), nothing that could sign or open is in etcd, and with
//! memory delivery no plaintext either (issue 5, point 11; Z-03, Z-06).

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use zen_lock::{Identity, seal};
use zen_model::Secret;

use crate::pods::stage::until;
use crate::rights::stage::Stage;

const VALUE: &str = "plaintext-marker-of-custody";
/// How private keys begin: of CAs and leaves, and of age.
const KEYS: [&[u8]; 4] =
    [b"PRIVATE KEY-----", b"AGE-SECRET-KEY-1", b"LS0tLS1CRUdJTiBQUklWQVRF", b"QUdFLVNFQ1JFVC1LRVk"];

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_files_are_not_in_etcd() {
    let identity = Identity::generate();
    let mut stage = Stage::with_keys_in_files(&identity).await;
    stage.start_operator().await;
    stage.start_zen_lock().await;
    let sealed = seal(&Secret::new(VALUE), &[identity.recipient()]).unwrap();
    let lock = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ZenLock", "metadata": {"name": "db", "namespace": "team-a"},
        "spec": {"encryptedData": {"password": sealed}, "allowedSubjects": [{"kind": "ServiceAccount", "name": "ci"}]},
    });
    stage.kubectl(&["create", "serviceaccount", "ci", "-n", "team-a"]).await;
    stage.apply(&lock.to_string()).await;
    stage.until_condition("zenlock", "db", "Decryptable=True").await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "annotations": {"zen-mesh.io/inject": "db"}},
        "spec": {"serviceAccountName": "ci", "containers": [{"name": "main", "image": "none"}]},
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(stage.admin(), "team-a");
    let params = PostParams::default();
    // The registration is in effect a moment after it is written.
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    until("pods are admitted", async || {
        let pod = pods.create(&dry_run, &pod).await.unwrap();
        pod.spec.unwrap().init_containers.is_some()
    })
    .await;
    let made = pods.create(&params, &pod).await.unwrap();
    let folder = stage.fetch(&made, "ci").await;
    assert_eq!(std::fs::read_to_string(folder.join("files/db/password")).unwrap(), VALUE);

    let needles = [&KEYS[..], &[VALUE.as_bytes()]].concat();
    let found: Vec<_> = stage.found_in_etcd(&needles).into_iter().map(String::from_utf8_lossy).collect();
    assert!(found.is_empty(), "etcd has {found:?}");
    // The search finds what is there: the issuing CA's Secret, whose key is sealed.
    assert_eq!(stage.found_in_etcd(&[b"/registry/secrets/zen-mesh/zen-mesh-issuer", b"BEGIN CERTIFICATE"]).len(), 2);
    stage.stop().await;
}
