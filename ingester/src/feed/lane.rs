//! One Destination's lane: what it may lease now. Pure but for the breaker it holds; the time comes from outside.
//!
//! Fairness comes from bounds, not from order: a lane has at most [`LEASES_PER_SLOT`] leases for each slot of its
//! Destination, and never more than half of what the session has left over. A target that hangs fills its own lane and
//! nothing else, and the window never fills up with lanes that hang: who comes later always finds room.

use std::time::Duration;

use tokio::time::Instant;
use zen_compile::Destination;
use zen_model::breaker::{Breaker, State};
use zen_model::{DeadReason, ObjectKey};
use zen_queue::LeaseToken;

/// Leases for each slot of `concurrency`: one in the attempt and one waiting beside it, so that a slot that is freed has
/// work at once.
const LEASES_PER_SLOT: usize = 2;
/// Deliveries of one call to the queue.
const BATCH: usize = 256;
/// Bytes of one call to the queue.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The probe of a half-open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    None,
    /// The queue is asked for a delivery.
    Asked,
    /// It is at an egress.
    Out(LeaseToken),
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: ObjectKey,
    /// The queue may have something due.
    pub(super) due: bool,
    /// Stands in the dispatcher's line.
    pub(super) queued: bool,
    /// A call to the queue is running.
    pub(super) busy: bool,
    pub(super) leased: usize,
    pub(super) bytes: usize,
    pub(super) breaker: Breaker,
    pub(super) probe: Probe,
    /// Revision of the Destination whose target answered 410.
    pub(super) gone: Option<u64>,
    /// What waits is to be buried, for this reason.
    pub(super) bury: Option<DeadReason>,
    /// Not in the configuration since then.
    pub(super) missing_since: Option<Instant>,
    /// The dispatcher looks at it again then.
    pub(super) timer: Option<Instant>,
}

/// What a session has left: leases and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) leases: usize,
    pub(super) bytes: usize,
}

/// What a lane does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the queue.
    Lease { max: usize, max_bytes: usize },
    /// Move what waits to the dead letters.
    Bury(DeadReason),
    /// Nothing before so long has passed.
    Later(Duration),
    /// Nothing before something else happens: a settlement, a session, a configuration.
    Park,
}

impl Lane {
    pub(super) fn new(key: ObjectKey) -> Self {
        Self {
            key,
            due: false,
            queued: false,
            busy: false,
            leased: 0,
            bytes: 0,
            breaker: Breaker::new(zen_model::breaker::Settings::default()),
            probe: Probe::None,
            gone: None,
            bury: None,
            missing_since: None,
            timer: None,
        }
    }

    /// The lane of a Destination in effect. `room` is none without a session; `now` is the breaker's clock.
    pub(super) fn step(&mut self, destination: &Destination, room: Option<Room>, now: Duration) -> Step {
        if self.busy {
            return Step::Park;
        }
        if let Some(reason) = self.bury {
            return Step::Bury(reason);
        }
        if self.gone == Some(destination.revision) {
            return Step::Bury(DeadReason::Gone);
        }
        self.gone = None;
        if destination.paused {
            return Step::Park;
        }
        let cap = destination.concurrency.max(1).saturating_mul(LEASES_PER_SLOT);
        // Not for every settlement one call: a quarter of the cap is fetched together, while the rest is being worked on.
        if self.leased > cap / 4 * 3 && self.leased > 1 || self.leased >= cap {
            return Step::Park;
        }
        let Some(room) = room else { return Step::Park };
        let share = |left: usize, own: usize| (left / 2).saturating_sub(own);
        let left = share(room.leases, self.leased).min(cap - self.leased).min(BATCH);
        let within = left > 0 && share(room.bytes, self.bytes) > 0;
        if !within && self.leased > 0 {
            return Step::Park;
        }
        let (max, max_bytes) = if within { (left, share(room.bytes, self.bytes).min(BATCH_BYTES)) } else { (1, 1) };
        match self.breaker.admit(now, max) {
            0 => self.breaker.next_change(now).map_or(Step::Park, Step::Later),
            admitted => {
                if self.breaker.state(now) == State::HalfOpen {
                    self.probe = Probe::Asked;
                }
                Step::Lease { max: admitted, max_bytes }
            }
        }
    }

    /// The probe came to nothing.
    pub(super) fn abandon_probe(&mut self) {
        self.probe = Probe::None;
        self.breaker.abandon_probe();
    }

    /// Leases came back, in whatever way.
    pub(super) fn returned(&mut self, bytes: usize) {
        self.leased = self.leased.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        !self.due && !self.queued && !self.busy && self.leased == 0 && self.bury.is_none()
    }
}
