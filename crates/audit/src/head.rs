//! Where a chain stands: all that has to be kept elsewhere to find out later that something is missing.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::names::{ChainId, Writer};

/// A SHA-256; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first entry of a chain follows.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of these parts, one after the other.
    pub(crate) fn of(domain: &[u8], content: &[u8]) -> Self {
        let digest = digest(&SHA256, &[domain, content].concat());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Whether it is [`Hash::NONE`].
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| HeadError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = HeadError;

    fn try_from(text: String) -> Result<Self, HeadError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// The last entry of a chain. As text `<component>/<instance>/<chain>@<seq>:<hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Head {
    /// Whose chain.
    pub writer: Writer,
    /// Which.
    pub chain: ChainId,
    /// The number of its last entry; the first has 1.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Hash,
}

/// Text that is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is <component>/<instance>/<chain>@<number>:<hash of 64 hexadecimal digits>")]
pub struct HeadError;

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}:{}", self.writer, self.chain, self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (rest, hash) = text.rsplit_once(':').ok_or(HeadError)?;
        let (rest, seq) = rest.rsplit_once('@').ok_or(HeadError)?;
        let (writer, chain) = rest.rsplit_once('/').ok_or(HeadError)?;
        Ok(Self {
            writer: writer.parse().map_err(|_| HeadError)?,
            chain: chain.parse().map_err(|_| HeadError)?,
            seq: seq.parse().map_err(|_| HeadError)?,
            hash: hash.parse()?,
        })
    }
}

impl TryFrom<String> for Head {
    type Error = HeadError;

    fn try_from(text: String) -> Result<Self, HeadError> {
        text.parse()
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_one_word() {
        let head = Head {
            writer: "zen-egress/pod-1".parse().expect("valid"),
            chain: "c-1".parse().expect("valid"),
            seq: 7,
            hash: Hash::of(b"", b"abc"),
        };
        // FIPS 180-4's example.
        let text = "zen-egress/pod-1/c-1@7:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(head.to_string(), text);
        assert_eq!(text.parse(), Ok(head));
        for bad in ["", "a/b/c", "a/b/c@1", "a/b/c@x:00", "a/b@1:00", &text[..text.len() - 1], &format!("{text}0")] {
            assert_eq!(bad.parse::<Head>(), Err(HeadError), "{bad}");
        }
    }
}
