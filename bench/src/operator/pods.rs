//! Pods of the data plane, as far as the operator sees them: two ingesters and two egresses that compile the objects and
//! report on their control ports.
//!
//! The operator finds all of them at one port, and the API server takes no loopback address into an `EndpointSlice`; so the
//! bench runs in a network of its own, where each pod has an address.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zen_compile::Plane;
use zen_e2e::ControlPlane;
use zen_identity::{Component, Mesh, control};
use zen_live::cluster::{self, Cluster, Options};
use zen_model::{Namespace, Timestamp};
use zen_pki::{Ca, Identity};
use zen_pod::Reports;
use zen_pod::reports::Item;

use crate::objects::Api;

const APART: &str = "ZEN_BENCH_APART";
const NAMESPACE: &str = "zen-mesh";
/// Set aside for documentation (RFC 5737).
const ADDRESSES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];

/// Whether this process is in a network of its own.
pub fn is_apart() -> bool {
    std::env::var_os(APART).is_some()
}

/// Goes on as the same program with the same arguments in a network of its own. Does not return when that works.
pub fn run_apart() -> Result<()> {
    let addresses = ADDRESSES.map(|address| format!("ip address add {address}/32 dev lo"));
    let script = format!("ip link set lo up && {} && exec \"$0\" \"$@\"", addresses.join(" && "));
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "--", "sh", "-c", &script]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(APART, "yes");
    Err(command.exec()).context("failed to start unshare (util-linux)")
}

/// The pods.
pub struct DataPlane {
    end: CancellationToken,
    port: u16,
}

impl DataPlane {
    /// Starts them; returns when they have compiled everything.
    pub async fn start(control_plane: &ControlPlane, ca: &Ca) -> Result<Self> {
        let issuer = ca.issue_intermediate(Timestamp::now())?;
        let mesh = Mesh::new(ca.trust_domain(), NAMESPACE)?;
        let mut this = Self { end: CancellationToken::new(), port: 0 };
        let planes = [
            (Plane::Ingester, control::Plane::Ingester, Component::Ingester, &ADDRESSES[..2]),
            (Plane::Egress, control::Plane::Egress, Component::Egress, &ADDRESSES[2..]),
        ];
        for (plane, reported, component, addresses) in planes {
            let client = cluster::client(control_plane.config().await?)?;
            let options = Options { plane, member: None, mesh_namespace: Namespace::from(NAMESPACE), cache: None };
            let mut all = Vec::new();
            for (number, address) in addresses.iter().enumerate() {
                let leaf = issuer.issue_workload(mesh.id(component), Duration::from_hours(1))?;
                let identity = Identity::new(&leaf, &ca.roots()?)?;
                let listener = TcpListener::bind((*address, this.port)).await?;
                this.port = listener.local_addr()?.port();
                let reports = Reports::new(name(component, number), reported, this.end.clone());
                let (routes, end) = (reports.routes(), this.end.clone());
                tokio::spawn(async move { zen_identity::server::serve(listener, &identity, routes, end).await });
                all.push(reports);
            }
            let cluster = Cluster::start(client, options).await?;
            report(&cluster, &all, plane);
            tokio::spawn(follow(cluster, all, plane));
        }
        Ok(this)
    }

    /// Where every control API is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says that they are ready.
    pub async fn register(&mut self, api: &Api) -> Result<()> {
        let pods = [("zen-ingester-peers", Component::Ingester, 0), ("zen-egress", Component::Egress, 2)];
        for (service, component, first) in pods {
            let endpoints = (0..2).map(|number| {
                let name = name(component, number);
                let target = json!({"kind": "Pod", "namespace": NAMESPACE, "name": name, "uid": format!("uid-{name}")});
                let conditions = json!({"ready": true, "serving": true});
                json!({"addresses": [ADDRESSES[first + number]], "conditions": conditions, "targetRef": target})
            });
            let slice = json!({
                "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4", "endpoints": endpoints.collect::<Vec<_>>(),
            });
            let path = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
            api.post(&path, &slice).await?;
        }
        Ok(())
    }

    /// Ends them.
    pub fn end(&mut self) {
        self.end.cancel();
    }
}

fn name(component: Component, number: usize) -> String {
    format!("{}-{number}", component.account())
}

fn report(cluster: &Cluster, all: &[Reports], plane: Plane) {
    let published = cluster.published().borrow().clone();
    let own = |kind: &str| plane == Plane::Ingester || kind == "Destination";
    for reports in all {
        let verdicts = published.verdicts.iter().filter(|verdict| own(verdict.kind));
        reports.replace(verdicts.map(|verdict| Item { verdict: verdict.clone(), last_verified: None, breaker: None }));
    }
}

async fn follow(cluster: Cluster, all: Vec<Reports>, plane: Plane) {
    let mut published = cluster.published();
    while published.changed().await.is_ok() {
        report(&cluster, &all, plane);
        // Changes that come together are one revision, as in a pod.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
