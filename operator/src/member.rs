//! The operator in a member cluster (T-01, T-07): it takes part in a hub's mesh by a bundle, and keeps what it has from there.
//!
//! ```text
//! key for bundles ─▶ bundle ─▶ key of the issuing CA, stored ─▶ redeemed: answer, stored in one piece ─▶ its parts, where each belongs
//!                                                               ▲
//!                                    every 30 s what changed ───┘   (and at two thirds of its time a new issuing CA)
//! ```
//!
//! What the hub gave lies whole in the Secret `zen-mesh-agent`. Trust bundle, issuing CA and keys of the planes are made from it
//! again whenever they differ, so that a crash between two writes leaves nothing half done. The next step is decided by a
//! pure function ([`decide`]) from what is there now; the leader alone takes it. Every replica follows the Secret, because it says
//! who this cluster is.
//!
//! A hub that is away changes nothing here until the issuing CA ends: pods get their certificates from this operator.

mod answer;
mod decide;
mod hub;
mod keep;
mod look;
mod metrics;
mod objects;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use zen_audit::Record;
use zen_identity::client::{Clock, Resolve, SystemResolver};
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Identity, TrustDomain};

pub use metrics::Metrics;

use crate::Writer;
use crate::configuration::Followed;
use crate::identity::{Seen, follow};
use crate::settings::{self, Workloads};

/// Secret with the age identity that bundles are sealed to.
pub const MEMBER: &str = "zen-mesh-member";
/// ConfigMap with its public half, under [`RECIPIENT`]; the same name.
pub const RECIPIENT: &str = "recipient";
/// Secret with the key of an issuing CA that the hub has not signed yet.
pub const PENDING: &str = "zen-mesh-issuer-pending";
/// Secret with all that the hub gave; the operator's alone.
pub const AGENT: &str = "zen-mesh-agent";

/// A member's part of the operator. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Member(Arc<Inner>);

struct Inner {
    client: Client,
    namespace: String,
    domain: TrustDomain,
    clock: Clock,
    resolver: Arc<dyn Resolve>,
    metrics: Metrics,
    /// What keeps this cluster from being as it should; for readiness while it is not enrolled.
    problem: ArcSwap<Option<String>>,
}

/// What the leader needs besides.
pub struct Leads<'a> {
    /// For everything that is written.
    pub writer: &'a Writer,
    /// `workloads.yaml`: which roots are expected, and who owns the trust bundle.
    pub workloads: watch::Receiver<Followed<Workloads>>,
    /// What the operator speaks to the hub as; none before it is enrolled.
    pub identity: Option<&'a (dyn Fn() -> Option<Identity> + Send + Sync)>,
    /// What was done with keys and certificates is recorded there.
    pub note: &'a (dyn Fn(Record) + Send + Sync),
}

impl Member {
    /// Nothing is asked yet.
    pub fn new(client: Client, namespace: &str, domain: TrustDomain, metrics: Metrics) -> Self {
        let resolver = Arc::new(SystemResolver::searching());
        Self::with(client, namespace, domain, metrics, Arc::new(Timestamp::now), resolver)
    }

    /// By another clock, and another way to resolve names, for tests.
    pub fn with(
        client: Client,
        namespace: &str,
        domain: TrustDomain,
        metrics: Metrics,
        clock: Clock,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let (namespace, problem) = (namespace.to_owned(), ArcSwap::from_pointee(None));
        Self(Arc::new(Inner { client, namespace, domain, clock, resolver, metrics, problem }))
    }

    /// Follows who this cluster is; every replica does. Never ends.
    pub async fn follow(&self, tell: watch::Sender<Option<ClusterId>>) {
        let seen = watch::Sender::new(Seen::default());
        let mut agents = seen.subscribe();
        let told = async {
            loop {
                let secret: Option<Arc<Secret>> = agents.borrow_and_update().object.clone();
                // One that is gone or cannot be read leaves what is known: it is the leader's to mend.
                if let Some(Ok(agent)) = secret.map(|secret| state::Agent::of(&secret)) {
                    tell.send_if_modified(|known| known.replace(agent.cluster.clone()) != Some(agent.cluster));
                }
                if agents.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let api = Api::namespaced(self.0.client.clone(), &self.0.namespace);
        tokio::join!(follow::object(api, AGENT, &seen), told);
    }

    /// What the leader does until this cluster is enrolled: returns when the Secret with what the hub gave is there.
    pub async fn enroll(&self, leads: &Leads<'_>) {
        keep::Keeper::new(&self.0, leads).until_enrolled().await;
    }

    /// What the leader does from then on. Never ends; drop it when the lease is lost.
    pub async fn keep(&self, leads: &Leads<'_>) {
        keep::Keeper::new(&self.0, leads).forever().await;
    }

    /// What is wrong, in words for a readiness gate.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.load().as_ref().clone()
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// The fingerprints of roots that `workloads.yaml` expects.
fn pins(workloads: &Followed<Workloads>) -> Vec<String> {
    let member = workloads.content.as_deref().and_then(|workloads| workloads.member.as_ref());
    member.map(settings::Member::pins).unwrap_or_default()
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("namespace", &self.0.namespace).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leads<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leads").finish_non_exhaustive()
    }
}
