//! Keys per cluster (T-06): derived from a branch of the hub's root key, so that nothing of them is stored at the hub, and
//! whoever has one cluster's keys has no other's.
//!
//! ```text
//! branch ─HKDF(tenant, cluster, version)─▶ cluster key ─┬─ link: signs what goes between the hub and that cluster
//!                                                       ├─ agent: signs the requests of its operator to the hub
//!                                                       └─ destination: one for each target in it (W-12)
//! ```
//!
//! The hub's planes have the signing branch and can derive the link keys of every cluster; a member is given its own cluster
//! keys. Agent keys come from a branch of their own, which the planes never have.

mod revoked;
mod versions;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use zen_model::{ClusterId, ObjectKey, Secret, Timestamp};

use crate::RootKey;
use crate::envelope::info;
pub use revoked::{Revocation, Revoked};
pub use versions::{Older, TooMany, Versions};

/// Branch of the root key that agent keys come from.
pub const AGENT_BRANCH: &str = "zen/agent";

/// The keys of one cluster in one version.
#[derive(Clone)]
pub struct ClusterKey {
    root: RootKey,
    id: String,
    version: u32,
}

impl ClusterKey {
    /// Derived from a branch of the hub's root key.
    pub fn derive(branch: &RootKey, cluster: &ClusterId, version: u32) -> Self {
        let parts: [&[u8]; 3] =
            [cluster.tenant().as_str().as_bytes(), cluster.cluster().as_str().as_bytes(), &version.to_be_bytes()];
        Self { root: branch.derived("zen/cluster/1", &parts), id: id(cluster, version), version }
    }

    /// As the hub has handed it out: 32 bytes. None for another length.
    pub fn given(secret: &Secret, cluster: &ClusterId, version: u32) -> Option<Self> {
        Some(Self { root: RootKey::of(secret)?, id: id(cluster, version), version })
    }

    /// Those of a cluster that count now, the newest first: with it is signed, with any verified. None when they are revoked.
    pub fn accepted(
        branch: &RootKey,
        cluster: &ClusterId,
        versions: &Versions,
        revoked: &Revoked,
        now: Timestamp,
    ) -> Vec<Self> {
        let permitted = versions.accepted(now).filter(|version| revoked.permits(cluster, *version));
        permitted.map(|version| Self::derive(branch, cluster, version)).collect()
    }

    /// Names cluster and version in a signature, without telling either key or names: `<16 hex digits>-<version>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Which version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// For the member, from which it derives the keys below. Worth all of them.
    pub fn secret(&self) -> Secret {
        self.root.secret()
    }

    /// Between the hub and the cluster, for `X-Zen-Signature` (W-12).
    pub fn link(&self) -> Secret {
        self.purpose("zen/cluster/link/1", &[])
    }

    /// For the requests of the cluster's operator to the hub.
    pub fn agent(&self) -> Secret {
        self.purpose("zen/cluster/agent/1", &[])
    }

    /// Towards one target in the cluster: it can verify with it, and forge for nobody else.
    pub fn destination(&self, key: &ObjectKey) -> Secret {
        self.purpose("zen/cluster/destination/1", &[key.namespace.as_str().as_bytes(), key.name.as_str().as_bytes()])
    }

    fn purpose(&self, label: &str, parts: &[&[u8]]) -> Secret {
        self.root.derived(label, parts).secret()
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn id(cluster: &ClusterId, version: u32) -> String {
    let parts = [cluster.tenant().as_str().as_bytes(), cluster.cluster().as_str().as_bytes()];
    let digest = digest(&SHA256, &info("zen/cluster/id/1", &parts));
    format!("{}-{version}", hex::encode(&digest.as_ref()[..8]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn branch() -> RootKey {
        RootKey::of(&Secret::new([7; 32])).expect("32 bytes").branch("zen/signing")
    }

    fn cluster(text: &str) -> ClusterId {
        text.parse().expect("a cluster")
    }

    /// Computed apart from this code, from RFC 5869 and the form of `info`: a change here would part hub and members.
    #[test]
    fn the_derivation_is_what_it_was() {
        let key = ClusterKey::derive(&branch(), &cluster("team-a/prod-eu"), 3);
        assert_eq!(
            hex::encode(key.link().expose()),
            "d949c3886dd8b943d24cbe50d996f7fa3d0965a854ce9bde252d7b83f928ae3c"
        );
        assert_eq!(
            hex::encode(key.destination(&ObjectKey::new("team-a", "ci")).expose()),
            "98931f9080ce84074cf60cc4322490c05a74e37a8f3b3e0360aebe0155959691"
        );
        assert_eq!(key.id(), "37c8029563476a51-3");
    }

    #[test]
    fn no_two_clusters_versions_purposes_or_branches_share_a_key() {
        let mut keys = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let branches = [branch(), RootKey::of(&Secret::new([7; 32])).expect("32 bytes").branch(AGENT_BRANCH)];
        for branch in &branches {
            for id in ["a/b", "b/a", "a/b.c", "a/bc", "ab/c"] {
                for version in [1, 2, 256] {
                    let key = ClusterKey::derive(branch, &cluster(id), version);
                    let targets = [("a", "b"), ("ab", "c"), ("a", "bc")];
                    let targets = targets.map(|(namespace, name)| key.destination(&ObjectKey::new(namespace, name)));
                    for secret in [key.secret(), key.link(), key.agent()].into_iter().chain(targets) {
                        assert!(keys.insert(secret.expose().to_vec()), "{id} {version}");
                    }
                    ids.insert(key.id().to_owned());
                }
            }
        }
        assert_eq!((keys.len(), ids.len()), (2 * 5 * 3 * 6, 5 * 3));
    }

    #[test]
    fn a_member_derives_what_the_hub_derives() {
        let cluster = cluster("team-a/prod-eu");
        let hub = ClusterKey::derive(&branch(), &cluster, 3);
        let member = ClusterKey::given(&hub.secret(), &cluster, 3).expect("32 bytes");
        let target = ObjectKey::new("team-a", "ci");
        assert!(member.link() == hub.link() && member.destination(&target) == hub.destination(&target));
        assert_eq!((member.id(), member.version()), (hub.id(), 3));
        assert!(ClusterKey::given(&Secret::new([7; 31]), &cluster, 3).is_none());
    }

    #[test]
    fn an_id_is_a_token_of_a_signature_and_nothing_is_shown() {
        let key = ClusterKey::derive(&branch(), &cluster(&format!("a/{}", "b".repeat(253))), u32::MAX);
        assert!(key.id().len() <= 32 && key.id().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        let shown = format!("{key:?}");
        assert!(shown.contains(key.id()) && !shown.contains(&hex::encode(key.secret().expose())), "{shown}");
    }

    /// Through a rotation: what was signed before verifies for the overlap, and what is revoked at once never again.
    #[test]
    fn what_is_accepted_when() {
        let (cluster, other) = (cluster("team-a/eu"), cluster("team-b/eu"));
        let start = Timestamp::from_secs(1000);
        let rotated = Versions::first(start).rotate(start.plus(HOUR), 2 * HOUR).expect("rotated");
        let ids = |versions: &Versions, revoked: &Revoked, at: Timestamp| {
            let keys = ClusterKey::accepted(&branch(), &cluster, versions, revoked, at);
            keys.iter().map(ClusterKey::version).collect::<Vec<_>>()
        };
        let none = Revoked::default();
        let mut gone = Revoked::default();
        gone.revoke(cluster.clone(), Revocation::All);
        let mut leaked = Revoked::default();
        leaked.revoke(cluster.clone(), Revocation::Below(2));
        let mut elsewhere = Revoked::default();
        elsewhere.revoke(other, Revocation::All);
        for (what, versions, revoked, at, expected) in [
            ("the first", &Versions::first(start), &none, start, vec![1]),
            ("in the overlap", &rotated, &none, start.plus(2 * HOUR), vec![2, 1]),
            ("the overlap's end", &rotated, &none, start.plus(3 * HOUR), vec![2]),
            ("disabled", &rotated, &gone, start.plus(2 * HOUR), vec![]),
            ("the old one leaked", &rotated, &leaked, start.plus(2 * HOUR), vec![2]),
            ("a namesake disabled", &rotated, &elsewhere, start.plus(2 * HOUR), vec![2, 1]),
        ] {
            assert_eq!(ids(versions, revoked, at), expected, "{what}");
        }
    }
}
