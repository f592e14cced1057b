use std::fmt::Write as _;

use zen_model::reason::LockRefusal;

/// A pod or a ZenLock that is refused: the code, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: LockRefusal,
    /// Which ZenLock, where it is about one.
    pub lock: Option<String>,
    /// Which key of it, where it is about one.
    pub key: Option<String>,
    /// What exactly is wrong: a clause without a full stop. Never a secret, never ciphertext.
    pub detail: String,
}

impl Refused {
    /// About the pod.
    pub fn new(reason: LockRefusal, detail: impl Into<String>) -> Self {
        Self { reason, lock: None, key: None, detail: detail.into() }
    }

    /// About a ZenLock.
    #[must_use]
    pub fn of(mut self, lock: &str) -> Self {
        self.lock = Some(lock.to_owned());
        self
    }

    /// About a key of the ZenLock.
    #[must_use]
    pub fn at(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// For people: names the pod, the ZenLock, the key, the reason and what to do.
    pub fn message(&self, what: &str) -> String {
        let row = self.reason.row();
        let mut text = what.to_owned();
        if let Some(lock) = &self.lock {
            let _ = write!(text, ", ZenLock {lock}");
        }
        if let Some(key) = &self.key {
            let _ = write!(text, ", key {key}");
        }
        format!("{text}: {} ({}). {} {}", self.detail, row.code, row.meaning, row.hint)
    }
}
