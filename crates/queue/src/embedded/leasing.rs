//! Committing, leasing and settling, on the caller's side of the writer.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::sync::oneshot;
use zen_model::{DeadReason, Event, EventId, ObjectKey, Settlement, Timestamp};

use super::clock::millis;
use super::command::{Command, Ending, How, Incoming, Settle};
use super::inbox::Refused;
use super::query;
use super::reader::For;
use super::shared::Shared;
use super::state::{Grant, Held};
use super::{Embedded, closed, fault, sql};
use crate::{CommitError, Committed, Demand, Error, LeaseToken, Leased, NewEvent, Settled};

impl Embedded {
    pub(super) async fn commit_event(&self, entry: NewEvent) -> Result<Committed, CommitError> {
        let NewEvent { mut event, destinations, claim } = entry;
        if let Some(fault) = self.shared.fault() {
            return Err(CommitError::Unavailable(fault));
        }
        if event.id.is_empty() {
            event.id = fresh_id();
        }
        let destinations = distinct(destinations);
        let webhook = event.webhook_key();
        let record = Bytes::from(event.encode_to_vec());
        let size = record.len();
        // The body is the record's last field: from here on it lies in memory once.
        event.body = record.slice(size - event.body.len()..);
        self.shared.ledger.reserve(&webhook.namespace, &destinations, size)?;
        let sealed = if destinations.is_empty() {
            Vec::new()
        } else {
            self.shared.keyring.seal(&query::record_aad(&webhook, &event.id), &record)
        };
        let (answer, answered) = oneshot::channel();
        let incoming = Incoming {
            webhook,
            id: EventId::from(event.id.as_str()),
            at: event.time,
            event,
            destinations,
            claim,
            record,
            sealed,
            now: self.shared.clock.now(),
            answer,
        };
        if let Err((command, refused)) = self.shared.inbox.push(Command::Commit(Box::new(incoming))) {
            if let Command::Commit(incoming) = command {
                self.shared.ledger.refund(&incoming.webhook.namespace, &incoming.destinations, size);
            }
            return Err(if refused == Refused::Full { CommitError::Overloaded } else { closed() });
        }
        self.shared.answer(answered).await.unwrap_or_else(|| Err(closed()))
    }

    pub(super) async fn lease_due(&self, demand: Demand) -> Result<Vec<Leased>, Error> {
        let bounds = (demand.max, demand.max_bytes);
        let Some(number) = self.shared.state().number(&demand.destination) else { return Ok(Vec::new()) };
        let mut granted = Granted::new(&self.shared);
        for again in [true, false] {
            let now = self.shared.clock.now();
            let (grants, refill, more) = {
                let mut state = self.shared.state();
                let wake_at = state.wake_at;
                let (grants, refill) = state.grant(number, bounds, demand.term, now);
                if state.wake_at < wake_at {
                    self.shared.timer.notify_one();
                }
                let more = state.lane_ref(number).is_some_and(|lane| lane.is_due(now));
                (grants, refill, more)
            };
            let empty = grants.is_empty();
            granted.0.extend(grants);
            if empty && more && again && demand.max > 0 {
                // The window ran dry and the disk has more.
                let (answer, filled) = oneshot::channel();
                self.shared.send(Command::Refill { lane: number, answer: Some(answer) })?;
                self.shared.answer(filled).await;
                continue;
            }
            if refill {
                self.shared.send(Command::Refill { lane: number, answer: None })?;
            }
            break;
        }
        let records = self.records(&granted.0).await?;
        let grants = std::mem::take(&mut granted.0);
        let mut damaged = Vec::new();
        let mut leased = Vec::with_capacity(grants.len());
        for (grant, record) in grants.into_iter().zip(records) {
            match record {
                Some((record, event)) => leased.push(Leased {
                    token: grant.token,
                    attempts: grant.tries.attempts,
                    first_attempt: grant.tries.first.map(Timestamp),
                    record,
                    event,
                }),
                None => damaged.push(grant.token),
            }
        }
        self.end(&damaged, How::Dead(DeadReason::RecordDamaged));
        Ok(leased)
    }

    /// The records of grants with their events, in their order; none for one that cannot be read.
    async fn records(&self, grants: &[Grant]) -> Result<Vec<Option<(Bytes, Event)>>, Error> {
        let mut records: Vec<Option<(Bytes, Event)>> = {
            let mut state = self.shared.state();
            grants.iter().map(|grant| state.recent(grant.waiting.seq)).collect()
        };
        let missing: Vec<usize> =
            records.iter().enumerate().filter(|(_, record)| record.is_none()).map(|(at, _)| at).collect();
        if missing.is_empty() {
            return Ok(records);
        }
        let seqs: Vec<u64> = missing.iter().map(|at| grants[*at].waiting.seq).collect();
        let (names, stored) = (self.shared.state().names(), self.shared.records.clone());
        let folder = self.shared.folder.clone();
        let answered = self.readers.run(For::Records, move |conn| {
            let opened = |seq| match query::event(conn, &stored, &names, seq) {
                // No descriptor is free, say: that is no damage. These deliveries stay due.
                Err(error) if sql::is_io(&error) => Err(Error::Unavailable(fault::of(&error, &folder))),
                // A page that cannot be read costs its own deliveries, not the others'.
                read => Ok(read.ok().flatten().and_then(|stored| {
                    let record = stored.record?;
                    let event = Event::decode(record.clone()).ok()?;
                    Some((record, event))
                })),
            };
            seqs.into_iter().map(opened).collect::<Result<Vec<_>, _>>()
        });
        let read = self.shared.answer(answered).await.ok_or(Error::Closed)??;
        for (at, record) in missing.into_iter().zip(read) {
            records[at] = record;
        }
        Ok(records)
    }

    pub(super) async fn settle_all(&self, settled: Vec<Settled>) -> Result<(), Error> {
        let now = self.shared.clock.now();
        let furthest = now.saturating_add(millis(self.shared.options.furthest_due));
        let due = |after| now.saturating_add(millis(after)).min(furthest);
        let mut endings = Vec::with_capacity(settled.len());
        {
            let mut state = self.shared.state();
            for Settled { token, settlement, attempt } in settled {
                let held = state.lease(token).filter(|lease| !lease.busy).map(|lease| {
                    lease.busy = true;
                    Held::from(&*lease)
                });
                let how = match settlement {
                    Settlement::Ack => How::Ack,
                    // Anything else of a lease that is not the current one says nothing about the current one.
                    _ if held.is_none() => continue,
                    Settlement::Retry { after } => How::Retry { due: due(after) },
                    Settlement::Dead { reason } => How::Dead(reason),
                    Settlement::Release { after, .. } if after.is_zero() => How::Release { due: None },
                    Settlement::Release { after, .. } => How::Release { due: Some(due(after)) },
                };
                endings.push(Ending { token, held, how, attempt });
            }
        }
        if endings.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.shared.send(Command::Settle(Settle { endings, now, answer: Some(answer) }))?;
        self.shared.answer(answered).await.unwrap_or(Err(Error::Closed))
    }

    pub(super) async fn begin_all(&self, leases: Vec<LeaseToken>) -> Result<Vec<LeaseToken>, Error> {
        let good: Vec<LeaseToken> = {
            let mut state = self.shared.state();
            let mut mark = |token: &LeaseToken| match state.lease(*token) {
                // From here on the writer decides; a lease that ends meanwhile is dead as ambiguous, to be safe.
                Some(lease) if !lease.busy => {
                    (lease.busy, lease.begun) = (true, true);
                    true
                }
                _ => false,
            };
            leases.into_iter().filter(|token| mark(token)).collect()
        };
        if good.is_empty() {
            return Ok(good);
        }
        let (answer, answered) = oneshot::channel();
        self.shared.send(Command::Begin { tokens: good, answer })?;
        self.shared.answer(answered).await.unwrap_or(Err(Error::Closed))
    }

    pub(super) fn abandon_all(&self, leases: &[LeaseToken]) {
        let ended = self.end(leases, How::Lost);
        self.shared.state().counts.lost_leases += ended;
    }

    /// Ends current leases without waiting for it. Returns how many were current.
    pub(super) fn end(&self, leases: &[LeaseToken], how: How) -> u64 {
        let now = self.shared.clock.now();
        let endings: Vec<Ending> = {
            let mut state = self.shared.state();
            let mut held = |token: &LeaseToken| {
                let lease = state.lease(*token).filter(|lease| !lease.busy)?;
                lease.busy = true;
                Some(Held::from(&*lease))
            };
            let ending = |token: &LeaseToken| {
                held(token).map(|held| Ending { token: *token, held: Some(held), how, attempt: None })
            };
            leases.iter().filter_map(ending).collect()
        };
        let count = endings.len() as u64;
        self.shared.settle_quietly(Settle { endings, now, answer: None });
        count
    }
}

/// Each destination once, in their order. Most events have one; few have more than a handful.
fn distinct(mut destinations: Vec<ObjectKey>) -> Vec<ObjectKey> {
    match destinations.len() {
        0 | 1 => {}
        2..=16 => {
            for at in (1..destinations.len()).rev() {
                let (before, from) = destinations.split_at(at);
                if before.contains(&from[0]) {
                    destinations.remove(at);
                }
            }
        }
        _ => {
            let mut seen = HashSet::with_capacity(destinations.len());
            destinations.retain(|key| seen.insert(key.clone()));
        }
    }
    destinations
}

/// UUID version 7 (RFC 9562): milliseconds and 74 random bits, so that no restart and no other replica makes an equal one.
fn fresh_id() -> String {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(Timestamp::now().0, &random).into_uuid().to_string()
}

/// Grants whose records are being fetched: given back when the caller goes away in between.
struct Granted<'a>(Vec<Grant>, &'a Arc<Shared>);

impl<'a> Granted<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        Self(Vec::new(), shared)
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let now = self.1.clock.now();
            self.1.state().ungrant(&self.0, now);
            self.1.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_distinct_and_keep_their_order() {
        for count in [0, 1, 2, 5, 40] {
            let keys: Vec<_> = (0..count).map(|n| ObjectKey::new("a", format!("d{n}"))).collect();
            let twice: Vec<_> = keys.iter().chain(keys.iter().rev()).cloned().collect();
            assert_eq!(distinct(keys.clone()), keys);
            assert_eq!(distinct(twice), keys);
        }
    }
}
