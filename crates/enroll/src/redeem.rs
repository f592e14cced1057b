//! What a member sends to redeem a bundle, and what it gets: JSON over TLS 1.3.

use serde::{Deserialize, Serialize};
use zen_model::{ClusterId, Timestamp};

use crate::bundle::Opened;
use crate::proof::{Proof, Request};
use crate::{Certificate, Given, SecretText, Stamp};

/// The most bytes of a request's body.
pub const MAX_BODY: usize = 32 << 10;
/// Key id of the proof: the bundle's own key.
pub(crate) const KEY_ID: &str = "bundle";

/// `POST` [`path`], with a [`Proof`] in its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redeem {
    /// The hub that the bundle is of.
    pub trust_domain: String,
    /// Who the member will be.
    pub cluster: ClusterId,
    /// Which bundle it redeems.
    pub stamp: Stamp,
    /// What only its holder knows.
    pub credential: SecretText,
    /// For the key of the member's issuing CA: PKCS #10 in PEM, of [`zen_pki::issuer_request`].
    pub csr: String,
}

/// What a member gets for its bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Its issuing CA.
    pub issued: Certificate,
    /// All else that a member has of the hub.
    pub given: Given,
}

/// Where a cluster's bundle is redeemed.
pub fn path(cluster: &ClusterId) -> String {
    format!("/v1/enrollments/{cluster}")
}

impl Redeem {
    /// For a bundle that was opened, with the signing request that was made for it.
    pub fn new(opened: &Opened, csr: String) -> Self {
        Self {
            trust_domain: opened.clear.trust_domain.clone(),
            cluster: opened.cluster.clone(),
            stamp: opened.stamp.clone(),
            credential: SecretText(opened.secrets.credential.clone()),
            csr,
        }
    }

    /// Body and header to be sent. The body holds the credential.
    pub fn prove(&self, opened: &Opened, now: Timestamp) -> Result<(Vec<u8>, Proof), serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let request = Request { method: "POST", path: &path(&self.cluster), body: &body };
        let proof = Proof::sign(&request, KEY_ID, &opened.secrets.key, now);
        Ok((body, proof))
    }
}
