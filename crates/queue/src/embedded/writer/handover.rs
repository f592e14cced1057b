//! The writer's part of a handover: picks and holds a page, stores one that came in, deletes one that a peer has.

use rusqlite::{OptionalExtension, params};

use super::{Writer, begin, large, sync};
use crate::embedded::batch::{self, Batch, Done};
use crate::embedded::claims::{Claims, New};
use crate::embedded::command::{Adopt, Export, Forget, Heir, Picked, PickedWaiting};
use crate::embedded::lane::{Origin, Tries, Waiting};
use crate::embedded::options::Point;
use crate::embedded::sql::{int, uint};
use crate::handover::{Adopted, Place};
use crate::{DeliveryId, LeaseToken};

/// Rows that are looked at in one go.
const STEP: usize = 512;
/// What a delivery weighs beside its record and response.
const OVERHEAD: usize = 256;

/// What is left of a page's budget.
struct Room {
    left: usize,
    empty: bool,
}

impl Room {
    /// Whether so many bytes more fit; the first always does.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.empty || bytes <= self.left;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.empty = false;
        }
        fits
    }
}

impl Writer {
    /// Holds the deliveries of a page and marks them durably: they may be at the peer when this process dies.
    pub(super) fn export(&mut self, export: &Export) -> rusqlite::Result<Picked> {
        begin(&self.conn)?;
        let mut picked = Picked::default();
        let done = self.pick(export, &mut picked).and_then(|()| self.conn.prepare_cached("COMMIT")?.execute([]));
        if let Err(error) = done {
            let mut state = self.shared.state();
            for held in &picked.waiting {
                let DeliveryId { seq, destination } = held.token.delivery;
                if let Some(lane) = state.lane(destination)
                    && let Some(lease) = lane.leased.remove(&seq)
                {
                    lane.put_back(lease.origin, lease.waiting, lease.tries);
                }
                state.look(destination, export.now);
            }
            return Err(error);
        }
        let mut state = self.shared.state();
        for held in &picked.waiting {
            state.look(held.token.delivery.destination, export.now);
        }
        Ok(picked)
    }

    fn pick(&self, export: &Export, picked: &mut Picked) -> rusqlite::Result<()> {
        let mut room = Room { left: export.bytes, empty: true };
        let mut place = Some(export.place);
        while let Some(here) = place {
            let (full, next) = match here {
                Place::Ready(dest, seq) => self.pick_ready(export, picked, &mut room, (dest, seq))?,
                Place::Retry(dest, due, seq) => self.pick_retries(export, picked, &mut room, (dest, due, seq))?,
                Place::Dead(dest, seq) => self.pick_dead(picked, &mut room, (dest, seq))?,
                Place::Claims(row) => self.pick_claims(picked, &mut room, row)?,
            };
            if full {
                picked.next = next;
                return Ok(());
            }
            place = next;
        }
        Ok(())
    }

    fn pick_ready(
        &self,
        export: &Export,
        picked: &mut Picked,
        room: &mut Room,
        (mut dest, mut seq): (u32, u64),
    ) -> rusqlite::Result<(bool, Option<Place>)> {
        let rows: Vec<(u32, Waiting)> = self
            .conn
            .prepare_cached(
                "SELECT dest, seq, at, bytes, webhook FROM ready WHERE (dest, seq) > (?1, ?2) ORDER BY dest, seq LIMIT ?3",
            )?
            .query_map(params![dest, int(seq), int(STEP as u64)], |row| {
                let waiting =
                    Waiting { seq: uint(row, 1)?, at: uint(row, 2)?, bytes: row.get(3)?, webhook: row.get(4)? };
                Ok((row.get(0)?, waiting))
            })?
            .collect::<Result<_, _>>()?;
        for (of, waiting) in &rows {
            if !self.is_held(*of, waiting.seq) {
                if !room.take(waiting.bytes as usize + OVERHEAD) {
                    return Ok((true, Some(Place::Ready(dest, seq))));
                }
                self.hold(export, picked, *of, (Origin::Ready, *waiting, Tries::default()))?;
            }
            (dest, seq) = (*of, waiting.seq);
        }
        Ok((false, Some(if rows.len() < STEP { Place::Retry(0, 0, 0) } else { Place::Ready(dest, seq) })))
    }

    fn pick_retries(
        &self,
        export: &Export,
        picked: &mut Picked,
        room: &mut Room,
        (mut dest, mut due, mut seq): (u32, u64, u64),
    ) -> rusqlite::Result<(bool, Option<Place>)> {
        let rows: Vec<(u32, u64, Waiting, Tries)> = self
            .conn
            .prepare_cached(
                "SELECT dest, due, seq, at, bytes, webhook, attempts, first, lost FROM retry
                 WHERE (dest, due, seq) > (?1, ?2, ?3) ORDER BY dest, due, seq LIMIT ?4",
            )?
            .query_map(params![dest, int(due), int(seq), int(STEP as u64)], |row| {
                let waiting =
                    Waiting { seq: uint(row, 2)?, at: uint(row, 3)?, bytes: row.get(4)?, webhook: row.get(5)? };
                let first = row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned);
                let tries = Tries { attempts: row.get(6)?, first, lost: row.get(8)? };
                Ok((row.get(0)?, uint(row, 1)?, waiting, tries))
            })?
            .collect::<Result<_, _>>()?;
        for (of, until, waiting, tries) in &rows {
            if !self.is_held(*of, waiting.seq) {
                if !room.take(waiting.bytes as usize + OVERHEAD) {
                    return Ok((true, Some(Place::Retry(dest, due, seq))));
                }
                self.hold(export, picked, *of, (Origin::Retry { due: *until }, *waiting, *tries))?;
            }
            (dest, due, seq) = (*of, *until, waiting.seq);
        }
        Ok((false, Some(if rows.len() < STEP { Place::Dead(0, 0) } else { Place::Retry(dest, due, seq) })))
    }

    fn pick_dead(
        &self,
        picked: &mut Picked,
        room: &mut Room,
        (mut dest, mut seq): (u32, u64),
    ) -> rusqlite::Result<(bool, Option<Place>)> {
        let rows: Vec<(DeliveryId, u32)> = self
            .conn
            .prepare_cached(
                "SELECT dest, seq, bytes + coalesce((SELECT length(body) FROM response
                   WHERE response.dest = dead.dest AND response.seq = dead.seq), 0)
                 FROM dead WHERE (dest, seq) > (?1, ?2) ORDER BY dest, seq LIMIT ?3",
            )?
            .query_map(params![dest, int(seq), int(STEP as u64)], |row| {
                Ok((DeliveryId { destination: row.get(0)?, seq: uint(row, 1)? }, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        for (delivery, bytes) in &rows {
            if !room.take(*bytes as usize + OVERHEAD) {
                return Ok((true, Some(Place::Dead(dest, seq))));
            }
            picked.dead.push(*delivery);
            (dest, seq) = (delivery.destination, delivery.seq);
        }
        Ok((false, Some(if rows.len() < STEP { Place::Claims(0) } else { Place::Dead(dest, seq) })))
    }

    fn pick_claims(
        &self,
        picked: &mut Picked,
        room: &mut Room,
        mut after: u64,
    ) -> rusqlite::Result<(bool, Option<Place>)> {
        let rows: Vec<(u64, u32)> = self
            .conn
            .prepare_cached("SELECT id, length(body) FROM claims WHERE id > ?1 ORDER BY id LIMIT ?2")?
            .query_map([int(after), int(STEP as u64)], |row| Ok((uint(row, 0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (row, bytes) in &rows {
            if !room.take(*bytes as usize + OVERHEAD) {
                return Ok((true, Some(Place::Claims(after))));
            }
            picked.claims.push(*row);
            after = *row;
        }
        Ok((false, (rows.len() == STEP).then_some(Place::Claims(after))))
    }

    /// Whether an egress has it under lease, or its line is being buried: it is found by a later export.
    fn is_held(&self, dest: u32, seq: u64) -> bool {
        let state = self.shared.state();
        let busy = |lease: &super::super::lane::Lease| !lease.exported || lease.busy;
        state.lane_ref(dest).is_none_or(|lane| lane.burying || lane.leased.get(&seq).is_some_and(busy))
    }

    fn hold(
        &self,
        export: &Export,
        picked: &mut Picked,
        dest: u32,
        delivery: (Origin, Waiting, Tries),
    ) -> rusqlite::Result<()> {
        let Some(token) = self.shared.state().hold(dest, delivery, export.expires) else { return Ok(()) };
        let (origin, waiting, tries) = delivery;
        picked.waiting.push(PickedWaiting { token, origin, waiting, tries });
        let Self { conn, shared, numbers, claims, segments, .. } = self;
        let batch = Batch::new(conn, &shared.keyring, numbers, claims, segments, self.seq);
        batch.hand(token.delivery, origin)
    }

    /// Stores a page of another replica in one durable commit.
    pub(super) fn adopt(&mut self, adopt: &Adopt) -> rusqlite::Result<Adopted> {
        let Self { conn, shared, numbers, journal, claims, segments, .. } = self;
        begin(conn)?;
        let mut batch = Batch::new(conn, &shared.keyring, numbers, claims, segments, self.seq);
        batch.large = large(&shared.options, adopt.arrivals.iter().map(|arrival| arrival.sealed.len()));
        let mut adopted = Adopted::default();
        for arrival in &adopt.arrivals {
            let new = batch.adopt(arrival, shared.own, adopt.now)?;
            *if new { &mut adopted.deliveries } else { &mut adopted.known } += 1;
        }
        let new_claims = batch.adopt_claims(&adopt.claims, adopt.now)?;
        adopted.claims = new_claims.iter().map(New::len).sum();
        let (_, written) = batch.finish(journal, adopt.now)?;
        let Done { seq, effects, new_webhooks, new_destinations } = batch.done();
        let over = new_claims.iter().any(|new| claims.is_over(new.webhook));
        let swept = if over { claims.sweep(conn, None, 64)? } else { Vec::new() };
        sync(segments, shared)?;
        shared.step(Point::BeforeAdoption);
        conn.prepare_cached("COMMIT")?.execute([])?;
        segments.borrow_mut().committed();
        shared.step(Point::Adopted);
        self.seq = seq;
        for new in &new_claims {
            self.claims.note(new);
        }
        self.claims.swept(&swept);
        if let Some(written) = written {
            self.journal.committed(written);
        }
        self.name(new_webhooks, new_destinations);
        self.wrote(|| adopt.arrivals.iter().map(|arrival| arrival.sealed.len()));
        self.count_claims();
        self.carry(effects, adopt.now);
        Ok(adopted)
    }

    /// Deletes what a peer has durably taken.
    pub(super) fn forget(&mut self, forget: &Forget) -> rusqlite::Result<()> {
        let Self { conn, shared, numbers, journal, claims, segments, .. } = self;
        begin(conn)?;
        let mut batch = Batch::new(conn, &shared.keyring, numbers, claims, segments, self.seq);
        for held in &forget.exported.waiting {
            batch.forget(*held, forget.now)?;
        }
        for (delivery, hops) in &forget.exported.dead {
            batch.forget_dead(*delivery, *hops, forget.now)?;
        }
        let gone = Claims::take(conn, &forget.exported.claims)?;
        let (_, written) = batch.finish(journal, forget.now)?;
        let effects = batch.done().effects;
        shared.step(Point::BeforeForgetting);
        conn.prepare_cached("COMMIT")?.execute([])?;
        segments.borrow_mut().committed();
        shared.step(Point::Forgotten);
        self.claims.swept(&gone);
        if let Some(written) = written {
            self.journal.committed(written);
        }
        self.upkeep.wrote(effects.len() as u64 * 256, 0);
        self.count_claims();
        self.carry(effects, forget.now);
        Ok(())
    }

    pub(super) fn name_heir(&self, heir: &Heir) -> rusqlite::Result<()> {
        match &heir.heir {
            Some(id) => self.conn.execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('heir', ?1)", [id.0])?,
            None => self.conn.execute("DELETE FROM meta WHERE key = 'heir'", [])?,
        };
        Ok(())
    }

    /// Holds again what was on its way to a peer when the last process ended: it may be there. Until the page is sent
    /// again and answered, or for `hold_in_doubt`, nobody here is granted it.
    pub(crate) fn hold_in_doubt(&self, now: u64) -> rusqlite::Result<()> {
        let mut select = self.conn.prepare("SELECT dest, seq, due FROM handing")?;
        let rows: Vec<(u32, u64, Option<u64>)> = select
            .query_map([], |row| {
                Ok((row.get(0)?, uint(row, 1)?, row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned)))
            })?
            .collect::<Result<_, _>>()?;
        let expires = now.saturating_add(super::super::clock::millis(self.shared.options.hold_in_doubt));
        for (dest, seq, due) in &rows {
            let found = match due {
                None => self
                    .conn
                    .prepare_cached("SELECT at, bytes, webhook FROM ready WHERE dest = ?1 AND seq = ?2")?
                    .query_row(params![dest, int(*seq)], |row| {
                        let (at, bytes, webhook) = (uint(row, 0)?, row.get(1)?, row.get(2)?);
                        Ok((Origin::Ready, Waiting { seq: *seq, at, bytes, webhook }, Tries::default()))
                    })
                    .optional()?,
                Some(due) => self
                    .conn
                    .prepare_cached(
                        "SELECT at, bytes, webhook, attempts, first, lost FROM retry
                         WHERE dest = ?1 AND due = ?2 AND seq = ?3",
                    )?
                    .query_row(params![dest, int(*due), int(*seq)], |row| {
                        let (at, bytes, webhook) = (uint(row, 0)?, row.get(1)?, row.get(2)?);
                        let first = row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned);
                        let tries = Tries { attempts: row.get(3)?, first, lost: row.get(5)? };
                        Ok((Origin::Retry { due: *due }, Waiting { seq: *seq, at, bytes, webhook }, tries))
                    })
                    .optional()?,
            };
            if let Some(delivery) = found {
                let _: Option<LeaseToken> = self.shared.state().hold(*dest, delivery, expires);
            }
        }
        // What is not there any more, or was moved, is not in doubt.
        let stale = "DELETE FROM handing WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.seq = handing.seq)";
        self.conn.execute(stale, []).map(drop)
    }

    fn count_claims(&self) {
        let mut state = self.shared.state();
        state.counts.claims = self.claims.len();
        state.counts.claims_dropped = self.claims.dropped;
    }

    fn carry(&self, effects: Vec<batch::Effect>, now: u64) {
        let now = self.upkeep.now.max(now);
        let mut state = self.shared.state();
        state.counts.batches += 1;
        batch::apply(&mut state, effects, &self.shared.ledger, now);
        drop(state);
        self.shared.timer.notify_one();
        self.shared.changed();
    }
}
