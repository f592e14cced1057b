//! What one replica does for all: the status of ZenLocks, the public keys, and Secrets for pods that ask for them.

mod deliver;
mod recipients;
mod status;
mod verdict;

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch;
use zen_runtime::lease::{Elector, Leadership, Options};

pub use deliver::Delivered;
pub use recipients::CONFIG_MAP;

use crate::audit::Audit;
use crate::custody::Custody;
use crate::locks::Locks;

/// Name of the lease, and of the field manager.
pub const NAME: &str = "zenlock-webhook";

/// What the leader works with.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// The namespace of the mesh.
    pub namespace: String,
    /// This process, different for each.
    pub holder: String,
    /// The keys.
    pub custody: Custody,
    /// ZenLocks.
    pub locks: Arc<Locks>,
    /// Where each Secret that is made is recorded.
    pub audit: Audit,
    /// Whether pods may ask for a Secret.
    pub secret_delivery: bool,
}

/// Waits for the lease and works until it is lost.
pub async fn run(parts: Parts) {
    let options = Options::new(&*parts.namespace, NAME, &*parts.holder);
    let elector = Elector::new(parts.client.clone(), options);
    let leadership = elector.leadership();
    let _held = elector.acquire().await;
    tokio::select! {
        () = work(parts, leadership.clone()) => {}
        lost = leadership.lost() => tracing::error!(%lost, "this process ends so that another one leads"),
    }
}

/// Everything that the leader does, for as long as it is polled.
pub async fn work(parts: Parts, leadership: Leadership) {
    let reporter = Reporter { controller: format!("zen-mesh.io/{NAME}"), instance: Some(parts.holder.clone()) };
    let recorder = Recorder::new(parts.client.clone(), reporter);
    let (sender, delivered) = watch::channel(Delivered::default());
    let statuses = status::run(parts.clone(), leadership.clone(), recorder.clone(), delivered);
    let keys = recipients::publish(parts.clone(), leadership.clone());
    let secrets = async {
        if parts.secret_delivery {
            deliver::run(parts.clone(), leadership, recorder, sender).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::join!(statuses, keys, secrets);
}
