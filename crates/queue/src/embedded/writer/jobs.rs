//! Long operations in steps: each step is a transaction of its own between two batches.

use std::collections::HashSet;

use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::{Writer, begin};
use crate::embedded::batch::{self, Batch};
use crate::embedded::command::{Bury, BuryPlace, Expire, Job, Replay};
use crate::embedded::journal::What;
use crate::embedded::lane::{Origin, Waiting};
use crate::embedded::query::dead::Condition;
use crate::embedded::sql::{int, uint};
use crate::{DeliveryId, Error, Fault};

/// Rows in one step.
const STEP: usize = 512;

impl Writer {
    /// Does one step of the job in front.
    pub(crate) fn step_job(&mut self) {
        let Some(mut job) = self.jobs.pop_front() else { return };
        self.upkeep.now = self.upkeep.now.max(job.now());
        let stepped = match &mut job {
            Job::Bury(bury) => self.step_with(|writer, batch| writer.bury(batch, bury)),
            Job::Replay(replay) => self.step_with(|writer, batch| writer.replay(batch, replay)),
            Job::Expire(expire) => self.expire_step(expire),
            Job::Export(_) | Job::Adopt(_) | Job::Forget(_) | Job::Heir(_) => return self.hand_over(job),
        };
        match stepped {
            Ok(true) => self.jobs.push_front(job),
            Ok(false) => self.answer(job, None),
            Err(error) => {
                let fault = self.fail(&error);
                self.answer(job, Some(fault));
            }
        }
    }

    /// Jobs of one step.
    fn hand_over(&mut self, job: Job) {
        match job {
            Job::Export(export) => {
                let done = self.export(&export);
                let _ = export.answer.send(done.map_err(|error| Error::Unavailable(self.fail(&error))));
            }
            Job::Adopt(adopt) => {
                // Not a matter of quotas: what comes was acknowledged. But settlements need what is left of the disk.
                let done =
                    if self.low { Err(Fault::DiskFull) } else { self.adopt(&adopt).map_err(|error| self.fail(&error)) };
                let _ = adopt.answer.send(done.map_err(Error::Unavailable));
            }
            Job::Forget(forget) => {
                let done = self.forget(&forget);
                let _ = forget.answer.send(done.map_err(|error| Error::Unavailable(self.fail(&error))));
            }
            Job::Heir(heir) => {
                let done = self.name_heir(&heir);
                let _ = heir.answer.send(done.map_err(|error| Error::Unavailable(self.fail(&error))));
            }
            Job::Bury(_) | Job::Replay(_) | Job::Expire(_) => {}
        }
    }

    fn answer(&mut self, job: Job, fault: Option<Fault>) {
        let failed = || fault.map(Error::Unavailable);
        match job {
            Job::Bury(bury) => {
                self.end_burial(&bury);
                let _ = bury.answer.send(failed().map_or(Ok(bury.done), Err));
            }
            Job::Replay(replay) => {
                let _ = replay.answer.send(failed().map_or(Ok(replay.done), Err));
            }
            Job::Expire(expire) => {
                let _ = expire.answer.send(failed().map_or(Ok(()), Err));
            }
            Job::Export(_) | Job::Adopt(_) | Job::Forget(_) | Job::Heir(_) => {}
        }
    }

    /// One transaction of rows that `step` changes. `step` returns whether there is more to do.
    pub(super) fn step_with(
        &mut self,
        step: impl FnOnce(&Self, &mut Batch<'_>) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<bool> {
        begin(&self.conn)?;
        let mut batch =
            Batch::new(&self.conn, &self.shared.keyring, &self.numbers, &self.claims, &self.segments, self.seq);
        let more = step(self, &mut batch)?;
        let (_, written) = batch.finish(&self.journal, self.upkeep.now)?;
        let effects = batch.done().effects;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.segments.borrow_mut().committed();
        if let Some(written) = written {
            self.journal.committed(written);
        }
        self.upkeep.wrote(effects.len() as u64 * 256, 0);
        let mut state = self.shared.state();
        batch::apply(&mut state, effects, &self.shared.ledger, self.upkeep.now);
        drop(state);
        self.shared.timer.notify_one();
        self.shared.changed();
        Ok(more)
    }

    fn bury(&self, batch: &mut Batch<'_>, bury: &mut Bury) -> rusqlite::Result<bool> {
        let Some(dest) = self.numbers.destinations.of(&bury.destination) else { return Ok(false) };
        let place = bury.place.unwrap_or_else(|| self.begin_burial(dest, bury));
        let leased = self.leased(dest);
        match place {
            BuryPlace::Ready { after, until } => {
                let rows = read_ready(&self.conn, dest, after, until)?;
                for waiting in &rows {
                    self.bury_one(batch, bury, dest, Origin::Ready, *waiting, 0, &leased)?;
                }
                let last = rows.last().map_or(until, |waiting| waiting.seq);
                bury.place = Some(if rows.len() < STEP {
                    BuryPlace::Retries { after: (0, 0) }
                } else {
                    BuryPlace::Ready { after: last, until }
                });
                Ok(true)
            }
            BuryPlace::Retries { after } => {
                let rows = read_retries(&self.conn, dest, after)?;
                for (due, waiting, attempts) in &rows {
                    let origin = Origin::Retry { due: *due };
                    self.bury_one(batch, bury, dest, origin, *waiting, *attempts, &leased)?;
                }
                if let Some((due, waiting, _)) = rows.last() {
                    bury.place = Some(BuryPlace::Retries { after: (*due, waiting.seq) });
                }
                Ok(rows.len() == STEP)
            }
        }
    }

    /// Grants stop, so that nothing is leased from under the burial; what is leased now is doomed.
    fn begin_burial(&self, dest: u32, bury: &Bury) -> BuryPlace {
        let mut state = self.shared.state();
        state.recent.clear();
        let webhooks: Vec<_> = state.webhooks.iter().map(|(key, _)| key.namespace.clone()).collect();
        let mut until = 0;
        if let Some(lane) = state.lane(dest) {
            lane.burying = true;
            lane.window.clear();
            lane.retries.clear();
            until = lane.last;
            for lease in lane.leased.values_mut() {
                let namespace = webhooks.get(lease.waiting.webhook as usize - 1);
                if bury.only_from.is_none() || namespace == bury.only_from.as_ref() {
                    lease.doom = Some(bury.reason);
                }
            }
        }
        state.look(dest, bury.now);
        BuryPlace::Ready { after: 0, until }
    }

    fn end_burial(&self, bury: &Bury) {
        let Some(dest) = self.numbers.destinations.of(&bury.destination) else { return };
        let mut state = self.shared.state();
        if let Some(lane) = state.lane(dest) {
            lane.burying = false;
            lane.reset();
        }
        state.look(dest, bury.now);
        drop(state);
        self.shared.changed();
    }

    fn leased(&self, dest: u32) -> HashSet<u64> {
        self.shared.state().lane(dest).map(|lane| lane.leased.keys().copied().collect()).unwrap_or_default()
    }

    #[expect(clippy::too_many_arguments, reason = "one row of two tables, and who may not be touched")]
    fn bury_one(
        &self,
        batch: &mut Batch<'_>,
        bury: &mut Bury,
        dest: u32,
        origin: Origin,
        waiting: Waiting,
        attempts: u32,
        leased: &HashSet<u64>,
    ) -> rusqlite::Result<()> {
        let of = self.shared.state().webhook(waiting.webhook).map(|(key, _)| key.namespace.clone());
        if leased.contains(&waiting.seq) || (bury.only_from.is_some() && of != bury.only_from) {
            return Ok(());
        }
        let delivery = DeliveryId { seq: waiting.seq, destination: dest };
        if batch.take_row(delivery, origin)? {
            batch.bury(delivery, origin, waiting, (bury.reason, attempts, None), bury.now)?;
            bury.done += 1;
        }
        Ok(())
    }

    fn replay(&self, batch: &mut Batch<'_>, replay: &mut Replay) -> rusqlite::Result<bool> {
        let names = self.shared.state().names();
        let Some(condition) = Condition::of(&replay.filter, &names) else { return Ok(false) };
        let want = usize::try_from(replay.limit - replay.done).unwrap_or(usize::MAX).min(STEP);
        let rows = condition.select(&self.conn, want)?;
        for delivery in &rows {
            batch.revive(*delivery, replay.now, What::Replayed)?;
        }
        replay.done += rows.len() as u64;
        Ok(rows.len() == STEP && replay.done < replay.limit)
    }

    fn expire_step(&mut self, expire: &mut Expire) -> rusqlite::Result<bool> {
        let more = self.step_with(|writer, batch| writer.expire_dead(batch, expire))?;
        if more {
            return Ok(true);
        }
        begin(&self.conn)?;
        let swept = self.claims.sweep(&self.conn, Some(expire.now), STEP)?;
        let oldest = expire.now.saturating_sub(self.upkeep.history_age);
        let trimmed = self.journal.trim(&self.conn, self.shared.options.history_bytes, oldest)?;
        // Nobody sends a page again after so long.
        self.conn.prepare_cached("DELETE FROM adopted WHERE at <= ?1")?.execute([int(oldest)])?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.claims.swept(&swept);
        self.journal.trimmed(trimmed);
        let mut state = self.shared.state();
        state.counts.claims = self.claims.len();
        state.counts.claims_dropped = self.claims.dropped;
        Ok(swept.len() == STEP || trimmed > 0)
    }

    fn expire_dead(&self, batch: &mut Batch<'_>, expire: &mut Expire) -> rusqlite::Result<bool> {
        let names = self.shared.state().names();
        let otherwise = self.shared.options.dead_letter_retention;
        let shortest = expire.retention.values().copied().chain([otherwise]).min().unwrap_or(otherwise);
        let mut select = self.conn.prepare_cached(
            "SELECT since, seq, dest FROM dead WHERE since <= ?1 AND (since, seq, dest) > (?2, ?3, ?4)
             ORDER BY since, seq, dest LIMIT ?5",
        )?;
        let cutoff = expire.now.saturating_sub(super::super::clock::millis(shortest));
        let after = expire.after;
        let rows: Vec<(u64, u64, u32)> = select
            .query_map(params![int(cutoff), int(after.0), int(after.1), after.2, int(STEP as u64)], |row| {
                Ok((uint(row, 0)?, uint(row, 1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        for &(since, seq, dest) in &rows {
            expire.after = (since, seq, dest);
            let retention = expire.retention.get(&names.destination(dest)).copied().unwrap_or(otherwise);
            if since.saturating_add(super::super::clock::millis(retention)) > expire.now {
                continue;
            }
            let delivery = DeliveryId { seq, destination: dest };
            if let Some(waiting) = batch.take_dead(delivery)? {
                batch.unref(waiting)?;
                batch.effects.push(batch::Effect::DeadGone { dest, bytes: waiting.bytes });
            }
        }
        Ok(rows.len() == STEP)
    }
}

fn read_ready(conn: &Connection, dest: u32, after: u64, until: u64) -> rusqlite::Result<Vec<Waiting>> {
    conn.prepare_cached(
        "SELECT seq, at, bytes, webhook FROM ready WHERE dest = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
    )?
    .query_map(params![dest, int(after), int(until), int(STEP as u64)], |row| {
        Ok(Waiting { seq: uint(row, 0)?, at: uint(row, 1)?, bytes: row.get(2)?, webhook: row.get(3)? })
    })?
    .collect()
}

fn read_retries(conn: &Connection, dest: u32, after: (u64, u64)) -> rusqlite::Result<Vec<(u64, Waiting, u32)>> {
    let values = [Value::from(dest), Value::from(int(after.0)), Value::from(int(after.1))];
    conn.prepare_cached(&format!(
        "SELECT due, seq, at, bytes, webhook, attempts FROM retry
         WHERE dest = ?1 AND (due, seq) > (?2, ?3) ORDER BY due, seq LIMIT {STEP}"
    ))?
    .query_map(params_from_iter(values), |row| {
        let waiting = Waiting { seq: uint(row, 1)?, at: uint(row, 2)?, bytes: row.get(3)?, webhook: row.get(4)? };
        Ok((uint(row, 0)?, waiting, row.get(5)?))
    })?
    .collect()
}
