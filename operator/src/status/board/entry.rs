//! One object on the board: when it is written, and when that waits.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::super::conditions::{Status, Time};
use super::super::decide::Decision;
use super::super::metrics::Standing;
use super::super::object::Object;

/// Somebody else writes over what we wrote: answered ever more rarely.
const FIGHT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// An object, and how it goes with its status.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) object: Object,
    /// It is in the queue.
    pub(super) queued: bool,
    /// A write is on its way.
    flight: Option<Flight>,
    pub(super) timer: Option<Instant>,
    /// Since when the status is another than it should be, and is given time.
    waiting: Option<Instant>,
    pub(super) last: Option<Last>,
}

/// What happened while a write was on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Flight {
    /// Something on which the status depends.
    changed: bool,
    /// A watch showed the object.
    shown: bool,
}

/// What was written last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    digest: u64,
    at: Instant,
    again: u32,
}

/// What follows from a decision.
#[derive(Debug, PartialEq)]
pub(super) enum Judged {
    /// Nothing.
    Fine,
    /// Nothing before this time.
    Later(Instant),
    /// This is to be written.
    Write(Status),
}

impl Entry {
    pub(super) fn new(object: Object) -> Self {
        Self { object, queued: false, flight: None, timer: None, waiting: None, last: None }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::of(&self.object.status)
    }

    /// Takes the object as a watch saw it; false when that is nothing new.
    pub(super) fn take(&mut self, object: Object) -> bool {
        if let Some(flight) = &mut self.flight {
            flight.shown = true;
        }
        if object.uid != self.object.uid {
            *self = Self { queued: self.queued, timer: self.timer, flight: self.flight, ..Self::new(object) };
            return true;
        }
        let same = Object { resource_version: self.object.resource_version, ..object.clone() } == self.object;
        self.object = object;
        !same
    }

    /// Whether a write is on its way; then it is to be looked at again when that has landed.
    pub(super) fn waits_for_landing(&mut self) -> bool {
        self.flight.as_mut().map(|flight| flight.changed = true).is_some()
    }

    /// A write has ended. One that is `done` leaves the status as the watch will show it in a moment, unless it showed
    /// something already. Whether to look again.
    pub(super) fn landed(&mut self, uid: &str, done: Option<Status>) -> bool {
        let flight = self.flight.take().unwrap_or_default();
        if let Some(status) = done.filter(|_| !flight.shown && *self.object.uid == *uid) {
            self.object.status = status;
        }
        flight.changed
    }

    pub(super) fn judge(&mut self, decision: Option<Decision>, now: Instant) -> Judged {
        let Some(Decision { status, patience, again }) = decision else {
            return Judged::Fine;
        };
        if status == self.object.status {
            self.waiting = None;
            return again.map_or(Judged::Fine, |after| Judged::Later(now + after));
        }
        let since = *self.waiting.get_or_insert(now);
        if now < since + patience {
            return Judged::Later(since + patience);
        }
        let digest = digest(&status);
        let again = match self.last.filter(|last| last.digest == digest) {
            None => 0,
            Some(last) => {
                let pause = FIGHT.0.saturating_mul(1 << last.again.min(16)).min(FIGHT.1);
                if now < last.at + pause {
                    return Judged::Later(last.at + pause);
                }
                last.again + 1
            }
        };
        self.last = Some(Last { digest, at: now, again });
        self.waiting = None;
        self.flight = Some(Flight::default());
        Judged::Write(status)
    }
}

/// Without the times of transitions: they are new whenever somebody took the conditions away.
fn digest(status: &Status) -> u64 {
    let mut status = status.clone();
    status.conditions.iter_mut().for_each(|condition| condition.since = Time::UNIX_EPOCH);
    let mut hasher = DefaultHasher::new();
    format!("{status:?}").hash(&mut hasher);
    hasher.finish()
}
