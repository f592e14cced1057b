use super::{Area, Row};

/// Why a delivery is in the dead letters. The discriminant is stored: it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DeadReason {
    /// The target answered with a status that no retry mends.
    Rejected = 1,
    /// The target answered 410.
    Gone = 2,
    /// All attempts of the policy were used.
    AttemptsExhausted = 3,
    /// The policy's `within` ran out.
    RetryWindowExceeded = 4,
    /// The breaker was open for longer than `hold`.
    HoldExceeded = 5,
    /// Several leases ended without a word: it may be killing the egress.
    Poison = 6,
    /// `idempotent: false` and the end is unknown.
    Ambiguous = 7,
    /// The target's address is not allowed.
    AddressNotAllowed = 8,
    /// The Destination no longer allows the Webhook's namespace.
    ConsentWithdrawn = 9,
    /// The Destination was deleted.
    DestinationDeleted = 10,
    /// The stored record does not open.
    RecordDamaged = 11,
    /// The event's own signature did not verify at the egress.
    SignatureInvalid = 12,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Rejected,
        Self::Gone,
        Self::AttemptsExhausted,
        Self::RetryWindowExceeded,
        Self::HoldExceeded,
        Self::Poison,
        Self::Ambiguous,
        Self::AddressNotAllowed,
        Self::ConsentWithdrawn,
        Self::DestinationDeleted,
        Self::RecordDamaged,
        Self::SignatureInvalid,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::Rejected => (
                "Rejected",
                "The target refused the event with a status that no retry mends.",
                "Read the kept response, mend the target, then replay.",
            ),
            Self::Gone => (
                "Gone",
                "The target answered 410: it wants no more events.",
                "Remove the route, or point the Destination to the new address and replay.",
            ),
            Self::AttemptsExhausted => (
                "AttemptsExhausted",
                "Every attempt that the retry policy allows has failed.",
                "Read the last attempt, mend the target, then replay.",
            ),
            Self::RetryWindowExceeded => (
                "RetryWindowExceeded",
                "The retry policy's time ran out before an attempt succeeded.",
                "Mend the target, then replay; raise within for longer outages.",
            ),
            Self::HoldExceeded => (
                "HoldExceeded",
                "The Destination's breaker stayed open for longer than hold.",
                "Mend the target, then replay; raise circuitBreaker.hold for longer outages.",
            ),
            Self::Poison => (
                "Poison",
                "The egress went away each time it had this event.",
                "Look at the egress log at the times of the leases before you replay.",
            ),
            Self::Ambiguous => (
                "Ambiguous",
                "The target may or may not have taken the event, and idempotent is false.",
                "Ask the target whether it has the event; replay only if it has not.",
            ),
            Self::AddressNotAllowed => (
                "AddressNotAllowed",
                "The target's address is private or otherwise not allowed.",
                "Name a Service, or list the address in network.allowCidrs, then replay.",
            ),
            Self::ConsentWithdrawn => (
                "ConsentWithdrawn",
                "The Destination no longer allows events from this namespace.",
                "Have its owner list the namespace in allowFrom, then replay.",
            ),
            Self::DestinationDeleted => {
                ("DestinationDeleted", "The Destination no longer exists.", "Create it again, then replay.")
            }
            Self::RecordDamaged => (
                "RecordDamaged",
                "The stored record cannot be opened.",
                "Check the disk and the queue's key; the event must be sent again by its source.",
            ),
            Self::SignatureInvalid => (
                "SignatureInvalid",
                "The event was changed on its way to the egress, or another key signed it.",
                "Check that the link keys of ingester and egress come from one root key, then replay.",
            ),
        };
        Row { code, area: Area::DeadLetter, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The reason of a stored discriminant or code number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// The reason of a code as users type it.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code().eq_ignore_ascii_case(code))
    }
}
