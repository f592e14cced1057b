//! Whatever dies: what was acknowledged arrives (Q-01, K-04). Two replicas of everything.
//!
//! A process that is killed answers nothing more: its connections are reset, and until Kubernetes has noticed (the
//! kubelet, then the endpoints, then kube-proxy) the Service leads some new ones to a port where nobody listens. Such
//! requests have no answer, were never acknowledged, and sources send them again: they are counted and shown, and nothing
//! else may go wrong.

use std::time::Duration;

use zen_e2e_node::{Cluster, Component, Load, Mesh, NAME, Part, Pod, until};

use crate::stage::{SOON, Stage};

/// For how long sources may meet what was killed. Kubernetes has noticed after two or three seconds.
const NOTICED: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum Death {
    /// SIGKILL of the container's processes, which the kubelet starts again.
    Killed,
    /// The pod is deleted without any grace, and made anew.
    Deleted,
}

async fn kill(cluster: &Cluster, part: Part, pod: &Pod, death: Death) {
    match death {
        Death::Killed => {
            let container = cluster.container(NAME, &pod.name, part.name()).await.unwrap();
            cluster.kill_container(&container).await.unwrap();
            until("it is started again", SOON, async || {
                Ok((cluster.container(NAME, &pod.name, part.name()).await? != container).then_some(()))
            })
            .await
            .unwrap();
        }
        Death::Deleted => {
            let pod = ["delete", "pod", &pod.name, "--namespace", NAME];
            cluster.kubectl(&[&pod[..], &["--grace-period=0", "--force", "--wait=false"]].concat()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_arrives_though_each_pod_is_killed() {
    let cluster = Cluster::open().await.unwrap();
    let (stage, mesh) = (Stage::new(&cluster, "kills").await, Mesh::of(&cluster));
    for (part, death) in [
        (Part::Ingester, Death::Killed),
        (Part::Ingester, Death::Deleted),
        (Part::Egress, Death::Killed),
        (Part::Egress, Death::Deleted),
        (Part::Operator, Death::Killed),
    ] {
        let what = format!("{} {death:?}", part.name());
        let pods = mesh.whole(part, 2, &[], SOON).await.unwrap();
        let load = Load::of(&what.replace(' ', "-"), stage.source.clone());
        load.flows(20).await;
        kill(&cluster, part, &pods[0], death).await;
        let gone = if matches!(death, Death::Deleted) { &pods[..1] } else { &[] };
        mesh.whole(part, 2, gone, SOON).await.unwrap();
        load.flows(20).await;
        let tally = load.stop().await;
        stage.account(&what, &tally, SOON).await;
        assert!(tally.refused.is_empty(), "{what}: {tally}");
        let times = || tally.unanswered.iter().map(|failure| failure.sent);
        if let (Some(first), Some(last)) = (times().min(), times().max()) {
            assert!(part == Part::Ingester, "{what}: no source is near it: {tally}");
            assert!(last - first < NOTICED, "{what}: {tally}");
        }
    }
}

/// Nothing that serves depends on any of them at the time.
#[tokio::test]
async fn no_source_notices_that_the_runtime_or_the_control_plane_is_killed() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "components").await;
    let load = Load::of("components", stage.source.clone());
    load.flows(20).await;
    for component in [Component::Containerd, Component::Etcd, Component::ApiServer, Component::KubeProxy] {
        let pid = cluster.pid(component).unwrap();
        cluster.kill(component).await.unwrap();
        load.flows(20).await;
        until("it runs again", SOON, async || Ok((cluster.pid(component)? != pid).then_some(()))).await.unwrap();
        cluster.ready(SOON).await.unwrap();
        load.flows(20).await;
    }
    let tally = load.stop().await;
    stage.account("runtime, etcd, API server, kube-proxy", &tally, SOON).await;
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");
}
