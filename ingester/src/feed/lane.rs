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

use super::session::Load;
use super::share::Share;

/// Leases for each slot of `concurrency`: one in the attempt and one waiting beside it, so that a slot that is freed has
/// work at once.
pub(super) const LEASES_PER_SLOT: usize = 2;
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
    /// How its slots are divided, and among which sessions that was.
    pub(super) shares: Vec<Share>,
    pub(super) divided: Option<Divided>,
}

/// What a division was made of; another one, and it is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divided {
    /// Changes with the sessions.
    pub(super) epoch: u64,
    /// The Destination's.
    pub(super) revision: u64,
}

/// The session that would take the next leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// What it has left.
    pub(super) room: Room,
    /// What the lane has there.
    pub(super) load: Load,
    /// Leases that the lane may have there.
    pub(super) cap: usize,
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
            breaker: Breaker::new(zen_model::breaker::Settings::default()),
            probe: Probe::None,
            gone: None,
            bury: None,
            missing_since: None,
            timer: None,
            shares: Vec::new(),
            divided: None,
        }
    }

    /// The lane of a Destination in effect. `offer` is none without a session; `now` is the breaker's clock.
    pub(super) fn step(&mut self, destination: &Destination, offer: Option<Offer>, now: Duration) -> Step {
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
        let Some(Offer { room, load, cap: at_session }) = offer else { return Step::Park };
        let slots: usize = self.shares.iter().map(|share| share.slots).sum();
        let cap = slots.saturating_mul(LEASES_PER_SLOT);
        // Not for every settlement one call: a quarter of the cap is fetched together, while the rest is being worked on.
        if self.leased > cap / 4 * 3 && self.leased > 1 || self.leased >= cap {
            return Step::Park;
        }
        let share = |left: usize, own: usize| (left / 2).saturating_sub(own);
        let free = (cap - self.leased).min(at_session.saturating_sub(load.leases));
        let left = share(room.leases, load.leases).min(free).min(BATCH);
        let within = left > 0 && share(room.bytes, load.bytes) > 0;
        if !within && self.leased > 0 {
            return Step::Park;
        }
        let (max, max_bytes) = if within { (left, share(room.bytes, load.bytes).min(BATCH_BYTES)) } else { (1, 1) };
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

    /// A lease came back, in whatever way.
    pub(super) fn returned(&mut self) {
        self.leased = self.leased.saturating_sub(1);
    }

    /// Nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        !self.due && !self.queued && !self.busy && self.leased == 0 && self.bury.is_none()
    }
}
