//! Data at rest: AES-256-GCM envelopes under versioned data keys, which one root key wraps.
//!
//! [`Keyring`] seals and opens records; [`RootKey`] is the one file that must be kept safe and backed up apart from the
//! data. Everything sealed names its key, so that a rotation needs no rewriting: new records use the new key, old ones
//! still open.
//!
//! [`cluster`] holds what members of the mesh are given of such a root key (T-06).

pub mod cluster;
mod envelope;
mod file;
mod ring;
mod root;
pub mod wrap;

pub use envelope::{Aad, OVERHEAD, VERSION};
pub use ring::Keyring;
pub use ring::stored::parse as parse_ring;
pub use root::RootKey;

/// A key file cannot be used, or a sealed record does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a key file failed.
    #[error("failed to {action} the key file {path}")]
    File {
        /// What was tried: `read`, `create` or `replace`.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Others may read a key file.
    #[error("the key file {path} has mode {mode:03o}: others can read it; run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file that must be there is not.
    #[error("the key file {path} does not exist")]
    Missing {
        /// The file.
        path: String,
    },
    /// A key file does not hold what it should.
    #[error("the key file {path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong, without key material.
        reason: &'static str,
    },
    /// The data keys were wrapped by another root key.
    #[error("the data keys in {path} do not open with this root key; restore the root key that belongs to them")]
    WrongRoot {
        /// The file with the wrapped data keys.
        path: String,
    },
    /// A record was sealed with a key that the ring does not hold.
    #[error("the record was sealed with data key {0}, which is not in the key ring")]
    UnknownKey(u32),
    /// A record was changed, belongs elsewhere, or is cut.
    #[error("the sealed record does not open: it was changed, cut or moved")]
    Tampered,
    /// A newer program wrote the record.
    #[error("the sealed record has version {0}, which this program does not know")]
    UnknownVersion(u8),
}
