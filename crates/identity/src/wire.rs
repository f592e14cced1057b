//! What a pod and the operator's identity service say to each other: JSON over TLS 1.3, with
//! `Authorization: Bearer <ServiceAccount token>`.

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_model::reason::TrustRefusal;

/// Audience of the tokens that the service takes, and no other.
pub const AUDIENCE: &str = "zen-mesh-identity";
/// `GET` → [`Who`].
pub const IDENTITY: &str = "/v1/identity";
/// `POST`: [`CertificateRequest`] → [`Certificate`].
pub const CERTIFICATES: &str = "/v1/certificates";
/// The most bytes of a request's body: a signing request as JSON.
pub const MAX_BODY: usize = 32 << 10;

/// Who the pod is, and what it may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// The only name that a workload certificate's request may have.
    pub spiffe_id: String,
    /// The names that a serving certificate's request must have, all of them and no other; empty: it gets none.
    #[serde(default)]
    pub serving_names: Vec<String>,
    /// Lifetime of its certificates.
    pub lifetime_seconds: u64,
    /// The issuing CA that its certificates are to be from, as [`zen_pki::fingerprint`] has it: who holds one from another
    /// asks for a new one (T-04). None: from whom they are makes no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When its serving certificate was issued at the earliest: who holds one from before asks for a new one (T-04). None: its age
    /// makes no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_since: Option<Timestamp>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Mutual TLS among our own parts: the SPIFFE id alone.
    Workload,
    /// A server for others, by DNS names: the intake, the aggregated API.
    Serving,
}

impl Usage {
    /// Stable label for logs, metrics and file names.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Serving => "serving",
        }
    }
}

/// Asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRequest {
    /// PKCS #10, PEM.
    pub csr: String,
    /// What it is for.
    pub usage: Usage,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The leaf and its issuers up to below the root, PEM.
    pub chain: String,
    /// The trust bundle, PEM.
    pub roots: String,
    /// When the leaf ends.
    pub not_after: Timestamp,
}

/// Every refusal's body, of this service and of the control API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A code of [`TrustRefusal`].
    pub code: String,
    /// For people; nothing of the token or the request.
    pub message: String,
    /// Names the request in the server's log.
    pub request_id: String,
}

impl Refused {
    /// The body for a reason, with the words of the table.
    pub fn new(reason: TrustRefusal, request_id: &str) -> Self {
        let row = reason.row();
        Self { code: row.code.to_owned(), message: row.meaning.to_owned(), request_id: request_id.to_owned() }
    }
}
