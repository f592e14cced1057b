//! What pods and planes say to the unseal API: JSON over TLS 1.3, with `Authorization: Bearer <token>`, audience
//! [`AUDIENCE`], or a workload certificate of the mesh.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zen_model::Secret;

/// Audience of the tokens that the unseal API takes, and no other.
pub const AUDIENCE: &str = "zen-mesh-unseal";
/// `POST`: [`Request`] → [`Answer`].
pub const UNSEAL: &str = "/v1/unseal";
/// `POST`: [`Batch`] → [`BatchAnswer`]; planes only.
pub const BATCH: &str = "/v1/unseal/batch";
/// `GET`, query [`Poll`] → [`Changed`]: waits for a change.
pub const WATCH: &str = "/v1/unseal/watch";
/// `GET` → the public keys, one a line, the newest first.
pub const RECIPIENTS: &str = "/v1/recipients";
/// The most bytes of a request's body.
pub const MAX_BODY: usize = 64 << 10;
/// The most ZenLocks of one request.
pub const MAX_LOCKS: usize = 64;
/// The most bytes of a batch's body.
pub const MAX_BATCH_BODY: usize = 512 << 10;
/// The most uses of one batch.
pub const MAX_BATCH: usize = 256;
/// The most ZenLocks of one batch: all that are opened are in memory at one time, on both sides.
pub const MAX_BATCH_LOCKS: usize = 16;
/// The longest that a poll waits, seconds.
pub const MAX_WAIT: u64 = 60;

/// Asks for plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Which ZenLocks.
    pub locks: Vec<LockRef>,
    /// On behalf of which object; planes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

/// Names a ZenLock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LockRef {
    /// Of the pod's own namespace.
    Own(String),
    /// Of any namespace; for a pod it must be its own.
    Full {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// An object of the mesh that uses a ZenLock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `Webhook` or `Destination`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Plaintext. Every value of it is wiped when it is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// In the order of the request.
    pub locks: Vec<Unsealed>,
}

/// One ZenLock, open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsealed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.resourceVersion` of what was opened.
    pub resource_version: String,
    /// Its keys; values in base64 on the wire.
    #[serde(deserialize_with = "values")]
    pub data: BTreeMap<String, Secret>,
}

/// Asks for plaintext on behalf of many objects. Each use is judged and audited by itself; the refusal of one is none of the
/// others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// Who uses what.
    pub uses: Vec<Use>,
}

/// An object that uses a ZenLock of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// The object.
    pub subject: Subject,
    /// Name of the ZenLock.
    pub lock: String,
}

/// The answer to [`Batch`]. Every value of it is wiped when it is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BatchAnswer {
    /// Each ZenLock that one of the objects may have, once.
    pub locks: Vec<PartlyUnsealed>,
    /// In the order of the request: nothing where the object may have it, else why not.
    pub verdicts: Vec<Option<Verdict>>,
}

/// One ZenLock, open as far as the keys of the mesh open it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartlyUnsealed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.resourceVersion` of what was opened.
    pub resource_version: String,
    /// Its keys that could be opened; values in base64 on the wire.
    #[serde(deserialize_with = "values")]
    pub data: BTreeMap<String, Secret>,
    /// Its other keys: a code of [`zen_model::LockReason`].
    #[serde(default)]
    pub failed: BTreeMap<String, String>,
}

/// Why an object does not get a ZenLock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// A code of [`zen_model::reason::LockRefusal`].
    pub code: String,
    /// For people.
    pub message: String,
}

/// Asks for news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// `NAME=RESOURCEVERSION`, joined by commas: what the pod has.
    pub have: String,
    /// Seconds to wait while there is nothing newer, at most [`MAX_WAIT`].
    #[serde(default)]
    pub wait: u64,
}

/// The answer to [`Poll`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// ZenLocks that are newer than what the pod has.
    pub changed: Vec<String>,
}

/// Every refusal's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A code of [`zen_model::reason::LockRefusal`].
    pub code: String,
    /// For people.
    pub message: String,
    /// Names the request in the server's log.
    pub request_id: String,
}

/// Text that is wiped.
#[derive(Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
struct Text(String);

fn values<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let map: BTreeMap<String, Text> = Deserialize::deserialize(deserializer)?;
    let decode = |(key, text): (String, Text)| {
        // The decoder's own error names a byte of the value.
        let value = STANDARD.decode(&text.0).map_err(|_| serde::de::Error::custom("a value is not base64"))?;
        Ok((key, Secret::new(value)))
    };
    map.into_iter().map(decode).collect()
}
