//! Who gets leases over the relay's port, and of which cluster.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use zen_compile::{Enrolled, Snapshot};
use zen_identity::Component;
use zen_identity::policy::{Action, Mesh, Object, Request};
use zen_link::Presented;
use zen_link::frame::Hello;
use zen_link::proof::Proof;
use zen_model::reason::LinkRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Scope, SpiffeId};
use zen_seal::RootKey;
use zen_seal::cluster::ClusterKey;
use zen_verify::SigningKeys;
use zen_verify::zen_signature::Keys;

/// The scope of a stream: a cluster, and the version of its keys that was proven.
#[derive(Clone)]
pub struct Admitted {
    /// Whose events it is given.
    pub cluster: ClusterId,
    /// Of the enrollment: one that was deleted and made again is another.
    pub uid: String,
    /// Of the cluster's keys.
    pub version: u32,
    /// Signs its leases.
    pub keys: Arc<Keys>,
}

impl Admitted {
    /// Whether it still counts.
    pub fn standing(&self, snapshot: &Snapshot, now: Timestamp) -> Result<(), LinkRefusal> {
        let enrolled = enrolled(snapshot, &self.cluster)?;
        if enrolled.uid != self.uid {
            return Err(LinkRefusal::EnrollmentUnknown);
        }
        if enrolled.accepts(self.version, now) { Ok(()) } else { Err(LinkRefusal::KeyVersionEnded) }
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("cluster", &self.cluster)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Who was let in.
#[derive(Clone, Debug)]
pub enum Visitor {
    /// A member's egress.
    Member(Admitted),
    /// Another ingester, for the stream of a member that it has taken.
    Peer(Admitted),
}

/// Decides. Cheap to share.
pub struct Door {
    mesh: Mesh,
    snapshot: Arc<ArcSwap<Snapshot>>,
    branch: RootKey,
}

impl Door {
    /// Of the hub's mesh, by the enrollments of the snapshot in effect. None where the signing keys are of no root.
    pub fn new(mesh: Mesh, snapshot: Arc<ArcSwap<Snapshot>>, signing: &SigningKeys) -> Option<Self> {
        Some(Self { mesh, snapshot, branch: RootKey::of(signing.branch())? })
    }

    /// For the handshake: members' egresses and the other ingesters. The enrollment is looked at when the peer has said Hello,
    /// so that it can be told what is wrong.
    pub fn may_connect(&self, peer: &SpiffeId) -> bool {
        self.is_peer(peer) || self.member(peer).is_some()
    }

    /// For whom this peer leases. Its cluster is its certificate's; only an ingester may speak for a cluster.
    pub fn admit(&self, presented: &Presented, hello: &Hello) -> Result<Visitor, LinkRefusal> {
        let snapshot = self.snapshot.load();
        let now = Timestamp::now();
        if self.is_peer(&presented.peer) {
            let behalf = hello.behalf.as_ref().ok_or(LinkRefusal::BehalfMissing)?;
            let cluster = ClusterId::new(&behalf.tenant, &behalf.cluster);
            let cluster = cluster.map_err(|_| LinkRefusal::EnrollmentUnknown)?;
            let key = ClusterKey::derive(&self.branch, &cluster, behalf.version);
            return admitted(&snapshot, cluster, &key, now).map(Visitor::Peer);
        }
        let cluster = self.member(&presented.peer).ok_or(LinkRefusal::LeaseNotPermitted)?;
        if hello.behalf.is_some() {
            return Err(LinkRefusal::BehalfForbidden);
        }
        enrolled(&snapshot, &cluster)?;
        let proof = Proof::parse(&hello.proof).ok_or(LinkRefusal::ProofMissing)?;
        let version = proof.key_id.rsplit_once('-').and_then(|(_, version)| version.parse().ok());
        let key = ClusterKey::derive(&self.branch, &cluster, version.ok_or(LinkRefusal::ProofWrong)?);
        if key.id() != proof.key_id || !proof.verifies(&key.link(), &hello.instance, &presented.binding) {
            return Err(LinkRefusal::ProofWrong);
        }
        admitted(&snapshot, cluster, &key, now).map(Visitor::Member)
    }

    /// Whether who was let in would be now.
    pub fn standing(&self, admitted: &Admitted) -> Result<(), LinkRefusal> {
        admitted.standing(&self.snapshot.load(), Timestamp::now())
    }

    fn is_peer(&self, peer: &SpiffeId) -> bool {
        self.mesh.id(Component::Ingester) == peer
    }

    /// The cluster of a member's egress.
    fn member(&self, peer: &SpiffeId) -> Option<ClusterId> {
        let Scope::Cluster(cluster) = Scope::of(peer)?.scope else { return None };
        let request = Request { peer, action: Action::Lease, object: Object::Cluster(&cluster) };
        self.mesh.decide(&request).is_ok().then_some(cluster)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

fn enrolled<'a>(snapshot: &'a Snapshot, cluster: &ClusterId) -> Result<&'a Enrolled, LinkRefusal> {
    let enrolled = snapshot.clusters.get(cluster).ok_or(LinkRefusal::EnrollmentUnknown)?;
    if enrolled.enabled { Ok(enrolled) } else { Err(LinkRefusal::EnrollmentDisabled) }
}

fn admitted(
    snapshot: &Snapshot,
    cluster: ClusterId,
    key: &ClusterKey,
    now: Timestamp,
) -> Result<Admitted, LinkRefusal> {
    let uid = enrolled(snapshot, &cluster)?.uid.clone();
    let keys = Keys::new(vec![(key.id().to_owned(), key.link())]).map_err(|_| LinkRefusal::ProofWrong)?;
    let admitted = Admitted { cluster, uid, version: key.version(), keys: Arc::new(keys) };
    admitted.standing(snapshot, now)?;
    Ok(admitted)
}

#[cfg(test)]
mod tests;
