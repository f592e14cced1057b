//! Who opens `ZenLock`s for the objects that name them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use zen_compile::LockUse;
use zen_model::reason::LockRefusal;
use zen_model::{LockReason, ObjectKey, Secret};

/// What there is for objects that name `ZenLock`s.
#[derive(Clone, Debug, Default)]
pub enum ZenLocks {
    /// Nothing: every `zenLockRef` is refused as unsupported.
    #[default]
    Unsupported,
    /// Somebody else opens them: they are taken to resolve.
    Assumed,
    /// They are watched, and asked for here.
    Opened(Arc<dyn Unseal>),
}

impl ZenLocks {
    pub(super) const fn are_supported(&self) -> bool {
        !matches!(self, Self::Unsupported)
    }

    pub(super) const fn are_opened(&self) -> bool {
        matches!(self, Self::Opened(_))
    }

    pub(super) fn into_unseal(self) -> Option<Arc<dyn Unseal>> {
        match self {
            Self::Opened(unseal) => Some(unseal),
            Self::Unsupported | Self::Assumed => None,
        }
    }
}

/// The unseal API, or a script in tests. It judges each object by itself, as everything is at that moment.
pub trait Unseal: Send + Sync + Debug {
    /// Asks for these, at most [`zen_lock::wire::MAX_BATCH`] of [`zen_lock::wire::MAX_BATCH_LOCKS`] `ZenLock`s. Ends by
    /// itself when nobody answers.
    fn unseal<'a>(&'a self, uses: &'a [LockUse]) -> Unsealing<'a>;
}

/// Boxed: `ZenLock`s change a few times a day.
pub type Unsealing<'a> = Pin<Box<dyn Future<Output = Result<Unsealed, Unanswered>> + Send + 'a>>;

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Unsealed {
    /// What is in each `ZenLock` that an object may have, as far as it can be opened.
    pub opened: BTreeMap<ObjectKey, BTreeMap<String, Result<Secret, LockReason>>>,
    /// Objects that do not get theirs.
    pub refused: BTreeMap<LockUse, Refused>,
}

/// Why an object does not get what is in a `ZenLock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// None for a code of another release.
    pub reason: Option<LockRefusal>,
    /// For people.
    pub message: String,
}

/// Nobody answered, or not to what was asked. Nothing of a token or a value is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);
