//! What a component says happened; the log adds when, where and the chain.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The longest text of a field, bytes; longer ones are cut and end in `…`.
pub const MAX_TEXT: usize = 1024;
/// The most details of an entry.
pub const MAX_DETAILS: usize = 40;

/// What was done or asked for. Part of the format: a label never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Somebody proved, or failed to prove, who they are.
    Authenticate,
    /// Somebody was, or was not, allowed to do what they asked for.
    Authorize,
    /// An administrator's action: replay, discard, drain, rotation.
    Administer,
    /// Plaintext was given out, or refused.
    AccessSecret,
    /// A pod was admitted with secrets, or refused.
    AdmitPod,
    /// A certificate was issued, or refused.
    IssueCertificate,
    /// A delivery came to its end.
    Deliver,
    /// Something was slowed down or turned away by a limit.
    Throttle,
    /// Something else was turned away.
    Reject,
    /// First entry of each chain. Its details name the head of the chain before.
    OpenChain,
    /// The chain before is known only now: where it stood.
    LinkChain,
    /// What a killed process left half written was cut off.
    RepairChain,
    /// A chain was found that is not as it was written, or whose entries do not follow on what is here.
    FindDamage,
    /// Entries were removed because their time was over.
    ExpireChain,
    /// A chain came whose beginning is not here.
    AdoptChain,
    /// Heads of other chains, as they stand.
    AnchorHeads,
    /// The log works again; the entry says since when it did not, why, and how many entries are lost.
    Recover,
}

impl Action {
    /// As it stands in an entry.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Administer => "administer",
            Self::AccessSecret => "secret.access",
            Self::AdmitPod => "pod.admit",
            Self::IssueCertificate => "certificate.issue",
            Self::Deliver => "deliver",
            Self::Throttle => "throttle",
            Self::Reject => "reject",
            Self::OpenChain => "chain.open",
            Self::LinkChain => "chain.link",
            Self::RepairChain => "chain.repair",
            Self::FindDamage => "chain.damage",
            Self::ExpireChain => "chain.expire",
            Self::AdoptChain => "chain.adopt",
            Self::AnchorHeads => "chain.anchor",
            Self::Recover => "audit.recover",
        }
    }
}

/// What happened. None of its texts may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) action: Action,
    pub(crate) who: String,
    pub(crate) object: String,
    pub(crate) allowed: bool,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) correlation: String,
    pub(crate) details: BTreeMap<String, String>,
}

impl Record {
    /// `who` (a SPIFFE id, a pod as `Pod/NS/NAME`, a user) did this, or asked for it, with `object` (`Kind/NS/NAME`). Not
    /// allowed until [`Record::allowed`] says so.
    pub fn new(action: Action, who: &str, object: &str) -> Self {
        Self {
            action,
            who: bounded(who),
            object: bounded(object),
            allowed: false,
            reason: Cow::Borrowed(""),
            correlation: String::new(),
            details: BTreeMap::new(),
        }
    }

    /// It was done.
    #[must_use]
    pub fn allowed(mut self) -> Self {
        self.allowed = true;
        self
    }

    /// Why: a code of [`zen_model::reason`].
    #[must_use]
    pub fn reason(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.reason = code.into();
        self
    }

    /// The request id that also stands in logs and answers.
    #[must_use]
    pub fn correlation(mut self, id: &str) -> Self {
        self.correlation = bounded(id);
        self
    }

    /// More about it. At most [`MAX_DETAILS`]; what comes after them is left out. An empty value says nothing and is left
    /// out too.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: &str) -> Self {
        let key = key.into();
        if !value.is_empty() && self.details.len() < MAX_DETAILS && is_key(&key) {
            self.details.insert(key, bounded(value));
        }
        self
    }
}

/// A key of a detail: ASCII, so that its order is the same everywhere.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn bounded(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_details_are_bounded() {
        let long = "é".repeat(MAX_TEXT);
        let mut record = Record::new(Action::Reject, &long, "o").detail("bad key", "x").detail("empty", "");
        assert!(record.who.len() <= MAX_TEXT && record.who.ends_with('…'), "{}", record.who.len());
        for n in 0..100 {
            record = record.detail(format!("k{n}"), "v");
        }
        assert_eq!(record.details.len(), MAX_DETAILS);
    }
}
