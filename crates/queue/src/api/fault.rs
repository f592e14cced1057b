//! What can be wrong with the store, and the errors that say so.

use std::fmt;

use crate::handover::Malformed;

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No space left, or a disk quota.
    DiskFull,
    /// The folder or file system is read-only.
    ReadOnly,
    /// The files are damaged.
    Corrupt,
    /// Any other I/O error.
    Io,
    /// Closed, or closing.
    Closed,
}

impl Fault {
    /// Stable label for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Corrupt => "corrupt",
            Self::Io => "io",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::ReadOnly => "the folder is read-only",
            Self::Corrupt => "the queue's files are damaged",
            Self::Io => "the disk reports an error",
            Self::Closed => "the queue is closed",
        })
    }
}

/// Whether commits work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They do.
    Ok,
    /// They do not, for this reason; recovery is tried by itself.
    Failing(Fault),
}

/// An operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is failing.
    #[error("the queue is unavailable: {0}")]
    Unavailable(Fault),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The folder cannot be used; the text says why and what to do.
    #[error("failed to open the queue at {folder}: {reason}")]
    Open {
        /// The folder.
        folder: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Why a page of another queue was not adopted. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It makes no sense, and will not when it is sent again.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The store cannot commit.
    #[error("the queue cannot commit: {0}")]
    Unavailable(Fault),
}
