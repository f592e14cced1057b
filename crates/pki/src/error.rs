//! What can go wrong with keys and certificates.

use std::path::PathBuf;

use zen_model::Timestamp;

use crate::{Scope, SpiffeId, TrustDomain};

/// A key, a certificate or the folder that keeps them cannot be used. No variant holds key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A private key that others may read is no longer private.
    #[error(
        "failed to accept {path}: its mode is {mode:04o}, others may read it; run chmod 600 on it, or remove ca.key and ca.crt to begin a new CA"
    )]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What was read is not what it should be.
    #[error("failed to use {what}: {reason}")]
    Malformed {
        /// A path, or words for material that came from elsewhere.
        what: String,
        /// Why, and what to do where that is known.
        reason: String,
    },
    /// The CA's time is over: nothing that it issues would verify.
    #[error(
        "failed to use {what}: the CA expired at {at}; remove its key and certificate (in a folder: remove ca.key and ca.crt) to begin a new one, and give clients the new certificate"
    )]
    Expired {
        /// The CA.
        what: String,
        /// When.
        at: Timestamp,
    },
    /// A name that no certificate can carry.
    #[error("failed to issue a certificate for {name:?}: it is neither a DNS name nor an IP address")]
    Name {
        /// The name.
        name: String,
    },
    /// An id that this CA, or this identity, must not take.
    #[error("failed to use {id}: not a workload of {expected}")]
    Foreign {
        /// The id.
        id: SpiffeId,
        /// The trust domain that it should lie in, or the id that was expected.
        expected: Expected,
    },
    /// Signing or encoding failed.
    #[error("failed to issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// rustls does not accept the material.
    #[error("failed to prepare TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What an id was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any workload of this trust domain.
    Domain(TrustDomain),
    /// Exactly this id.
    Id(SpiffeId),
    /// Any workload that an issuing CA of this scope vouches for.
    Scope(Scope),
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => write!(f, "trust domain {domain}"),
            Self::Id(id) => write!(f, "identity {id}"),
            Self::Scope(scope) => write!(f, "{scope}"),
        }
    }
}
