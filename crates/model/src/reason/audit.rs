use super::{Area, Row};

/// What an audit log says about itself: the reason of entries that no component asked for, and of
/// Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditReason {
    /// A killed process left a half-written end.
    TailTorn,
    /// A file is not what was written into it.
    ChainDamaged,
    /// Entries came that do not follow on what the store has.
    ChainForked,
    /// The store has a chain without its beginning.
    BeginningMissing,
    /// The store has less than what is anchored.
    AnchorAhead,
    /// Files were older than they are kept.
    RetentionAge,
    /// Files were more than are kept.
    RetentionSize,
    /// Something of a log does not work.
    Degraded,
    /// It works again.
    Recovered,
}

impl AuditReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::TailTorn,
        Self::ChainDamaged,
        Self::ChainForked,
        Self::BeginningMissing,
        Self::AnchorAhead,
        Self::RetentionAge,
        Self::RetentionSize,
        Self::Degraded,
        Self::Recovered,
    ];

    /// Code, meaning and hint.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::TailTorn => (
                "AuditTailTorn",
                "A process was killed while it wrote; the half-written end was cut off. Nothing of it was acknowledged.",
                "Nothing, unless nobody killed it.",
            ),
            Self::ChainDamaged => (
                "AuditChainDamaged",
                "A file of the audit log is not what was written into it.",
                "Run zen audit verify on it; compare with the store's copy and with the anchored heads.",
            ),
            Self::ChainForked => (
                "AuditChainForked",
                "Entries came for a chain that do not follow on what the store has of it.",
                "Two histories of one chain: compare the pod's files with the store's, and look at who had access to either.",
            ),
            Self::BeginningMissing => (
                "AuditBeginningMissing",
                "A chain came to the store without its beginning, and is kept from there on.",
                "Look for what became of the store's volume, or of the pod's earlier files.",
            ),
            Self::AnchorAhead => (
                "AuditAnchorAhead",
                "The store has less of a chain than what was anchored of it.",
                "The volume was exchanged, restored from a copy, or cut: restore it, or find out who did that.",
            ),
            Self::RetentionAge => (
                "AuditRetentionAge",
                "Entries were removed because they are older than they are kept.",
                "Export them before, or keep them longer.",
            ),
            Self::RetentionSize => (
                "AuditRetentionSize",
                "Entries were removed because the files are larger than they are kept.",
                "Export them before, or give the log more room.",
            ),
            Self::Degraded => (
                "AuditDegraded",
                "Something of this pod's audit log does not work; entries may be missing.",
                "The Event says what: the disk, the store, or more than can be written. zen_audit_degraded says how long.",
            ),
            Self::Recovered => (
                "AuditRecovered",
                "What did not work of this pod's audit log does again.",
                "Nothing; the entry audit.recover says since when it did not, and what is lost.",
            ),
        };
        Row { code, area: Area::Audit, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
