//! `ZenLock`'s ciphertext: age v1 files in ASCII armour, each sealed to X25519 public keys (Z-01, Z-06).
//!
//! The format is the age project's (<https://age-encryption.org/v1>), read and written by the `age` crate: what the
//! public `age` tool writes opens here, and what is sealed here it opens. This crate adds what a mesh needs of it: the
//! limits, which key opened something, what can be said without any key, and errors that name no secret.
//!
//! No I/O: callers hand in texts and get texts.

mod dotenv;
mod identity;
mod inspect;
pub mod manifest;
mod open;
mod recipient;
mod seal;
pub mod wire;

pub use dotenv::{DotenvError, dotenv};
pub use identity::{Identity, IdentityError};
pub use inspect::{Header, Stanza, inspect};
pub use open::{Keyring, OpenError, Opened};
pub use recipient::{Recipient, RecipientError};
pub use seal::{SealError, seal};

/// The longest plaintext of one key, in bytes: what a Kubernetes Secret may hold in all.
pub const MAX_PLAINTEXT: usize = 1 << 20;
/// The most keys of one `ZenLock`.
pub const MAX_KEYS: usize = 64;
/// The most public keys that one age file is sealed to.
pub const MAX_RECIPIENTS: usize = 64;
/// The largest `ZenLock` as a manifest, in bytes: what etcd takes.
pub const MAX_OBJECT: usize = 3 << 19;
/// The longest armoured file, in bytes: a third more than the plaintext, the header and the line ends. What is longer
/// is not looked at.
pub const MAX_ARMORED: usize = 3 << 19;

#[cfg(test)]
mod testing {
    use std::io::Write as _;

    use age::armor::{ArmoredWriter, Format};

    /// Any bytes in armour.
    pub fn armored(bytes: &[u8]) -> String {
        let mut writer = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).expect("writes");
        writer.write_all(bytes).expect("writes");
        String::from_utf8(writer.finish().expect("writes")).expect("text")
    }
}
