//! What goes into the queue, and why it may not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use zen_model::{Event, EventId, Namespace, ObjectKey};

use super::Fault;

/// An event on its way into the queue.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event; `Event::content_hash` is filled in by the caller. An empty `id` is replaced by a generated one.
    pub event: Event,
    /// Where it goes; none: kept in the history as unrouted, payload not kept.
    pub destinations: Vec<ObjectKey>,
    /// Idempotency claim (W-07).
    pub claim: Option<Claim>,
}

/// A claim of an idempotency key for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// SHA-256 over tenant, webhook and key, cut to 16 bytes.
    pub hash: [u8; 16],
    /// How long a repeat is recognised.
    pub window: Duration,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Durable.
    Accepted {
        /// The event's id, generated where the request had none.
        id: EventId,
    },
    /// The claim was taken by an earlier event, which is durable.
    Duplicate {
        /// The first event's id.
        id: EventId,
        /// Deliveries of the first event that were dead letters and are now due again.
        rearmed: u32,
    },
}

/// Why an event was not stored. Nothing of it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A quota is full.
    #[error("{scope} has no room for more waiting events")]
    Full {
        /// Whose quota.
        scope: QuotaScope,
    },
    /// The writer is behind by more than its bound.
    #[error("the commit queue is full")]
    Overloaded,
    /// The store cannot commit.
    #[error("the queue cannot commit: {0}")]
    Unavailable(Fault),
}

/// Whose quota is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaScope {
    /// The whole queue.
    Global,
    /// One tenant.
    Namespace(Namespace),
    /// One destination.
    Destination(ObjectKey),
}

impl fmt::Display for QuotaScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("the queue"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::Destination(key) => write!(f, "destination {key}"),
        }
    }
}

/// Limits on the bytes of records that wait (dead letters count too).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// The whole queue; none is no limit.
    pub global: Option<u64>,
    /// By tenant.
    pub namespaces: BTreeMap<Namespace, u64>,
    /// The limit of each destination; none is no limit.
    pub each_destination: Option<u64>,
}
