use crate::names::Writer;

/// What can be wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is no entry.
    #[error("{0}")]
    Malformed(String),
    /// The last line has no end.
    #[error("the last line is cut; a running writer finishes or repairs it")]
    Torn,
    /// Its hash is not that of its content.
    #[error("the entry was changed: its hash is not that of its content")]
    Altered,
    /// It says to follow on another entry than the one before.
    #[error("the entry does not follow on the one before: one of the two was changed, or this one put in")]
    Unlinked,
    /// Its number is too high.
    #[error("entry {expected} should stand here, not {found}: entries were deleted or moved")]
    Missing {
        /// The number that is due.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// Its number is too low.
    #[error("entry {expected} should stand here, not {found}: an entry was moved, repeated or put in")]
    Displaced {
        /// The number that is due.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// Its writer is another than that of its chain.
    #[error("the chain is that of {0}")]
    OtherWriter(Writer),
    /// The first entry is not one that opens a chain.
    #[error("the first entry does not open a chain: the beginning was replaced")]
    NotOpened,
    /// The chain does not begin with its first entry.
    #[error(
        "the chain begins with entry {found}: what was before it is missing, and no entry says that it was removed"
    )]
    NoBeginning {
        /// What it begins with.
        found: u64,
    },
    /// Hashes fit, but somebody vouched for another one.
    #[error("an anchored head has another hash: the chain was written anew")]
    Rewritten,
    /// The chain ends before a head that somebody vouched for.
    #[error("the chain ends with entry {last}, and entry {anchored} is anchored: the end was cut off")]
    Truncated {
        /// What it ends with.
        last: u64,
        /// What it had.
        anchored: u64,
    },
    /// An anchored chain is not there at all.
    #[error("nothing is here of a chain of which entry {anchored} is anchored")]
    Absent {
        /// What it had.
        anchored: u64,
    },
}

impl Fault {
    /// Stable label for machines.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Torn => "torn",
            Self::Altered => "altered",
            Self::Unlinked => "unlinked",
            Self::Missing { .. } => "missing",
            Self::Displaced { .. } => "displaced",
            Self::OtherWriter(_) => "other-writer",
            Self::NotOpened => "not-opened",
            Self::NoBeginning { .. } => "no-beginning",
            Self::Rewritten => "rewritten",
            Self::Truncated { .. } => "truncated",
            Self::Absent { .. } => "absent",
        }
    }
}
