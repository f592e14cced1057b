//! The branches of the root key that enrollment works with. They are derived when they are needed, and nothing of them is
//! stored.

use k8s_openapi::api::core::v1::Secret;
use zen_enroll::{Keys, SecretText, secrets};
use zen_model::ClusterId;
use zen_seal::RootKey;
use zen_seal::cluster::{AGENT_BRANCH, ClusterKey};
use zen_verify::signing_keys;

use crate::names;

/// What of the root key is needed, and no more.
#[derive(Debug)]
pub(super) struct Branches {
    /// Credentials and keys of bundles.
    pub(super) enroll: RootKey,
    /// Requests of members.
    pub(super) agent: RootKey,
    signing: RootKey,
}

impl Branches {
    /// From the Secret `zen-mesh-root`; in words why there are none.
    pub(super) fn of(secret: Option<&Secret>) -> Result<Self, String> {
        let secret = secret.ok_or_else(|| format!("the Secret {} is not there yet", names::ROOT))?;
        let text = secret.data.as_ref().and_then(|data| data.get(names::ROOT_KEY));
        let text = text.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        let root = text.and_then(|text| RootKey::from_text(text).ok());
        let root = root.ok_or_else(|| format!("the Secret {} holds no root key", names::ROOT))?;
        Ok(Self::derive(&root))
    }

    pub(super) fn derive(root: &RootKey) -> Self {
        let branch = |label| root.branch(label);
        Self { enroll: branch(secrets::BRANCH), agent: branch(AGENT_BRANCH), signing: branch(signing_keys::BRANCH) }
    }

    /// What a member is given of a version of its keys.
    pub(super) fn keys(&self, cluster: &ClusterId, version: u32) -> Keys {
        let secret = |branch| SecretText(ClusterKey::derive(branch, cluster, version).secret());
        Keys { version, link_key: secret(&self.signing), agent_key: secret(&self.agent) }
    }
}
