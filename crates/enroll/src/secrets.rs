//! Credential and HMAC key of a bundle. They are derived from a branch of the hub's root key and from what the bundle was made
//! for, so that the hub stores neither: any replica knows them after any restart, and nobody can read them in etcd. Void
//! bundles can still be told from forged ones, because their keys can be derived as well.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zen_model::{ClusterId, Secret};
use zen_seal::RootKey;

use crate::Stamp;

/// Branch of the root key that they come from; the planes never have it.
pub const BRANCH: &str = "zen/enroll";

/// What only the holder of a bundle knows.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Shown once, when the bundle is redeemed.
    pub credential: Secret,
    /// Signs that request. Never sent.
    pub key: Secret,
}

impl Secrets {
    /// Of the bundle of this cluster and stamp, from the branch [`BRANCH`] of the hub's root key.
    pub fn derive(branch: &RootKey, cluster: &ClusterId, stamp: &Stamp) -> Self {
        let issued_at = stamp.issued_at.0.to_be_bytes();
        let parts: [&[u8]; 5] = [
            cluster.tenant().as_str().as_bytes(),
            cluster.cluster().as_str().as_bytes(),
            stamp.uid.as_bytes(),
            stamp.bundle.as_bytes(),
            &issued_at,
        ];
        let secret = |label| Secret::new(branch.derive(label, &parts).to_vec());
        Self { credential: secret("zen/enroll/credential/1"), key: secret("zen/enroll/hmac/1") }
    }

    /// Whether this is the credential, in constant time.
    pub fn is_credential(&self, shown: &Secret) -> bool {
        verify_slices_are_equal(self.credential.expose(), shown.expose()).is_ok()
    }
}
