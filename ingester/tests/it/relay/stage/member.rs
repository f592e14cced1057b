//! A member of the hub: its certificates, its keys, and its egresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_compile::Snapshot;
use zen_deliver::{Deliverer, StaticResolver};
use zen_egress::Egress;
use zen_egress::relay::Relay;
use zen_model::observe::Unwatched;
use zen_model::{ClusterId, Secret};
use zen_pki::{Ca, Identity, SpiffeId};
use zen_pod::keys::Member as Membership;
use zen_seal::RootKey;
use zen_seal::cluster::ClusterKey;
use zen_testkit::Upstream;
use zen_verify::zen_signature::Keys;

use super::{options, value};
use crate::fleet::domain;

/// A member cluster, with its target.
pub struct Member {
    pub cluster: ClusterId,
    pub issuer: Ca,
    pub roots: zen_pki::TrustRoots,
    pub branch: RootKey,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub upstream: Arc<Upstream>,
    pub following: watch::Sender<Arc<Membership>>,
}

impl Member {
    pub fn key(&self, version: u32) -> ClusterKey {
        ClusterKey::derive(&self.branch, &self.cluster, version)
    }

    pub fn follow(&self, relay: SocketAddr, versions: &[u32]) {
        let keys = versions.iter().map(|version| self.key(*version)).collect();
        let relay = Some(relay.to_string());
        self.following.send_replace(Arc::new(Membership { cluster: self.cluster.clone(), relay, keys }));
    }

    /// What the member's operator writes when the hub has rotated.
    pub fn rotate(&self, versions: &[u32]) {
        let relay = self.following.borrow().relay.clone();
        let keys = versions.iter().map(|version| self.key(*version)).collect();
        self.following.send_replace(Arc::new(Membership { cluster: self.cluster.clone(), relay, keys }));
    }

    pub fn identity(&self, account: &str) -> Identity {
        let id = SpiffeId::member(&domain(), &self.cluster, "zen-mesh-member", account).unwrap();
        let issued = self.issuer.issue_workload(&id, Duration::from_hours(1)).unwrap();
        Identity::new(&issued, &self.roots).unwrap()
    }

    pub fn egress(&self, name: &str, _front: SocketAddr) -> EgressPod {
        let mut registry = Registry::default();
        let following = self.following.subscribe();
        let targets = following.clone();
        let egress = Egress::new(
            zen_egress::Parts {
                snapshot: Arc::clone(&self.snapshot),
                deliverer: Deliverer::new(Arc::new(StaticResolver::default())),
                link_keys: Arc::new(Keys::new(vec![("none".into(), Secret::new([1; 32]))]).unwrap()),
                target_keys: Arc::new(move |key| {
                    let newest = &targets.borrow().keys[0];
                    Arc::new(Keys::new(vec![(newest.id().to_owned(), newest.destination(key))]).unwrap())
                }),
                observer: Arc::new(Unwatched),
                member: Some(self.cluster.clone()),
                options: zen_egress::Options { instance: name.to_owned(), ..zen_egress::Options::default() },
            },
            registry.sub_registry_with_prefix("zen_egress"),
        );
        let identity = self.identity("zen-egress");
        let relay =
            Relay { options: options(), ..Relay::new(Arc::clone(&egress), identity, zen_link::Metrics::default()) };
        let end = CancellationToken::new();
        let ended = end.clone();
        let mut rekeyed = following.clone();
        let serving = tokio::spawn(async move {
            let rekeying = async {
                while rekeyed.changed().await.is_ok() {
                    egress.rekey();
                }
            };
            tokio::select! {
                done = relay.follow(following, ended) => done.unwrap(),
                () = rekeying => {}
            }
        });
        EgressPod { end, serving, registry }
    }
}

pub struct EgressPod {
    end: CancellationToken,
    serving: JoinHandle<()>,
    registry: Registry,
}

impl EgressPod {
    pub fn metric(&self, name: &str) -> u64 {
        value(&self.registry, name, &[])
    }

    /// Attempts that were made.
    pub fn attempts(&self) -> u64 {
        value(&self.registry, "zen_egress_attempt_seconds_count", &[])
    }

    /// SIGTERM, and the wait for the end of the process.
    pub async fn terminate(self) {
        self.end.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.serving).await.expect("ends in time").unwrap();
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.serving.abort();
    }
}
