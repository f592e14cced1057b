//! The mesh on real pods: from a signed webhook outside the cluster to a private service, whatever dies on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use zen_e2e_node::{Cluster, Namespace, Source, Target, until};

const SOON: Duration = Duration::from_mins(2);
const SECRET: &str = "a secret of the end-to-end test";

/// A Webhook, its Secret and a Destination that names the Service `ci`, in effect at every replica.
async fn start(cluster: &Cluster, namespace: &str) -> Source {
    let manifests = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: github, namespace: {namespace}}}
stringData: {{secret: {SECRET}}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: github, namespace: {namespace}}}
spec:
  verification: {{provider: github, secrets: [{{secretRef: {{name: github, key: secret}}}}]}}
  routes: [{{destinations: [{{name: ci}}]}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: {namespace}}}
spec:
  target: {{service: {{name: ci, port: 80, path: /hooks, scheme: http}}}}
  delivery: {{retry: {{transient: {{attempts: 20, initial: 1s, factor: 1}}}}}}
"
    );
    cluster.apply(&manifests).await.unwrap();
    for object in ["webhook/github", "destination/ci"] {
        let wait = ["wait", "--for=condition=Programmed", object, "--namespace", namespace, "--timeout=120s"];
        cluster.kubectl(&wait).await.unwrap();
    }
    Source::new(cluster, &format!("/{namespace}/github"), SECRET).await.unwrap()
}

/// Ids of what arrived.
async fn arrived(target: &Target<'_>) -> BTreeSet<String> {
    let received = target.received().await.unwrap_or_default();
    received.into_iter().filter_map(|delivery| delivery.headers.get("ce-id").cloned()).collect()
}

/// W-01, W-03, D-01, K-03: the whole way, and what must not get in.
#[tokio::test]
async fn a_signed_webhook_from_outside_reaches_a_private_service() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "deliver").await.unwrap();
    let target = Target::start(&cluster, &namespace.name, "ci", &[]).await.unwrap();
    let source = start(&cluster, &namespace.name).await;
    let id = source.deliver("first", SOON).await.unwrap();
    let received = target.wait_for(1, SOON).await.unwrap();
    assert_eq!(received[0].headers["ce-id"], id);
    assert_eq!((received[0].path.as_str(), received[0].body.as_deref()), ("/hooks", Some("{\"delivery\":\"first\"}")));
    assert!(received[0].headers.contains_key("x-zen-signature"));

    let forger = Source::new(&cluster, &format!("/{}/github", namespace.name), "another secret").await.unwrap();
    assert_eq!(forger.send("forged").await.unwrap().status, 401);
    let nowhere = Source::new(&cluster, "/nobody/github", SECRET).await.unwrap();
    assert_eq!(nowhere.send("lost").await.unwrap().status, 404);
}

/// Q-01, K-04: each pod of the mesh is killed in turn; everything that was acknowledged arrives.
#[tokio::test]
async fn whatever_was_acknowledged_arrives_though_each_pod_is_killed() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "kills").await.unwrap();
    let target = Target::start(&cluster, &namespace.name, "ci", &[]).await.unwrap();
    let source = start(&cluster, &namespace.name).await;
    let mut acknowledged = BTreeSet::new();
    for victim in ["ingester", "egress", "operator"] {
        for number in 0..10 {
            acknowledged.insert(source.deliver(&format!("{victim}-before-{number}"), SOON).await.unwrap());
        }
        let selector = format!("app.kubernetes.io/component={victim}");
        let pods = ["get", "pods", "--namespace", "zen-mesh", "--selector", &selector, "--output", "name"];
        let pods = cluster.kubectl(&pods).await.unwrap();
        let first = pods.lines().next().unwrap();
        let kill = ["delete", first, "--namespace", "zen-mesh", "--grace-period=0", "--force", "--wait=false"];
        cluster.kubectl(&kill).await.unwrap();
        for number in 0..10 {
            acknowledged.insert(source.deliver(&format!("{victim}-after-{number}"), SOON).await.unwrap());
        }
    }
    assert_eq!(acknowledged.len(), 60);
    until("everything arrived", SOON, async || {
        let missing = acknowledged.difference(&arrived(&target).await).count();
        anyhow::ensure!(missing == 0, "{missing} are missing");
        Ok(Some(()))
    })
    .await
    .unwrap();
    let ready = ["rollout", "status", "statefulset/zen-ingester", "--namespace", "zen-mesh", "--timeout=120s"];
    cluster.kubectl(&ready).await.unwrap();
}
