//! What happened to an event, told to whoever watches (the lines that `zen up` prints). Never a payload or a secret.

use std::time::Duration;

use crate::settle::Class;
use crate::{DeadReason, EventId, ObjectKey, Refusal};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Observation {
    /// Intake stored an event and said so.
    Accepted {
        /// The Webhook.
        webhook: ObjectKey,
        /// The event.
        id: EventId,
        /// CloudEvents type.
        r#type: Box<str>,
        /// Body size in bytes.
        bytes: usize,
        /// Number of deliveries; 0 is unrouted.
        deliveries: usize,
    },
    /// Intake answered a repeat with the first answer.
    Duplicate {
        /// The Webhook.
        webhook: ObjectKey,
        /// The first event.
        id: EventId,
    },
    /// Intake refused a request.
    Refused {
        /// The Webhook, where the request named one.
        webhook: Option<ObjectKey>,
        /// Why.
        reason: Refusal,
    },
    /// A challenge was answered.
    Challenged {
        /// The Webhook.
        webhook: ObjectKey,
    },
    /// An attempt ended.
    Attempted {
        /// The Destination.
        destination: ObjectKey,
        /// The event.
        id: EventId,
        /// Counted from 1.
        attempt: u32,
        /// How it ended.
        class: Class,
        /// HTTP status; 0 when none came.
        status: u16,
        /// How long it took.
        took: Duration,
        /// Stable words for what failed.
        error: Option<&'static str>,
        /// Wait before the next attempt, where there is one.
        retry_in: Option<Duration>,
        /// Where it went to the dead letters.
        dead: Option<DeadReason>,
    },
    /// A breaker opened or closed.
    Breaker {
        /// The Destination.
        destination: ObjectKey,
        /// Whether it opened.
        opened: bool,
    },
}

/// Takes observations; must return at once. Shared by ingester and egress.
pub trait Observer: Send + Sync {
    /// Whether anybody looks: lets the caller skip building an observation.
    fn is_watched(&self) -> bool;
    /// Takes one. May drop it when the watcher is slow.
    fn observe(&self, observation: Observation);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Observer for Unwatched {
    fn is_watched(&self) -> bool {
        false
    }

    fn observe(&self, _: Observation) {}
}
