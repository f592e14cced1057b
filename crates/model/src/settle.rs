//! What an egress says about a leased delivery.

use std::time::Duration;

use crate::DeadReason;

/// The end of one lease. It names (delivery, lease number) beside it: a stale `Retry` or `Dead` is ignored, a stale
/// `Ack` counts, because the target did get the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The target took it.
    Ack,
    /// An attempt was charged; try again after `after`.
    Retry {
        /// Wait before the next attempt becomes due.
        after: Duration,
    },
    /// Never attempt again by itself; it goes to the dead letters.
    Dead {
        /// Why.
        reason: DeadReason,
    },
    /// Not charged: drain, open breaker, a fault of our own side, overload.
    Release {
        /// Wait before it may be leased again.
        after: Duration,
        /// Why it came back.
        reason: ReleaseReason,
    },
}

/// Why a lease came back without an attempt that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReleaseReason {
    /// The egress is shutting down.
    Drain,
    /// The Destination's breaker is open or the Destination is paused.
    Held,
    /// The egress does not know the Destination (yet), or could not prepare the attempt.
    OurFault,
    /// No capacity at the egress.
    Overload,
}

impl ReleaseReason {
    /// Stable label for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Held => "held",
            Self::OurFault => "our_fault",
            Self::Overload => "overload",
        }
    }
}

/// The class of one attempt's end: decides charge, retry policy and breaker (D-04, D-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2xx.
    Delivered,
    /// Network fault, timeout, 408, 425, or 5xx: the transient policy.
    Transient,
    /// 429, or 503 with `Retry-After`: the throttled policy.
    Throttled,
    /// Any other 3xx or 4xx: dead at once.
    Rejected,
    /// 410: dead at once, and the Destination wants no more.
    Gone,
    /// The request may have reached the target and no answer came; fatal only where `idempotent` is false.
    Ambiguous,
    /// The guard refused the address, or the configuration cannot work: dead or held, never charged to the breaker.
    Refused,
    /// Our own side: no descriptors, no resolver. Not charged.
    OurFault,
}

impl Class {
    /// Stable label for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
            Self::Ambiguous => "ambiguous",
            Self::Refused => "refused",
            Self::OurFault => "our_fault",
        }
    }

    /// Every class, for tables and metrics.
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Transient,
        Self::Throttled,
        Self::Rejected,
        Self::Gone,
        Self::Ambiguous,
        Self::Refused,
        Self::OurFault,
    ];
}

/// What is kept about one attempt: for the history of an event and for its dead letter. Bounded; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: crate::Timestamp,
    /// How it ended.
    pub class: Class,
    /// HTTP status; 0 when none came.
    pub status: u16,
    /// From the first byte sent until the end.
    pub took: Duration,
    /// A short reason in stable words (`connect refused`, `timeout`, …); never text of the target's.
    pub error: Option<&'static str>,
    /// The beginning of the target's response, bounded by `maxResponse` and by 4 KiB here; kept sealed, with dead letters.
    pub response: bytes::Bytes,
}
