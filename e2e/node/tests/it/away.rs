//! Without operator and API server: what runs goes on, what restarts comes back, and afterwards everything converges.

use std::collections::BTreeSet;

use zen_e2e_node::{Cluster, Component, Load, Mesh, NAME, Part, Source, until};

use crate::stage::{SOON, Stage, programmed};

/// How many webhooks come at a time.
const BURST: usize = 100;

async fn burst(source: &Source, name: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for number in 0..BURST {
        ids.insert(source.deliver(&format!("{name}-{number}"), SOON).await.unwrap());
    }
    ids
}

async fn operators(cluster: &Cluster, count: usize) {
    let replicas = format!("--replicas={count}");
    cluster.kubectl(&["scale", Part::Operator.workload(), "--namespace", NAME, &replicas]).await.unwrap();
}

#[tokio::test]
async fn delivery_goes_on_without_operator_and_api_server() {
    let cluster = Cluster::open().await.unwrap();
    let (stage, mesh) = (Stage::new(&cluster, "away").await, Mesh::of(&cluster));
    let ingester = mesh.whole(Part::Ingester, 2, &[], SOON).await.unwrap().remove(0);
    let egress = mesh.whole(Part::Egress, 2, &[], SOON).await.unwrap().remove(0);
    let containers = [
        cluster.container(NAME, &ingester.name, Part::Ingester.name()).await.unwrap(),
        cluster.container(NAME, &egress.name, Part::Egress.name()).await.unwrap(),
    ];
    let load = Load::of("away", stage.source.clone());
    load.flows(20).await;
    operators(&cluster, 0).await;
    mesh.whole(Part::Operator, 0, &[], SOON).await.unwrap();
    let down = cluster.hold(Component::ApiServer).await.unwrap();
    load.flows(20).await;
    let ids = burst(&stage.source, "without").await;
    let took = stage.all_of(&ids, SOON).await;
    println!("without operator and API server: {BURST} more arrived {took:.1?} after the last");
    let tally = load.stop().await;
    stage.account("without operator and API server", &tally, SOON).await;
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");

    // Containers that restart find what they need in their pods.
    let own = stage.source.at(ingester.intake().unwrap());
    for container in &containers {
        cluster.kill_container(container).await.unwrap();
    }
    until("the ingester stopped", SOON, async || Ok(own.connect().await.is_err().then_some(()))).await.unwrap();
    let ids = burst(&own, "restarted").await;
    stage.all_of(&ids, SOON).await;

    drop(down);
    cluster.ready(SOON).await.unwrap();
    operators(&cluster, 2).await;
    for part in [Part::Operator, Part::Ingester, Part::Egress] {
        mesh.whole(part, 2, &[], SOON).await.unwrap();
    }
    // What is asked for now is done: at every replica, as the status says.
    let name = &stage.namespace.name;
    let second = format!(
        "
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: second, namespace: {name}}}
spec:
  verification: {{provider: github, secrets: [{{secretRef: {{name: github, key: secret}}}}]}}
  routes: [{{destinations: [{{name: ci}}]}}]
"
    );
    cluster.apply(&second).await.unwrap();
    programmed(&cluster, name, &["webhook/second"]).await;
    let second = stage.source.on(&format!("/{name}/second"));
    for pod in mesh.pods(Part::Ingester).await.unwrap() {
        let id = second.at(pod.intake().unwrap()).deliver(&format!("after-{}", pod.name), SOON).await.unwrap();
        stage.all_of(&[id].into(), SOON).await;
    }
}
