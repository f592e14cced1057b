//! The objects of a cluster: watched, compiled and published by each pod itself (K-04).
//!
//! One task for each watch ([`watch`]) reduces what it is told ([`kinds`]) and passes it on; one task ([`follow`]) keeps
//! what is in force ([`state`]), compiles it and swaps the snapshot. Secrets and `ConfigMap`s are watched one by one, by
//! name, as objects name them: a pod may read nothing else (K-06). A watch that fails, stalls or is refused leaves what it
//! told before in force and stops no other.
//!
//! `ZenLock`s are watched too: what of one is read is who may use it and that it changed. What is in it comes from whoever
//! opens it ([`Unseal`]), for each object that names it, and is nowhere but in memory (Z-03).

mod cache;
mod client;
mod error;
mod follow;
mod kinds;
mod state;
mod unseal;
mod update;
mod watch;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
pub use client::client;
pub use error::Error;
use follow::{Follower, Output};
use tokio::sync::watch as publish;
use tokio_util::task::AbortOnDropHandle;
pub use unseal::{Refused, Unanswered, Unseal, Unsealed, Unsealing, ZenLocks};
use zen_compile::{Plane, Snapshot};
use zen_model::{ClusterId, Namespace};

use crate::Published;

/// What is watched, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who compiles: decides what is watched.
    pub plane: Plane,
    /// Namespace of the `ConfigMap` `zen-mesh`.
    pub mesh_namespace: Namespace,
    /// Which cluster this is at its hub; none at the hub. A process that becomes another's begins anew.
    pub member: Option<ClusterId>,
    /// Where the objects in force are kept, Secrets included: a file in an in-memory volume, so that a restart of the
    /// container does not need the API server. None: nowhere.
    pub cache: Option<PathBuf>,
}

/// Watched objects of a cluster. Dropping it ends the watches; the snapshot stays in effect.
#[derive(Debug)]
pub struct Cluster {
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: publish::Receiver<Arc<Published>>,
    _task: AbortOnDropHandle<()>,
}

impl Cluster {
    /// Follows the objects. When this returns, the first configuration is in effect: everything that it needs was read, or
    /// the cache was, and the API server corrects it when it can. While the API server is away and there is no cache, this
    /// waits; it may be cancelled.
    ///
    /// # Errors
    /// The task that compiles ended. What is wrong with an object is its verdict, and a watch that fails is retried.
    pub async fn start(client: kube::Client, options: Options) -> Result<Self, Error> {
        Self::start_with(client, options, ZenLocks::Unsupported).await
    }

    /// As [`Cluster::start`], with what there is for objects that name `ZenLock`s.
    ///
    /// # Errors
    /// As those of [`Cluster::start`].
    pub async fn start_with(client: kube::Client, options: Options, zen_locks: ZenLocks) -> Result<Self, Error> {
        let (follower, first, published) = Follower::new(client, options, zen_locks).await.first().await?;
        let snapshot = Arc::new(ArcSwap::from_pointee(first));
        let (sender, published) = publish::channel(Arc::new(published));
        let output = Output { snapshot: Arc::clone(&snapshot), published: sender };
        let task = tokio::spawn(async move {
            if let Err(error) = follower.follow(output).await {
                tracing::error!(%error, "the configuration is not followed any more");
            }
        });
        Ok(Self { snapshot, published, _task: AbortOnDropHandle::new(task) })
    }

    /// The snapshot in effect, for everything that serves it.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// What is in effect, and notice of each change: the snapshot is swapped first. Its verdicts are those of this plane,
    /// its references those of all that the plane compiles.
    pub fn published(&self) -> publish::Receiver<Arc<Published>> {
        self.published.clone()
    }
}
