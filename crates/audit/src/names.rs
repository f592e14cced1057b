//! Who writes, and which chain it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest part of a writer's name: that of a DNS subdomain, which pods' names are.
const MAX_PART: usize = 253;
/// The longest chain id.
const MAX_CHAIN: usize = 64;

/// A name that cannot be one. Both kinds are also names of folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form of a writer.
    #[error("a writer is <component>/<instance>, each of small letters, digits, '-' and '.'")]
    Writer,
    /// Not of the form of a chain id.
    #[error("a chain is named by at most {MAX_CHAIN} small letters, digits and '-'")]
    Chain,
}

/// Who writes a chain: `<component>/<instance>`, e.g. `zenlock-webhook/zenlock-webhook-6d5f-x2x`. The component is the
/// account that the store takes its entries from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Writer(String);

impl Writer {
    /// Of a component and the name of its pod.
    ///
    /// # Errors
    ///
    /// When one of them cannot be a name.
    pub fn new(component: &str, instance: &str) -> Result<Self, NameError> {
        if is_part(component) && is_part(instance) {
            Ok(Self(format!("{component}/{instance}")))
        } else {
            Err(NameError::Writer)
        }
    }

    /// The account.
    pub fn component(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(component, _)| component)
    }

    /// The pod.
    pub fn instance(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, instance)| instance)
    }
}

fn is_part(text: &str) -> bool {
    (1..=MAX_PART).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

impl FromStr for Writer {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (component, instance) = text.split_once('/').ok_or(NameError::Writer)?;
        Self::new(component, instance)
    }
}

impl TryFrom<String> for Writer {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Writer> for String {
    fn from(writer: Writer) -> Self {
        writer.0
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One chain. Each start of a writer begins a new one; ids that are made later sort later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainId(String);

impl ChainId {
    /// A new one (UUID version 7).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChainId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_one = (1..=MAX_CHAIN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_one { Ok(Self(text.to_owned())) } else { Err(NameError::Chain) }
    }
}

impl TryFrom<String> for ChainId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ChainId> for String {
    fn from(chain: ChainId) -> Self {
        chain.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/.b", "A/b", "a/b c", "a/b\n", "a/b@1", "a/b:c"] {
            assert_eq!(bad.parse::<Writer>(), Err(NameError::Writer), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "A", "a b", "a_b", "é", &"a".repeat(65)] {
            assert_eq!(bad.parse::<ChainId>(), Err(NameError::Chain), "{bad:?}");
        }
        let writer: Writer = "zen-egress/zen-egress-5f.x-1".parse().expect("valid");
        assert_eq!((writer.component(), writer.instance()), ("zen-egress", "zen-egress-5f.x-1"));
        ChainId::generate().as_str().parse::<ChainId>().expect("its own form");
    }
}
