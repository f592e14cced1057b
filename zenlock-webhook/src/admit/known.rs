use std::collections::{BTreeMap, BTreeSet};

use super::Unrepresentable;

/// What is known of one version of a ZenLock. No plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// ServiceAccounts of its namespace that may use it.
    pub accounts: BTreeSet<String>,
    /// Its keys.
    pub keys: BTreeMap<String, KeyFacts>,
}

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// Why it cannot be opened: a code and words.
    pub problem: Option<(&'static str, String)>,
    /// Why it cannot become a variable through an environment file.
    pub unrepresentable: Option<Unrepresentable>,
    /// Bytes of the plaintext.
    pub size: usize,
}
