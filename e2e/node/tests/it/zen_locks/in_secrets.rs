//! Secret delivery, where the owner of the cluster lets pods ask for it (Z-03; issue 5, point 5).

use serde_json::json;
use zen_e2e_node::{Cluster, Mesh, Part, until};

use super::stage::{Stage, Workload};
use crate::stage::SOON;

#[tokio::test]
async fn a_pod_that_asks_for_a_secret_has_one_as_long_as_it_lives() {
    let cluster = Cluster::open().await.unwrap();
    let mesh = Mesh::of(&cluster);
    let before = mesh.pods(Part::ZenLock).await.unwrap();
    mesh.upgrade(&["zenLock.secretDelivery=true"]).await.unwrap();
    mesh.whole(Part::ZenLock, before.len(), &before, SOON).await.unwrap();
    let stage = Stage::new(&cluster, "insecret", "restricted").await;
    let namespace = &stage.namespace.name;
    stage.lock("db", &[("password", "in-etcd")], &["ci"]).await;
    let user = json!({"securityContext": {"runAsUser": 1000}});
    let pod = Workload::new("asks", "Pod").pod(user).inject("db").annotation("delivery", "secret");
    // Replicas that were just replaced may still be asked.
    until("the pod is admitted", SOON, async || {
        Ok(stage.apply(&pod).await.inspect_err(|told| eprintln!("{told}")).ok())
    })
    .await
    .unwrap();
    assert_eq!(stage.found("asks", 1).await[0].value, "in-etcd");
    let secrets = async || {
        let list = ["get", "secrets", "--namespace", namespace, "--selector", "zen-mesh.io/delivery=secret"];
        cluster.kubectl(&[&list[..], &["--output", "jsonpath={..ownerReferences[*].name}"]].concat()).await
    };
    assert_eq!(secrets().await.unwrap(), "asks", "it is the pod's");
    let wait = ["wait", "--for=condition=PlaintextInEtcd", "zenlock/db", "--namespace", namespace, "--timeout=60s"];
    cluster.kubectl(&wait).await.unwrap();
    let events = ["get", "events", "--namespace", namespace, "--output", "jsonpath={..reason}"];
    until("the pod says so too", SOON, async || {
        Ok(cluster.kubectl(&events).await?.contains("SecretDelivery").then_some(()))
    })
    .await
    .unwrap();
    cluster.kubectl(&["delete", "pod", "asks", "--namespace", namespace]).await.unwrap();
    until("the Secret is gone with its pod", SOON, async || Ok(secrets().await?.is_empty().then_some(())))
        .await
        .unwrap();

    let before = mesh.pods(Part::ZenLock).await.unwrap();
    mesh.upgrade(&["zenLock.secretDelivery=false"]).await.unwrap();
    mesh.whole(Part::ZenLock, before.len(), &before, SOON).await.unwrap();
}
