//! Which clusters' keys count no more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zen_model::ClusterId;

/// What was revoked. What stands in here never counts, whatever versions an enrollment's state still has: the two come by
/// different ways, and the stricter wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revoked(BTreeMap<ClusterId, Revocation>);

/// How much of a cluster's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Revocation {
    /// All, also those that are yet to be made: its enrollment is disabled or gone.
    All,
    /// Every version below this one: they leaked, or are of a time before it was disabled.
    Below(u32),
}

impl Revoked {
    /// Adds; what is revoked already stays so.
    pub fn revoke(&mut self, cluster: ClusterId, revocation: Revocation) {
        let stricter = match (self.0.get(&cluster), revocation) {
            (Some(Revocation::All), _) | (_, Revocation::All) => Revocation::All,
            (Some(Revocation::Below(before)), Revocation::Below(version)) => Revocation::Below(version.max(*before)),
            (None, below) => below,
        };
        self.0.insert(cluster, stricter);
    }

    /// A cluster that was disabled is let in again, with keys that are made from now on: `next` is the first of them.
    pub fn restore(&mut self, cluster: ClusterId, next: u32) {
        let next = match self.0.get(&cluster) {
            Some(Revocation::Below(before)) => next.max(*before),
            _ => next,
        };
        self.0.insert(cluster, Revocation::Below(next));
    }

    /// Whether a key still counts.
    pub fn permits(&self, cluster: &ClusterId, version: u32) -> bool {
        match self.0.get(cluster) {
            None => true,
            Some(Revocation::All) => false,
            Some(Revocation::Below(first)) => version >= *first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_stays_revoked() {
        let cluster: ClusterId = "team-a/eu".parse().expect("a cluster");
        let mut revoked = Revoked::default();
        let permitted = |revoked: &Revoked| [1, 2, 3, 9].map(|version| revoked.permits(&cluster, version));
        assert_eq!(permitted(&revoked), [true, true, true, true]);
        revoked.revoke(cluster.clone(), Revocation::Below(3));
        assert_eq!(permitted(&revoked), [false, false, true, true]);
        revoked.revoke(cluster.clone(), Revocation::Below(2));
        assert_eq!(permitted(&revoked), [false, false, true, true]);
        revoked.revoke(cluster.clone(), Revocation::All);
        revoked.revoke(cluster.clone(), Revocation::Below(9));
        assert_eq!(permitted(&revoked), [false, false, false, false]);
        assert!(revoked.permits(&"team-b/eu".parse().expect("a cluster"), 1));
        let text = serde_json::to_string(&revoked).expect("written");
        assert_eq!(text, r#"{"team-a/eu":"all"}"#);
        assert_eq!(serde_json::from_str::<Revoked>(&text).expect("read"), revoked);
        revoked.restore(cluster.clone(), 4);
        assert_eq!(permitted(&revoked), [false, false, false, true]);
        revoked.restore(cluster.clone(), 2);
        assert_eq!(permitted(&revoked), [false, false, false, true], "nothing older comes back");
        assert_eq!(serde_json::to_string(&revoked).expect("written"), r#"{"team-a/eu":{"below":4}}"#);
    }
}
