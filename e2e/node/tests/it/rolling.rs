//! Pods come and go in order, and no source notices: updates, and more or fewer replicas (K-04, DESIGN 13).

use std::time::Duration;

use zen_e2e_node::{Cluster, Load, Mesh, Part};

use crate::stage::{SOON, Stage};

/// A pod that goes accepts for `drainDelay`, in which kube-proxy has to learn of it: a second on a quiet machine, more than the
/// default of five on one that compiles for several people.
async fn take_time(mesh: &Mesh<'_>) {
    mesh.upgrade(&["mesh.drainDelay=10s"]).await.unwrap();
}

/// A value of the chart that changes the pods of both planes: each pod is replaced while traffic flows.
#[tokio::test]
async fn a_rolling_update_refuses_and_drops_nothing() {
    let cluster = Cluster::open().await.unwrap();
    let (stage, mesh) = (Stage::new(&cluster, "update").await, Mesh::of(&cluster));
    take_time(&mesh).await;
    let ingesters = mesh.whole(Part::Ingester, 2, &[], SOON).await.unwrap();
    let egresses = mesh.whole(Part::Egress, 2, &[], SOON).await.unwrap();
    let load = Load::of("update", stage.source.clone());
    load.flows(20).await;

    let round = stage.namespace.name.clone();
    let values = ["ingester", "egress"].map(|part| format!("{part}.pod.annotations.round={round}"));
    mesh.upgrade(&values.each_ref().map(String::as_str)).await.unwrap();
    mesh.whole(Part::Ingester, 2, &ingesters, SOON).await.unwrap();
    mesh.whole(Part::Egress, 2, &egresses, SOON).await.unwrap();
    load.flows(20).await;
    let tally = load.stop().await;
    stage.account("rolling update", &tally, SOON).await;
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");
}

/// More replicas, then one of three: what the two others hold is delivered within a minute of their being unwanted.
#[tokio::test]
async fn scaling_up_and_down_refuses_and_drops_nothing() {
    const LIMIT: Duration = Duration::from_mins(1);
    let cluster = Cluster::open().await.unwrap();
    let (stage, mesh) = (Stage::new(&cluster, "scale").await, Mesh::of(&cluster));
    take_time(&mesh).await;
    let load = Load::of("up", stage.source.clone());
    load.flows(20).await;
    mesh.upgrade(&["ingester.replicas=3", "egress.replicas=3"]).await.unwrap();
    mesh.whole(Part::Ingester, 3, &[], SOON).await.unwrap();
    mesh.whole(Part::Egress, 3, &[], SOON).await.unwrap();
    load.flows(20).await;
    let tally = load.stop().await;
    stage.account("2 to 3 replicas", &tally, SOON).await;
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");

    let load = Load::of("down", stage.source.clone());
    load.flows(20).await;
    let began = tokio::time::Instant::now();
    mesh.upgrade(&["ingester.replicas=1", "egress.replicas=1"]).await.unwrap();
    mesh.whole(Part::Ingester, 1, &[], SOON).await.unwrap();
    let left = began.elapsed();
    load.flows(20).await;
    let tally = load.stop().await;
    stage.account("3 to 1 replicas", &tally, LIMIT.saturating_sub(left)).await;
    println!("3 to 1 replicas: the two were gone after {left:.1?}");
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");
    mesh.whole(Part::Egress, 1, &[], SOON).await.unwrap();

    mesh.upgrade(&["ingester.replicas=2", "egress.replicas=2"]).await.unwrap();
    mesh.whole(Part::Ingester, 2, &[], SOON).await.unwrap();
    mesh.whole(Part::Egress, 2, &[], SOON).await.unwrap();
}
