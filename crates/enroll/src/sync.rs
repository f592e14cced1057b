//! What an enrolled member asks of its hub, again and again: what changed, and a new certificate in time. JSON over mutual
//! TLS 1.3 with the identity of the member's operator, and a [`Proof`] with the newest agent key that it holds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zen_model::{ClusterId, Secret, Timestamp};

use crate::proof::{Proof, Request};
use crate::{Certificate, Given};

/// `POST` [`sync_path`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sync {
    /// Who asks; the same as in the path and in the certificate.
    pub cluster: ClusterId,
    /// For the key of its issuing CA, when that is to be renewed: PKCS #10 in PEM, of [`zen_pki::issuer_request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// What the cluster has. A hub that says no [`Given::root`] does not ask, and is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Holds>,
}

/// What a cluster has of what the hub gave, by fingerprint: what is exchanged waits for it (T-04).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holds {
    /// The roots that its pods are given to trust.
    pub roots: BTreeSet<String>,
    /// Its issuing CA in use.
    pub issuer: String,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synced {
    /// For the signing request, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Certificate>,
    /// What the hub gives now.
    pub given: Given,
}

/// Where a member asks.
pub fn sync_path(cluster: &ClusterId) -> String {
    format!("/v1/clusters/{cluster}/sync")
}

impl Sync {
    /// Body and header to be sent. `key_id` is [`zen_seal::cluster::ClusterKey::id`] of the key's version, `key` its
    /// [`zen_seal::cluster::ClusterKey::agent`].
    pub fn prove(&self, key_id: &str, key: &Secret, now: Timestamp) -> Result<(Vec<u8>, Proof), serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let request = Request { method: "POST", path: &sync_path(&self.cluster), body: &body };
        let proof = Proof::sign(&request, key_id, key, now);
        Ok((body, proof))
    }
}
