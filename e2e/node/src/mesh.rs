//! The mesh that is installed: its pods, its chart, its replicas.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};

use crate::cluster::Cluster;
use crate::wait;

/// Release and namespace.
pub const NAME: &str = "zen-mesh";
/// Where a pod of the ingester takes webhooks.
const INTAKE: u16 = 8443;

/// A part of the mesh that has pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Keeps everything as it should be.
    Operator,
    /// Takes webhooks in.
    Ingester,
    /// Delivers them.
    Egress,
    /// Admits pods that ask for ZenLocks, and opens those for them.
    ZenLock,
    /// Keeps the audit logs.
    Audit,
}

impl Part {
    /// As in the label `app.kubernetes.io/component`, and the name of the container.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Ingester => "ingester",
            Self::Egress => "egress",
            Self::ZenLock => "zenlock-webhook",
            Self::Audit => "audit",
        }
    }

    /// What makes its pods, as `kubectl` names it.
    pub fn workload(self) -> &'static str {
        match self {
            Self::Operator => "deployment/zen-operator",
            Self::Ingester => "statefulset/zen-ingester",
            Self::Egress => "deployment/zen-egress",
            Self::ZenLock => "deployment/zenlock-webhook",
            Self::Audit => "statefulset/zen-audit",
        }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Another pod of this name has another one.
    pub uid: String,
    /// Its address; empty until it has one.
    pub ip: String,
    /// Whether Services send requests to it.
    pub ready: bool,
    /// Whether it is on its way out.
    pub ending: bool,
}

impl Pod {
    /// Where it takes webhooks, if it is an ingester.
    pub fn intake(&self) -> Result<SocketAddr> {
        let ip: std::net::IpAddr = self.ip.parse().with_context(|| format!("{} has no address", self.name))?;
        Ok((ip, INTAKE).into())
    }
}

/// The installed mesh.
#[derive(Clone, Copy, Debug)]
pub struct Mesh<'a> {
    cluster: &'a Cluster,
}

impl<'a> Mesh<'a> {
    /// Of this cluster.
    pub fn of(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    /// The pods of a part, by name.
    pub async fn pods(&self, part: Part) -> Result<Vec<Pod>> {
        let pods: Api<core::Pod> = Api::namespaced(self.cluster.client.clone(), NAME);
        let label = format!("app.kubernetes.io/component={}", part.name());
        let mut pods: Vec<Pod> = pods.list(&ListParams::default().labels(&label)).await?.into_iter().map(pod).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Waits until a part has so many pods, all ready, none on its way out and none of `replaced`. Returns them.
    pub async fn whole(&self, part: Part, count: usize, replaced: &[Pod], limit: Duration) -> Result<Vec<Pod>> {
        wait::until(&format!("{count} pods of the {} are ready", part.name()), limit, async || {
            let pods = self.pods(part).await?;
            let old = |pod: &Pod| replaced.iter().any(|old| old.uid == pod.uid);
            let whole = pods.len() == count && pods.iter().all(|pod| pod.ready && !pod.ending && !old(pod));
            ensure!(whole, "{pods:?}");
            Ok(Some(pods))
        })
        .await
    }

    /// `helm upgrade` with these values on top of those that are in force.
    pub async fn upgrade(&self, set: &[&str]) -> Result<String> {
        let mut arguments = vec!["upgrade", NAME, "charts/zen-mesh", "--namespace", NAME, "--reuse-values"];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        self.cluster.helm(&arguments).await
    }
}

fn pod(pod: core::Pod) -> Pod {
    let status = pod.status.unwrap_or_default();
    let ready = |condition: &core::PodCondition| condition.type_ == "Ready" && condition.status == "True";
    Pod {
        name: pod.metadata.name.unwrap_or_default(),
        uid: pod.metadata.uid.unwrap_or_default(),
        ip: status.pod_ip.unwrap_or_default(),
        ready: status.conditions.unwrap_or_default().iter().any(ready),
        ending: pod.metadata.deletion_timestamp.is_some(),
    }
}
