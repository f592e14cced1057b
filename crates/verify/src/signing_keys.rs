//! The keys that events are signed with, all derived from one root (W-12, T-06).

use zen_model::{ObjectKey, Secret};

use crate::zen_signature::{self, Keys};

/// Label of the branch of the mesh's root key that [`SigningKeys`] are derived from.
pub const BRANCH: &str = "zen/signing";
/// Version of every derived key, and its id in signatures. A rotation adds a version.
pub const VERSION: &str = "1";

/// The root of the signing keys. Ingester and egress both have it; a target has one derived key.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    root: Secret,
}

impl SigningKeys {
    /// Derived from 32 secret bytes: the branch [`BRANCH`] of the mesh's root key, of which the data keys are another.
    pub fn new(branch: Secret) -> Self {
        Self { root: branch }
    }

    /// What they are derived from, for the keys of member clusters, which have a derivation of their own (T-06).
    pub fn branch(&self) -> &Secret {
        &self.root
    }

    /// Between ingester and egress of one mesh.
    pub fn link(&self) -> Keys {
        ring(self.derive(&format!("zen/link/*/local/{VERSION}")))
    }

    /// Towards one target: it can verify with it, and forge for nobody else.
    pub fn destination(&self, key: &ObjectKey) -> Keys {
        ring(self.destination_key(key))
    }

    /// The key of [`SigningKeys::destination`] itself, for whoever administers the target.
    pub fn destination_key(&self, key: &ObjectKey) -> Secret {
        self.derive(&format!("zen/destination/{}/{}/{VERSION}", key.namespace, key.name))
    }

    fn derive(&self, info: &str) -> Secret {
        zen_signature::derive(&self.root, info)
    }
}

fn ring(key: Secret) -> Keys {
    Keys::new(vec![(VERSION.to_owned(), key)]).expect("one derived key of 32 bytes with a sound id is a key ring")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zen_model::Timestamp;

    use super::*;

    #[test]
    fn a_target_verifies_its_own_events_only() {
        let signing = SigningKeys::new(Secret::new([7; 32]));
        let (ci, audit) = (ObjectKey::new("team-a", "ci"), ObjectKey::new("team-a", "audit"));
        let now = Timestamp::now();
        let value = signing.destination(&ci).sign("e1", &[7; 32], now);
        let tolerance = Duration::from_mins(5);
        assert!(signing.destination(&ci).verify(&value, "e1", &[7; 32], now, tolerance).is_ok());
        assert!(signing.destination(&audit).verify(&value, "e1", &[7; 32], now, tolerance).is_err());
        assert!(signing.link().verify(&value, "e1", &[7; 32], now, tolerance).is_err());
    }
}
