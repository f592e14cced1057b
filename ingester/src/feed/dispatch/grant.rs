//! From what is due to leases in frames.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use zen_compile::Destination;
use zen_link::frame;
use zen_model::breaker::State;
use zen_model::settle::ReleaseReason;
use zen_model::{DeadReason, Namespace, Settlement, Timestamp};
use zen_queue::{Demand, Leased, Settled};

use super::super::Carrier;
use super::super::lane::{Probe, Step};
use super::super::{convert, session::Held};
use super::{Dispatcher, Done, PAUSE, consents, enqueue, look_again};

/// A lease outlives the request that it is for by so much.
const MARGIN: Duration = Duration::from_secs(15);

impl Dispatcher {
    /// Gives every lane in line its step, once around.
    pub(super) fn grant(&mut self) {
        for _ in 0..self.line.len() {
            let Some(id) = self.line.pop_front() else { return };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.queued = false;
            if self.stopping || self.paused || lane.busy {
                continue;
            }
            match self.snapshot.destination(&lane.key).cloned() {
                Some(destination) => self.step(id, &destination),
                None => self.missing(id),
            }
        }
    }

    fn step(&mut self, id: u64, destination: &Destination) {
        let now = self.origin.elapsed();
        let offer = self.offer(id, destination);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let step = lane.step(destination, offer.map(|(_, offer)| offer), now);
        match (step, offer) {
            (Step::Lease { max, max_bytes }, Some((session, _))) => {
                lane.busy = true;
                lane.due = false;
                if lane.probe == Probe::Asked {
                    self.parts.board.show(&lane.key, State::HalfOpen, false);
                }
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.asked += max;
                    self.turn += 1;
                    session.turn = self.turn;
                }
                let term = self.parts.options.term.max(destination.request_timeout + MARGIN);
                let demand = Demand { destination: destination.key.clone(), max, max_bytes, term };
                let queue = Arc::clone(&self.parts.queue);
                let call = async move {
                    let result = queue.lease(demand).await;
                    Done::Leased { lane: id, session, asked: max, term, result }
                };
                self.running.push(call.boxed());
            }
            (Step::Bury(reason), _) => self.bury(id, None, reason),
            (Step::Later(wait), _) => {
                look_again(&mut self.timers, id, lane, Instant::now() + wait);
            }
            (Step::Park | Step::Lease { .. }, _) => {}
        }
    }

    /// A Destination that is not in effect: wait for it, or bury what is for it once it is known to be deleted.
    fn missing(&mut self, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let unusable = self.snapshot.unusable.contains_key(&lane.key);
        let deleted = !unusable && self.handle.complete.load(Relaxed);
        if !deleted {
            lane.missing_since = None;
            return;
        }
        let grace = self.parts.options.deletion_grace;
        let since = *lane.missing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= grace {
            self.bury(id, None, DeadReason::DestinationDeleted);
        } else {
            look_again(&mut self.timers, id, lane, since + grace);
        }
    }

    fn bury(&mut self, id: u64, only_from: Option<Namespace>, reason: DeadReason) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.busy = true;
        lane.due = false;
        lane.bury = None;
        let queue = Arc::clone(&self.parts.queue);
        let destination = lane.key.clone();
        let call = async move {
            let result = queue.bury(destination, only_from, reason).await;
            Done::Buried { lane: id, reason, result }
        };
        self.running.push(call.boxed());
    }

    pub(super) fn buried(&mut self, id: u64, reason: DeadReason, result: Result<u64, zen_queue::Error>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.busy = false;
        match result {
            Ok(0) => {}
            Ok(count) => {
                if matches!(reason, DeadReason::ConsentWithdrawn | DeadReason::DestinationDeleted) {
                    self.parts.metrics.withdrawn.inc_by(count);
                }
                tracing::warn!(destination = %lane.key, count, reason = reason.code(), "deliveries became dead letters");
            }
            Err(error) => {
                tracing::warn!(destination = %lane.key, %error, reason = reason.code(), "failed to bury deliveries");
                lane.due = true;
                look_again(&mut self.timers, id, lane, Instant::now() + PAUSE);
                return;
            }
        }
        enqueue(&mut self.line, id, lane);
        self.look = true;
    }

    pub(super) fn leased(
        &mut self,
        id: u64,
        session_id: u64,
        asked: usize,
        term: Duration,
        result: Result<Vec<Leased>, zen_queue::Error>,
    ) {
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.asked = session.asked.saturating_sub(asked);
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.busy = false;
        let leased = match result {
            Ok(leased) => leased,
            Err(error) => {
                tracing::warn!(destination = %lane.key, %error, "failed to lease");
                lane.due = true;
                if lane.probe == Probe::Asked {
                    lane.abandon_probe();
                }
                look_again(&mut self.timers, id, lane, Instant::now() + PAUSE);
                return;
            }
        };
        if leased.is_empty() {
            if lane.probe == Probe::Asked {
                lane.abandon_probe();
            }
            // It may have become due while the queue was asked.
            enqueue(&mut self.line, id, lane);
            return;
        }
        // More may be due; an empty answer will end it.
        lane.due = true;
        enqueue(&mut self.line, id, lane);
        match self.taker(id, session_id) {
            Some(taker) => self.hand_out(id, taker, term, leased),
            None => self.give_back(id, leased),
        }
    }

    /// The session that leases were asked for, or another one if it has ended or drains since.
    fn taker(&mut self, id: u64, session: u64) -> Option<u64> {
        if self.sessions.get(&session).is_some_and(|session| !session.is_draining()) {
            return Some(session);
        }
        let key = self.lanes.get(&id)?.key.clone();
        let destination = self.snapshot.destination(&key).cloned()?;
        self.offer(id, &destination).map(|(session, _)| session)
    }

    /// Nobody is there for them any more. They never left, so nobody lost them.
    fn give_back(&mut self, id: u64, leased: Vec<Leased>) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.probe == Probe::Asked
        {
            lane.abandon_probe();
        }
        let settlement = Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain };
        let settled = leased.into_iter().map(|leased| Settled {
            token: leased.token,
            settlement: settlement.clone(),
            attempt: None,
        });
        self.settle(settled.collect());
        self.look = true;
    }

    /// Signs what was leased and sends it, but for what may no longer go to this Destination.
    fn hand_out(&mut self, id: u64, session_id: u64, term: Duration, leased: Vec<Leased>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let destination = self.snapshot.destination(&lane.key);
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        // While the queue was asked, the Destination may have become another's.
        if destination.is_some_and(|destination| !session.carrier.takes(destination))
            || destination.is_none() && matches!(session.carrier, Carrier::Relay(_))
        {
            return self.give_back(id, leased);
        }
        let keys = match &session.carrier {
            Carrier::Relay(admitted) => &admitted.keys,
            Carrier::Link | Carrier::InProcess => &self.parts.keys,
        };
        let keys = Arc::clone(keys);
        let now = Timestamp::now();
        let expires = Instant::now() + term;
        let name = lane.key.to_string();
        let slots = lane.shares.iter().find(|share| share.session == session_id).map_or(0, |share| share.slots);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let mut frames = Vec::with_capacity(leased.len());
        let mut refused = Vec::new();
        let mut withdrawn = HashSet::new();
        for leased in leased {
            if let Some(destination) = destination
                && !consents(destination, &leased.event.namespace)
            {
                withdrawn.insert(leased.event.namespace.clone());
                let settlement = Settlement::Dead { reason: DeadReason::ConsentWithdrawn };
                refused.push(Settled { token: leased.token, settlement, attempt: None });
                continue;
            }
            lane.leased += 1;
            if lane.probe == Probe::Asked {
                lane.probe = Probe::Out(leased.token);
            }
            session.hold(leased.token, Held { lane: id, bytes: leased.record.len(), expires, term, begun: false });
            frames.push(frame::Lease {
                token: convert::frame_token(leased.token),
                destination: name.clone(),
                attempts: leased.attempts,
                first_attempt: leased.first_attempt.map_or(0, |at| at.0),
                signature: keys.sign(&leased.event.id, &leased.event.content_hash, now),
                slots,
                record: leased.record,
            });
        }
        if lane.probe == Probe::Asked {
            lane.abandon_probe();
        }
        self.parts.metrics.leases.inc_by(frames.len() as u64);
        self.parts.metrics.frames.inc_by(session.send_leases(frames));
        session.show();
        if !refused.is_empty() {
            self.parts.metrics.withdrawn.inc_by(refused.len() as u64);
            self.settle(refused);
        }
        for namespace in withdrawn {
            self.bury(id, Some(Namespace::from(namespace)), DeadReason::ConsentWithdrawn);
        }
    }
}
