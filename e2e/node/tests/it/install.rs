//! The chart: from nothing to a delivered webhook, and what an uninstall leaves.

use std::time::Duration;

use tokio::time::Instant;
use zen_e2e_node::{Cluster, Mesh, NAME, Namespace, Part, Source, Target, reference, until};

use crate::stage::{SECRET, SOON, apply};

/// Nobody waits longer for one step.
const LIMIT: Duration = Duration::from_mins(4);
/// What is promised from `helm install` to a webhook at its target. A quiet machine of two cores takes 11 s.
const PROMISED: Duration = Duration::from_mins(1);

/// The images are on the node already: pulling them is not ours.
#[tokio::test]
async fn a_webhook_is_delivered_once_helm_has_installed_the_mesh_and_none_is_lost_by_an_uninstall() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "install").await.unwrap();
    // Its target does not exist: it waits.
    let source = apply(&cluster, &namespace.name).await;
    let waiting = source.deliver("waiting", SOON).await.unwrap();

    let told = cluster.helm(&["uninstall", NAME, "--namespace", NAME, "--wait", "--timeout=120s"]).await.unwrap();
    assert!(told.contains("were kept due to the resource policy"), "{told}");
    for part in [Part::Operator, Part::Ingester, Part::Egress, Part::ZenLock, Part::Audit] {
        Mesh::of(&cluster).whole(part, 0, &[], SOON).await.unwrap();
    }
    let claims = cluster.kubectl(&["get", "pvc", "--namespace", NAME, "--output", "name"]).await.unwrap();
    for queue in ["queue-zen-ingester-0", "queue-zen-ingester-1"] {
        assert!(claims.contains(queue), "the queues stay: {claims}");
    }
    // The uninstall holds the lease for a minute, so that no operator on its way out writes again. A new installation meets none.
    cluster.kubectl(&["delete", "lease", "--all", "--namespace", NAME]).await.unwrap();
    let target = Target::start(&cluster, &namespace.name, "ci", &[]).await.unwrap();

    let operator = reference("zen-operator").unwrap();
    let registry = format!("image.registry={}", operator.rsplit_once('/').unwrap().0);
    let began = Instant::now();
    let install = ["install", NAME, "charts/zen-mesh", "--namespace", NAME, "--create-namespace", "--set", &registry];
    let notes = cluster.helm(&install).await.unwrap();
    let installed = began.elapsed();
    let source = Source::new(&cluster, &format!("/{}/github", namespace.name), SECRET).await.unwrap();
    let id = source.deliver("first", LIMIT).await.unwrap();
    let arrives = async |id: &String| {
        until("it arrives", LIMIT, async || {
            let received = target.received().await?;
            Ok(received.iter().any(|delivery| delivery.headers.get("ce-id") == Some(id)).then_some(()))
        })
        .await
        .unwrap();
    };
    arrives(&id).await;
    let took = began.elapsed();
    println!("helm install took {installed:.1?}; a signed webhook was delivered after {took:.1?}");
    assert!(took < PROMISED, "{took:?}");
    assert!(notes.contains("kubectl apply -f examples/kubernetes/first-webhook/"), "the next command: {notes}");
    // What waited through the uninstall.
    arrives(&waiting).await;
}
