//! The pods of the mesh as a rotation sees them.

use std::net::SocketAddr;
use std::sync::Arc;

use zen_identity::Component;
use zen_pki::{Identity, Presented};
use zen_rotation::{Half, Rate};
use zen_verify::Sample;

use super::synthetic::Arrived;
use super::told::Told;

/// A pod that presents a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What it is.
    pub component: Component,
    /// Its name.
    pub name: Arc<str>,
    /// A new pod of the same name has another.
    pub uid: Arc<str>,
    /// Where it presents it.
    pub address: SocketAddr,
    /// Where it presents a certificate to sources.
    pub intake: Option<SocketAddr>,
    /// Where its metrics are.
    pub admin: SocketAddr,
    /// Whether it takes part.
    pub ready: bool,
}

impl Pod {
    /// What it is for events.
    pub(super) fn half(&self) -> Option<Half> {
        match self.component {
            Component::Ingester => Some(Half::Takes),
            Component::Egress => Some(Half::Delivers),
            Component::Operator | Component::ZenLock | Component::Audit => None,
        }
    }
}

/// Why there was no handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Nobody answers: it may have just gone.
    #[error("no answer: {0}")]
    Away(String),
    /// One of the two did not take the other's certificate.
    #[error("refused: {0}")]
    Refused(String),
}

/// Meets the pods.
pub trait Field: Clone + Send + Sync + 'static {
    /// Those that there are now, but for those that are about to end.
    fn pods(&self) -> Vec<Pod>;
    /// The replicas of the operator, this one among them: no rotation waits for them.
    fn operators(&self) -> Vec<Pod>;
    /// A handshake as this workload, checked on both sides, and one answer: only then it is known that the pod took ours.
    fn greet(&self, pod: &Pod, identity: &Identity) -> impl Future<Output = Result<Presented, Unheard>> + Send;
    /// A handshake as a source makes it, where the mesh's own certificate is presented to sources; none where there is none.
    fn visit(&self, pod: &Pod) -> impl Future<Output = Option<Result<Presented, Unheard>>> + Send;
    /// What it presents to sources, whoever made that, as it says when it is asked as this workload.
    fn intake(&self, pod: &Pod, identity: &Identity) -> impl Future<Output = Result<Presented, Unheard>> + Send;
    /// A source's event at its intake: the status of the answer. The intake presents the mesh's own certificate; or what the pod
    /// says that it is, asked as this workload.
    fn post(
        &self,
        pod: &Pod,
        event: Sample,
        asked_as: Option<&Identity>,
    ) -> impl Future<Output = Result<u16, Unheard>> + Send;
    /// What an egress has counted of such events; none where it does not say.
    fn arrived(&self, pod: &Pod) -> impl Future<Output = Option<Arrived>> + Send;
    /// Requests since the pod began, and how many of them failed; none where it does not say.
    fn rate(&self, pod: &Pod) -> impl Future<Output = Option<Rate>> + Send;
    /// Which versions of the signing keys it has; none where it does not say.
    fn told(&self, pod: &Pod) -> impl Future<Output = Option<Told>> + Send;
}
