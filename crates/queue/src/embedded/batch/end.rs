//! Ends of leases, in the transaction and afterwards in memory.

use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension, params};
use zen_model::DeadReason;
use zen_model::settle::Attempt;
use zen_seal::Aad;

use super::{Batch, Effect};
use crate::embedded::command::{Ending, How};
use crate::embedded::journal::{Entry, What};
use crate::embedded::lane::{Origin, Tries, Waiting};
use crate::embedded::ledger::{self, Ledger};
use crate::embedded::sql::{int, uint};
use crate::embedded::state::{Held, State};
use crate::{DeliveryId, LeaseToken, MAX_LOST_LEASES};

/// The part of a response that a dead letter keeps.
pub(crate) const RESPONSE_BYTES: usize = 4096;

/// Binds a kept response to its place.
pub(crate) fn response_aad(delivery: DeliveryId) -> Aad {
    let DeliveryId { seq, destination } = delivery;
    Aad::new("zen-mesh/queue/response", &[&seq.to_be_bytes(), &destination.to_be_bytes()])
}

impl Batch<'_> {
    /// Ends one lease.
    pub(crate) fn end(&mut self, ending: &Ending, now: u64) -> rusqlite::Result<()> {
        let Some(held) = ending.held else { return self.stale_ack(ending, now) };
        let token = ending.token;
        if held.begun {
            self.unmark(token.delivery)?;
        }
        if held.exported {
            self.unhand(token.delivery)?;
        }
        let attempt = ending.attempt.as_ref();
        match decide(ending.how, &held) {
            How::Release { due: None } => self.effects.push(Effect::PutBack { token }),
            _ if !self.take_row(token.delivery, held.origin)? => self.effects.push(Effect::Forget { token }),
            How::Ack => {
                let attempts = held.tries.attempts + 1;
                self.delivered(token.delivery, held.origin, held.waiting, (attempts, attempt), now)?;
            }
            How::Dead(reason) => {
                let charged = held.tries.attempts + u32::from(attempt.is_some());
                self.bury(token.delivery, held.origin, held.waiting, (reason, charged, attempt), now)?;
            }
            How::Retry { due } => {
                let first = held.tries.first.or(attempt.map(|attempt| attempt.at.0)).or(Some(now));
                let tries = Tries { attempts: held.tries.attempts + 1, first, lost: 0 };
                self.back_off(token.delivery, &held, due, tries)?;
                let mut entry = Entry::new(What::Attempt, held.waiting.seq, token.delivery.destination, now);
                (entry.attempts, entry.due) = (tries.attempts, due);
                self.history.push(&entry.with(attempt));
            }
            How::Release { due: Some(due) } => self.back_off(token.delivery, &held, due, held.tries)?,
            How::Lost => {
                let tries = Tries { lost: held.tries.lost + 1, ..held.tries };
                self.back_off(token.delivery, &held, now, tries)?;
                self.history.push(&Entry::new(What::LostLease, held.waiting.seq, token.delivery.destination, now));
            }
        }
        Ok(())
    }

    /// Moves a delivery, whose row was taken, to the dead letters.
    pub(crate) fn bury(
        &mut self,
        delivery: DeliveryId,
        origin: Origin,
        waiting: Waiting,
        (reason, attempts, attempt): (DeadReason, u32, Option<&Attempt>),
        now: u64,
    ) -> rusqlite::Result<()> {
        let DeliveryId { seq, destination: dest } = delivery;
        self.conn
            .prepare_cached(
                "INSERT INTO dead(dest, seq, since, reason, attempts, at, bytes, webhook, status, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                dest,
                int(seq),
                int(now),
                reason as u8,
                attempts,
                int(waiting.at),
                waiting.bytes,
                waiting.webhook,
                attempt.map_or(0, |attempt| attempt.status),
                attempt.and_then(|attempt| attempt.error)
            ])?;
        if let Some(attempt) = attempt.filter(|attempt| !attempt.response.is_empty()) {
            let kept = &attempt.response[..attempt.response.len().min(RESPONSE_BYTES)];
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO response(dest, seq, body) VALUES (?1, ?2, ?3)")?
                .execute(params![dest, int(seq), self.keyring.seal(&response_aad(delivery), kept)])?;
        }
        let mut entry = Entry::new(What::Dead, seq, dest, now);
        (entry.attempts, entry.reason) = (attempts, u32::from(reason as u8));
        self.history.push(&entry.with(attempt));
        self.effects.push(Effect::Died { delivery, origin });
        Ok(())
    }

    /// Deletes the row of a waiting delivery. False: there is none.
    pub(crate) fn take_row(&mut self, delivery: DeliveryId, origin: Origin) -> rusqlite::Result<bool> {
        let DeliveryId { seq, destination: dest } = delivery;
        let deleted = match origin {
            Origin::Ready => self.delete_ready.on(self.conn)?.execute(params![dest, int(seq)])?,
            Origin::Retry { due } => self
                .conn
                .prepare_cached("DELETE FROM retry WHERE dest = ?1 AND due = ?2 AND seq = ?3")?
                .execute(params![dest, int(due), int(seq)])?,
        };
        Ok(deleted > 0)
    }

    /// Marks a delivery as begun (D-04).
    pub(crate) fn mark(&mut self, token: LeaseToken) -> rusqlite::Result<()> {
        let DeliveryId { seq, destination: dest } = token.delivery;
        self.conn
            .prepare_cached("INSERT OR IGNORE INTO started(dest, seq) VALUES (?1, ?2)")?
            .execute(params![dest, int(seq)])?;
        self.effects.push(Effect::Begun { token });
        Ok(())
    }

    pub(super) fn unmark(&self, delivery: DeliveryId) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM started WHERE dest = ?1 AND seq = ?2")?
            .execute(params![delivery.destination, int(delivery.seq)])?;
        Ok(())
    }

    fn back_off(&mut self, delivery: DeliveryId, held: &Held, due: u64, tries: Tries) -> rusqlite::Result<()> {
        self.insert_retry(delivery.destination, due, held.waiting, tries)?;
        let (origin, waiting) = (held.origin, held.waiting);
        self.effects.push(Effect::BackOff { delivery, origin, due, waiting, tries });
        Ok(())
    }

    fn delivered(
        &mut self,
        delivery: DeliveryId,
        origin: Origin,
        waiting: Waiting,
        (attempts, attempt): (u32, Option<&Attempt>),
        now: u64,
    ) -> rusqlite::Result<()> {
        self.unref(waiting)?;
        let mut entry = Entry::new(What::Delivered, delivery.seq, delivery.destination, now);
        entry.attempts = attempts;
        self.history.push(&entry.with(attempt));
        self.effects.push(Effect::Gone { delivery, origin, bytes: waiting.bytes });
        Ok(())
    }

    /// An attempt of an earlier process had begun: nobody knows how it ended.
    pub(crate) fn bury_begun(&mut self, delivery: DeliveryId, now: u64) -> rusqlite::Result<()> {
        self.unmark(delivery)?;
        let at = params![delivery.destination, int(delivery.seq)];
        let ready = self
            .conn
            .prepare_cached("SELECT at, bytes, webhook FROM ready WHERE dest = ?1 AND seq = ?2")?
            .query_row(at, |row| {
                Ok(Waiting { seq: delivery.seq, at: uint(row, 0)?, bytes: row.get(1)?, webhook: row.get(2)? })
            })
            .optional()?;
        let retry = self
            .conn
            .prepare_cached("SELECT at, bytes, webhook, due, attempts FROM retry WHERE dest = ?1 AND seq = ?2")?
            .query_row(at, |row| {
                let waiting =
                    Waiting { seq: delivery.seq, at: uint(row, 0)?, bytes: row.get(1)?, webhook: row.get(2)? };
                Ok((waiting, uint(row, 3)?, row.get::<_, u32>(4)?))
            })
            .optional()?;
        let (origin, waiting, attempts) = match (ready, retry) {
            (Some(waiting), _) => (Origin::Ready, waiting, 0),
            (None, Some((waiting, due, attempts))) => (Origin::Retry { due }, waiting, attempts),
            (None, None) => return Ok(()),
        };
        self.take_row(delivery, origin)?;
        self.bury(delivery, origin, waiting, (DeadReason::Ambiguous, attempts + 1, None), now)
    }

    /// The target did get it: whatever became of the delivery since, it is done. Rare, so that a search is cheap enough.
    fn stale_ack(&mut self, ending: &Ending, now: u64) -> rusqlite::Result<()> {
        let delivery = ending.token.delivery;
        let at = params![delivery.destination, int(delivery.seq)];
        let waiting = |row: &rusqlite::Row<'_>| {
            Ok(Waiting { seq: delivery.seq, at: uint(row, 0)?, bytes: row.get(1)?, webhook: row.get(2)? })
        };
        self.unmark(delivery)?;
        let ready = self
            .conn
            .prepare_cached("DELETE FROM ready WHERE dest = ?1 AND seq = ?2 RETURNING at, bytes, webhook")?
            .query_row(at, waiting)
            .optional()?;
        if let Some(waiting) = ready {
            return self.delivered(delivery, Origin::Ready, waiting, (1, ending.attempt.as_ref()), now);
        }
        let retry = self
            .conn
            .prepare_cached(
                "DELETE FROM retry WHERE dest = ?1 AND seq = ?2 RETURNING at, bytes, webhook, due, attempts",
            )?
            .query_row(at, |row| Ok((waiting(row)?, uint(row, 3)?, row.get::<_, u32>(4)?)))
            .optional()?;
        if let Some((waiting, due, attempts)) = retry {
            let attempt = (attempts + 1, ending.attempt.as_ref());
            return self.delivered(delivery, Origin::Retry { due }, waiting, attempt, now);
        }
        if let Some(waiting) = self.take_dead(delivery)? {
            self.unref(waiting)?;
            let entry = Entry::new(What::Delivered, delivery.seq, delivery.destination, now);
            self.history.push(&entry.with(ending.attempt.as_ref()));
            self.effects.push(Effect::DeadGone { dest: delivery.destination, bytes: waiting.bytes });
        }
        Ok(())
    }
}

/// What an end comes to: a burial meanwhile, a begun attempt or too many lost leases turn it into a dead letter.
fn decide(how: How, held: &Held) -> How {
    match (how, held.doom) {
        (How::Ack, _) => How::Ack,
        (How::Lost, _) if held.begun => How::Dead(DeadReason::Ambiguous),
        (How::Dead(reason), _) | (_, Some(reason)) => How::Dead(reason),
        (How::Lost, None) if held.tries.lost >= MAX_LOST_LEASES => How::Dead(DeadReason::Poison),
        (other, None) => other,
    }
}

impl Effect {
    /// The destination it is about; 0 for none.
    pub(crate) fn lane(&self) -> u32 {
        match self {
            Self::Append { dest, .. }
            | Self::Revived { dest, .. }
            | Self::DeadGone { dest, .. }
            | Self::Arrived { dest, .. }
            | Self::ArrivedDead { dest, .. } => *dest,
            Self::PutBack { token } | Self::Forget { token } | Self::Begun { token } => token.delivery.destination,
            Self::Gone { delivery, .. } | Self::BackOff { delivery, .. } | Self::Died { delivery, .. } => {
                delivery.destination
            }
            Self::EventGone { .. } | Self::EventHere { .. } => 0,
        }
    }

    pub(crate) fn apply(self, state: &mut State, ledger: &Ledger) {
        if let Self::EventGone { webhook, bytes } = self {
            ledger::subtract(&ledger.global, u64::from(bytes));
            if let Some((_, namespace)) = state.webhook(webhook) {
                ledger::subtract(namespace, u64::from(bytes));
            }
            return;
        }
        if let Self::EventHere { webhook, bytes } = self {
            ledger.global.fetch_add(u64::from(bytes), Ordering::Relaxed);
            if let Some((_, namespace)) = state.webhook(webhook) {
                namespace.fetch_add(u64::from(bytes), Ordering::Relaxed);
            }
            return;
        }
        let Some(lane) = state.lane(self.lane()) else { return };
        match self {
            Self::Append { waiting, .. } => lane.append(waiting),
            Self::PutBack { token } => {
                if lane.leased.get(&token.delivery.seq).is_some_and(|lease| lease.number == token.lease)
                    && let Some(lease) = lane.leased.remove(&token.delivery.seq)
                {
                    lane.put_back(lease.origin, lease.waiting, lease.tries);
                }
            }
            Self::Forget { token } => {
                if lane.leased.get(&token.delivery.seq).is_some_and(|lease| lease.number == token.lease) {
                    lane.leased.remove(&token.delivery.seq);
                }
            }
            Self::Gone { delivery, origin, bytes } => {
                lane.remove(delivery.seq, origin);
                ledger::subtract(&lane.account, u64::from(bytes));
            }
            Self::BackOff { delivery, origin, due, waiting, tries } => {
                lane.remove(delivery.seq, origin);
                lane.add_retry(due, waiting, tries);
            }
            Self::Died { delivery, origin } => {
                lane.remove(delivery.seq, origin);
                lane.dead_rows += 1;
            }
            Self::Revived { due, waiting, .. } => {
                lane.dead_rows = lane.dead_rows.saturating_sub(1);
                lane.add_retry(due, waiting, Tries::default());
            }
            Self::DeadGone { bytes, .. } => {
                lane.dead_rows = lane.dead_rows.saturating_sub(1);
                ledger::subtract(&lane.account, u64::from(bytes));
            }
            Self::Begun { token } => {
                if let Some(lease) = lane.leased.get_mut(&token.delivery.seq).filter(|l| l.number == token.lease) {
                    (lease.begun, lease.busy) = (true, false);
                }
            }
            Self::Arrived { due, waiting, tries, .. } => {
                lane.add_retry(due, waiting, tries);
                lane.account.fetch_add(u64::from(waiting.bytes), Ordering::Relaxed);
            }
            Self::ArrivedDead { bytes, .. } => {
                lane.dead_rows += 1;
                lane.account.fetch_add(u64::from(bytes), Ordering::Relaxed);
            }
            Self::EventGone { .. } | Self::EventHere { .. } => {}
        }
    }
}
