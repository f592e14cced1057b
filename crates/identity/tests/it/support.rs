//! A mesh of one process.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_identity::http::Peer;
use zen_identity::{Component, Mesh};
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain};

pub const HOUR: Duration = Duration::from_hours(1);

pub fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

pub fn mesh() -> Mesh {
    Mesh::new(&domain(), "zen-mesh").expect("valid")
}

pub fn id(component: Component) -> SpiffeId {
    mesh().id(component).clone()
}

pub fn ca() -> Ca {
    Ca::ephemeral(&domain()).expect("a CA")
}

pub fn identity(ca: &Ca, id: &SpiffeId) -> Identity {
    let certificate = ca.issue_workload(id, HOUR).expect("issued");
    Identity::new(&certificate, &ca.roots().expect("roots")).expect("an identity")
}

/// A running control server of the ingester.
pub struct Served {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<Result<(), zen_pki::Error>>,
}

impl Served {
    pub async fn start(identity: &Identity, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let (identity, end) = (identity.clone(), shutdown.clone());
        let task = tokio::spawn(async move { zen_identity::server::serve(listener, &identity, router, end).await });
        Self { address, shutdown, task }
    }

    pub fn peer(&self, id: &SpiffeId) -> Peer {
        Peer { address: self.address, id: id.clone() }
    }
}
