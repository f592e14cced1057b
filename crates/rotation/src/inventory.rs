//! What stands in the ConfigMap `zen-mesh-certificates`: every certificate of the mesh, for `kubectl zen certs`. Public parts
//! alone: whoever may read ConfigMaps of the release namespace needs no other right.

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;

/// ConfigMap of the release namespace.
pub const CONFIG_MAP: &str = "zen-mesh-certificates";
/// Its key.
pub const CERTIFICATES: &str = "certificates.json";

/// Every certificate that the leader knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Roots first, then what is below.
    pub certificates: Vec<Certificate>,
}

/// One certificate, as it was met last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// What it is.
    pub kind: Kind,
    /// Where it is: an object, or the pod that presents it.
    pub name: String,
    /// SHA-256 of its DER, hexadecimal.
    pub fingerprint: String,
    /// The same of what signed it, where that is no root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
    /// How it stands.
    pub state: Standing,
}

/// What a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Of the trust bundle.
    Root,
    /// An issuing CA.
    Issuer,
    /// What a server presents to who knows it by its name.
    Serving,
    /// What a pod presents to others.
    Workload,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// In use.
    InUse,
    /// It comes in place of another.
    Next,
    /// From an issuing CA that is exchanged.
    Old,
}

impl Kind {
    /// As people read it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
            Self::Serving => "serving",
            Self::Workload => "workload",
        }
    }
}

impl Standing {
    /// As people read it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Next => "next",
            Self::Old => "old",
        }
    }
}
