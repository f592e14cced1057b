//! What a member has of its hub: issuing CA, trust bundle, keys, and where the hub is reached.

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;

use crate::SecretText;

/// A member's issuing CA. The key to it was made in the member and never leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The issuing CA and those above it up to below the root, PEM.
    pub chain: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What the hub may change at any time, and the member follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// The trust bundle, PEM.
    pub roots: String,
    /// The versions of the cluster's keys that the hub accepts, the newest first; never empty.
    pub keys: Vec<Keys>,
    /// Where the egress leases, `host:port`. None: the hub takes no streams of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Fingerprint of the root beneath which the cluster's issuing CA is to be: who holds one beneath another asks for a new one
    /// (T-04). None: beneath which it is makes no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// One version of a cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// Rises with each rotation.
    pub version: u32,
    /// [`zen_seal::cluster::ClusterKey::secret`] of the signing branch: for the planes.
    pub link_key: SecretText,
    /// The same of the branch [`zen_seal::cluster::AGENT_BRANCH`]: for the operator alone.
    pub agent_key: SecretText,
}
