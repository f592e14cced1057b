//! The keys that events are signed with (W-12, T-06), all derived from one root, in the versions that count now.
//!
//! A rotation adds a version: another derivation from the same root, so that whoever has one derived key of an older version
//! learns nothing of a newer one. The root stays.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use zen_model::signing::Versions;
use zen_model::{ObjectKey, Secret};

use crate::zen_signature::{self, Keys};

/// Label of the branch of the mesh's root key that [`SigningKeys`] are derived from.
pub const BRANCH: &str = "zen/signing";

/// The root of the signing keys. Ingester and egress both have it; a target has one derived key. Clones follow each other.
#[derive(Clone)]
pub struct SigningKeys {
    root: Secret,
    shared: Arc<Shared>,
}

struct Shared {
    /// Who signs.
    pod: Box<str>,
    versions: ArcSwap<Versions>,
    link: Arc<Keys>,
}

impl SigningKeys {
    /// Derived from 32 secret bytes: the branch [`BRANCH`] of the mesh's root key, of which the data keys are another. In version 1
    /// alone.
    pub fn new(branch: Secret) -> Self {
        Self::of_pod(branch, "", Versions::default())
    }

    /// As [`SigningKeys::new`], of the pod of this name, in these versions.
    pub fn of_pod(branch: Secret, pod: &str, versions: Versions) -> Self {
        let link = Arc::new(link(&branch, &versions.link(pod)));
        Self {
            root: branch,
            shared: Arc::new(Shared { pod: pod.into(), versions: ArcSwap::from_pointee(versions), link }),
        }
    }

    /// What they are derived from, for the keys of member clusters, which have a derivation of their own (T-06).
    pub fn branch(&self) -> &Secret {
        &self.root
    }

    /// The versions that count.
    pub fn versions(&self) -> Arc<Versions> {
        self.shared.versions.load_full()
    }

    /// At the link: the version that this pod signs with, then those that it verifies beside it.
    pub fn at_link(&self) -> Vec<u32> {
        self.versions().link(&self.shared.pod)
    }

    /// These count from now on. The ring of [`SigningKeys::link`] follows at once; whoever was given keys of a target has to ask
    /// for them again, where this says that they are others.
    pub fn apply(&self, versions: Versions) -> bool {
        self.shared.link.replace(&link(&self.root, &versions.link(&self.shared.pod)));
        let targets = versions.targets();
        self.shared.versions.swap(Arc::new(versions)).targets() != targets
    }

    /// Between ingester and egress of one mesh.
    pub fn link(&self) -> Arc<Keys> {
        Arc::clone(&self.shared.link)
    }

    /// Towards one target: it can verify with it, and forge for nobody else. Signs with each version that counts.
    ///
    /// # Panics
    /// Never: derived keys with their versions for ids are a key ring.
    pub fn destination(&self, key: &ObjectKey) -> Keys {
        let versions = self.versions().targets();
        let keys = versions.iter().map(|version| (version.to_string(), self.destination_key(key, *version)));
        Keys::signing_with_each(keys.collect()).expect(RING)
    }

    /// One key of [`SigningKeys::destination`] itself, for whoever administers the target.
    pub fn destination_key(&self, key: &ObjectKey, version: u32) -> Secret {
        zen_signature::derive(&self.root, &format!("zen/destination/{}/{}/{version}", key.namespace, key.name))
    }
}

/// Why there is no other way.
const RING: &str = "derived keys of 32 bytes, at least one, each with its version for an id, are a key ring";

fn link(root: &Secret, versions: &[u32]) -> Keys {
    let derive = |version: &u32| zen_signature::derive(root, &format!("zen/link/*/local/{version}"));
    Keys::new(versions.iter().map(|version| (version.to_string(), derive(version))).collect()).expect(RING)
}

/// No key.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("versions", &self.shared.versions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zen_model::Timestamp;
    use zen_model::signing::{Next, Older, Signers};

    use super::*;

    const TOLERANCE: Duration = Duration::from_mins(5);

    #[test]
    fn a_target_verifies_its_own_events_only() {
        let signing = SigningKeys::new(Secret::new([7; 32]));
        let (ci, audit) = (ObjectKey::new("team-a", "ci"), ObjectKey::new("team-a", "audit"));
        let now = Timestamp::now();
        let value = signing.destination(&ci).sign("e1", &[7; 32], now);
        assert!(signing.destination(&ci).verify(&value, "e1", &[7; 32], now, TOLERANCE).is_ok());
        assert!(signing.destination(&audit).verify(&value, "e1", &[7; 32], now, TOLERANCE).is_err());
        assert!(signing.link().verify(&value, "e1", &[7; 32], now, TOLERANCE).is_err());
    }

    const fn next(version: u32, signers: Signers) -> Next {
        Next { version, signers }
    }

    /// W-12: through a rotation each ingester's signature is taken by each egress, and each target with either key takes what it
    /// is sent, in whatever order the pods come to know of a step.
    #[test]
    fn neighbouring_steps_of_a_rotation_understand_each_other() {
        let canary = Signers::Pods(["a".to_owned()].into());
        let before = Versions::default();
        let older = vec![Older { version: 1, until: Timestamp(9) }];
        let after = Versions { current: 2, next: None, older };
        let steps = [
            before.clone(),
            Versions { next: Some(next(2, Signers::Nobody)), ..before.clone() },
            Versions { next: Some(next(2, canary)), ..before.clone() },
            Versions { next: Some(next(2, Signers::Everybody)), ..before.clone() },
            after.clone(),
            Versions { older: Vec::new(), ..after },
        ];
        let of = |pod: &str, versions: &Versions| SigningKeys::of_pod(Secret::new([7; 32]), pod, versions.clone());
        let (now, target) = (Timestamp::now(), ObjectKey::new("team-a", "ci"));
        for pair in steps.windows(2) {
            for (ingester, egress) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                for pod in ["a", "b"] {
                    let value = of(pod, ingester).link().sign("e", &[7; 32], now);
                    let taken = of("e", egress).link().verify(&value, "e", &[7; 32], now, TOLERANCE);
                    assert_eq!(taken, Ok(()), "{pod} {ingester:?} → {egress:?}");
                }
            }
        }
        for (at, step) in steps.iter().enumerate() {
            let signed = of("e", step).destination(&target).sign("e", &[7; 32], now);
            let with = |version: u32| {
                let key = (version.to_string(), of("", step).destination_key(&target, version));
                Keys::new(vec![key]).expect(RING).verify(&signed, "e", &[7; 32], now, TOLERANCE)
            };
            // Old from the first step to the end of the overlap, new from when it is shown.
            assert_eq!((with(1).is_ok(), with(2).is_ok()), (at < 5, at > 0), "{step:?}");
        }
        // Two steps apart they need not: what is trusted before it is used, and used no more before it is distrusted.
        let value = of("a", &steps[3]).link().sign("e", &[7; 32], now);
        assert_eq!(
            of("e", &steps[0]).link().verify(&value, "e", &[7; 32], now, TOLERANCE),
            Err(zen_signature::Error::UnknownKey)
        );
    }

    #[test]
    fn a_ring_that_was_given_away_follows() {
        let signing = SigningKeys::of_pod(Secret::new([7; 32]), "a", Versions::default());
        let (link, clone, now) = (signing.link(), signing.clone(), Timestamp::now());
        let sends = |version: u32| link.sign("e", &[7; 32], now).contains(&format!("k={version},"));
        assert!(sends(1));
        let trusted = Versions { next: Some(next(2, Signers::Nobody)), ..Versions::default() };
        assert!(clone.apply(trusted), "targets get another signature");
        assert!(sends(1));
        let canary = Versions { next: Some(next(2, Signers::Pods(["a".to_owned()].into()))), ..Versions::default() };
        assert!(!clone.apply(canary), "and go on so");
        assert!(sends(2));
        assert_eq!(signing.at_link(), [2, 1]);
        assert!(!format!("{signing:?}").contains("root"));
    }
}
