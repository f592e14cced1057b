//! `X-Zen-Signature`: `v=1,t=<unix seconds>,n=<nonce>,k=<key id>,s=<base64url HMAC-SHA256>` over
//! `1.<t>.<n>.<k>.<event id>.<SHA-256 of the body, hex>` (W-12).

use zen_model::{Secret, Timestamp};

/// A key ring: signs with the newest key, verifies with any.
#[derive(Debug)]
pub struct Keys {
    _owner: (),
}

impl Keys {
    /// Keys newest first, each with its id (`[A-Za-z0-9_-]`, at most 32).
    pub fn new(keys: Vec<(String, Secret)>) -> Self {
        let _ = keys;
        todo!()
    }

    /// The header's value for an event. A fresh random nonce each time.
    pub fn sign(&self, event_id: &str, content_hash: &[u8], now: Timestamp) -> String {
        let _ = (event_id, content_hash, now);
        todo!()
    }

    /// Checks a value against the event. `tolerance` bounds the age both ways.
    pub fn verify(
        &self,
        value: &str,
        event_id: &str,
        content_hash: &[u8],
        now: Timestamp,
        tolerance: std::time::Duration,
    ) -> Result<(), Error> {
        let _ = (value, event_id, content_hash, now, tolerance);
        todo!()
    }
}

/// Why a signature does not verify. For logs by label only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the signature is malformed")]
    Malformed,
    #[error("the signature names an unknown key")]
    UnknownKey,
    #[error("the signature is too old or from the future")]
    Stale,
    #[error("the signature does not match")]
    Mismatch,
}

/// The key of one purpose, derived from the mesh's root key with HKDF-SHA256 (T-06). `info` for the link:
/// `zen/link/<tenant or *>/<cluster>/<version>`; for a target: `zen/destination/<namespace>/<name>/<version>`.
pub fn derive(root: &Secret, info: &str) -> Secret {
    let _ = (root, info);
    todo!()
}
