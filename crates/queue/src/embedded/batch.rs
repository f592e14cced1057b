//! One transaction: every row that a batch of commands changes, and what memory must do once it is durable.

mod adopt;
mod end;
mod forget;
mod hot;

pub(crate) use adopt::{Arrival, Arrived};
pub(crate) use end::{RESPONSE_BYTES, response_aad};
use hot::Hot;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use rusqlite::{Connection, OptionalExtension, params};
use zen_model::{EventId, ObjectKey};
use zen_seal::Keyring;

use super::claims::{self, AlreadyHash, Claims};
use super::command::Incoming;
use super::journal::{self, Entry, Growing, What};
use super::lane::{Origin, Tries, Waiting};
use super::numbers::{Numbered, Numbers};
use super::segments::{Place, Segments};
use super::sql::{self, int, uint};
use super::state::State;
use crate::{Claim, Committed, DeliveryId, LeaseToken};

/// A transaction under way. Dropped without effect when it fails.
pub(crate) struct Batch<'a> {
    pub conn: &'a Connection,
    pub keyring: &'a Keyring,
    pub numbers: &'a Numbers,
    pub claims: &'a Claims,
    pub segments: &'a RefCell<Segments>,
    /// Records of this size go to a segment.
    pub large: usize,
    /// The highest sequence number that was given out.
    pub seq: u64,
    pub history: Growing,
    pub effects: Vec<Effect>,
    /// Numbers given out in this batch, known to others when it is durable.
    pub new_webhooks: Vec<(ObjectKey, u32)>,
    pub new_destinations: Vec<(ObjectKey, u32)>,
    pub new_claims: BTreeMap<u32, claims::NewRow>,
    claimed: HashMap<[u8; 16], EventId, BuildHasherDefault<AlreadyHash>>,
    insert_event: Hot<'a>,
    insert_ready: Hot<'a>,
    delete_ready: Hot<'a>,
    delete_event: Hot<'a>,
    pub(crate) webhook_bytes: BTreeMap<u32, i64>,
}

const INSERT_EVENT: &str =
    "INSERT INTO event(seq, webhook, id, at, dests, refs, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE_EVENT: &str = "DELETE FROM event WHERE seq = ?1 AND refs <= 1";

/// What a batch leaves for the time after its commit.
pub(crate) struct Done {
    pub seq: u64,
    pub effects: Vec<Effect>,
    pub new_webhooks: Vec<(ObjectKey, u32)>,
    pub new_destinations: Vec<(ObjectKey, u32)>,
}

/// What memory must do after the commit.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A delivery joined the line.
    Append { dest: u32, waiting: Waiting },
    /// A lease ended and the row stays where it is.
    PutBack { token: LeaseToken },
    /// A lease ended and there was no row any more.
    Forget { token: LeaseToken },
    /// The row left the line for good.
    Gone { delivery: DeliveryId, origin: Origin, bytes: u32 },
    /// The row went into back-off.
    BackOff { delivery: DeliveryId, origin: Origin, due: u64, waiting: Waiting, tries: Tries },
    /// The row became a dead letter.
    Died { delivery: DeliveryId, origin: Origin },
    /// A dead letter is due again.
    Revived { dest: u32, due: u64, waiting: Waiting },
    /// A dead letter was removed.
    DeadGone { dest: u32, bytes: u32 },
    /// A waiting delivery came from another replica.
    Arrived { dest: u32, due: u64, waiting: Waiting, tries: Tries },
    /// A dead letter came from another replica.
    ArrivedDead { dest: u32, bytes: u32 },
    /// An event's row came with them.
    EventHere { webhook: u32, bytes: u32 },
    /// The event's row is gone.
    EventGone { webhook: u32, bytes: u32 },
    /// The lease may be used.
    Begun { token: LeaseToken },
}

/// How a commit ended inside the transaction.
#[derive(Debug)]
pub(crate) enum Outcome {
    Accepted { id: EventId, seq: u64, deliveries: u32 },
    Duplicate { id: EventId, rearmed: u32 },
}

impl From<&Outcome> for Committed {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted { id, .. } => Self::Accepted { id: id.clone() },
            Outcome::Duplicate { id, rearmed } => Self::Duplicate { id: id.clone(), rearmed: *rearmed },
        }
    }
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        conn: &'a Connection,
        keyring: &'a Keyring,
        numbers: &'a Numbers,
        claims: &'a Claims,
        segments: &'a RefCell<Segments>,
        seq: u64,
    ) -> Self {
        Self {
            conn,
            keyring,
            numbers,
            claims,
            segments,
            large: usize::MAX,
            seq,
            history: Growing::default(),
            effects: Vec::new(),
            new_webhooks: Vec::new(),
            new_destinations: Vec::new(),
            new_claims: BTreeMap::new(),
            claimed: HashMap::default(),
            insert_event: Hot::new(INSERT_EVENT),
            insert_ready: Hot::new("INSERT INTO ready(dest, seq, at, bytes, webhook) VALUES (?1, ?2, ?3, ?4, ?5)"),
            delete_ready: Hot::new("DELETE FROM ready WHERE dest = ?1 AND seq = ?2"),
            delete_event: Hot::new(DELETE_EVENT),
            webhook_bytes: BTreeMap::new(),
        }
    }

    /// Stores an event, unless its claim is taken.
    pub(crate) fn commit(&mut self, incoming: &Incoming) -> rusqlite::Result<Outcome> {
        if let Some(claim) = incoming.claim {
            if let Some(id) = self.claimed.get(&claim.hash) {
                return Ok(Outcome::Duplicate { id: id.clone(), rearmed: 0 });
            }
            if let Some(first) = self.claims.find(self.conn, claim.hash, incoming.now)? {
                let rearmed = self.rearm(first.seq, incoming.now)?;
                return Ok(Outcome::Duplicate { id: first.event_id(), rearmed });
            }
        }
        let webhook = self.webhook(&incoming.webhook)?;
        let dests = incoming.destinations.iter().map(|key| self.destination(key)).collect::<Result<Vec<_>, _>>()?;
        self.seq += 1;
        let seq = self.seq;
        if !dests.is_empty() {
            self.insert_event(incoming, webhook, seq, &dests)?;
        }
        if let Some(claim) = incoming.claim {
            self.claim(claim, incoming, webhook, seq);
        }
        let deliveries = u32::try_from(dests.len()).unwrap_or(u32::MAX);
        self.history.accepted(seq, &incoming.event, webhook, &dests);
        Ok(Outcome::Accepted { id: incoming.id.clone(), seq, deliveries })
    }

    fn insert_event(&mut self, incoming: &Incoming, webhook: u32, seq: u64, dests: &[u32]) -> rusqlite::Result<()> {
        let record = self.store(seq, &incoming.sealed)?;
        let (first, all): ([u8; 4], Vec<u8>);
        let numbers = if let [dest] = dests {
            first = dest.to_be_bytes();
            first.as_slice()
        } else {
            all = dests.iter().flat_map(|dest| dest.to_be_bytes()).collect();
            all.as_slice()
        };
        self.insert_event.on(self.conn)?.execute(params![
            int(seq),
            webhook,
            incoming.id.as_str(),
            int(incoming.at),
            numbers,
            int(dests.len() as u64),
            record
        ])?;
        let bytes = u32::try_from(incoming.record.len()).unwrap_or(u32::MAX);
        let waiting = Waiting { seq, at: incoming.at, bytes, webhook };
        for &dest in dests {
            let row = params![dest, int(seq), int(incoming.at), bytes, webhook];
            self.insert_ready.on(self.conn)?.execute(row)?;
            self.effects.push(Effect::Append { dest, waiting });
        }
        *self.webhook_bytes.entry(webhook).or_default() += i64::from(bytes);
        Ok(())
    }

    fn claim(&mut self, claim: Claim, incoming: &Incoming, webhook: u32, seq: u64) {
        let expires = incoming.now.saturating_add(super::clock::millis(claim.window));
        self.new_claims.entry(webhook).or_default().push(claim.hash, seq, expires, incoming.id.as_str());
        self.claimed.insert(claim.hash, incoming.id.clone());
    }

    /// Makes the dead letters of an event due again (W-07).
    fn rearm(&mut self, seq: u64, now: u64) -> rusqlite::Result<u32> {
        let dests = self
            .conn
            .prepare_cached("SELECT dests FROM event WHERE seq = ?1")?
            .query_row([int(seq)], |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        let mut rearmed = 0;
        for dest in dests.unwrap_or_default().chunks_exact(4).filter_map(<[u8]>::first_chunk) {
            let delivery = DeliveryId { seq, destination: u32::from_be_bytes(*dest) };
            rearmed += u32::from(self.revive(delivery, now, What::Rearmed)?);
        }
        Ok(rearmed)
    }

    /// Makes one dead letter due again as a new attempt. False: there is none.
    pub(crate) fn revive(&mut self, delivery: DeliveryId, now: u64, what: What) -> rusqlite::Result<bool> {
        let DeliveryId { seq, destination: dest } = delivery;
        let Some(waiting) = self.take_dead(delivery)? else { return Ok(false) };
        let tries = Tries::default();
        self.insert_retry(dest, now, waiting, tries)?;
        self.history.push(&Entry::new(what, seq, dest, now));
        self.effects.push(Effect::Revived { dest, due: now, waiting });
        Ok(true)
    }

    /// Removes a dead letter's rows, not its event.
    pub(crate) fn take_dead(&self, delivery: DeliveryId) -> rusqlite::Result<Option<Waiting>> {
        let DeliveryId { seq, destination: dest } = delivery;
        let waiting = self
            .conn
            .prepare_cached("DELETE FROM dead WHERE dest = ?1 AND seq = ?2 RETURNING at, bytes, webhook")?
            .query_row(params![dest, int(seq)], |row| {
                Ok(Waiting { seq, at: uint(row, 0)?, bytes: row.get(1)?, webhook: row.get(2)? })
            })
            .optional()?;
        if waiting.is_some() {
            self.conn
                .prepare_cached("DELETE FROM response WHERE dest = ?1 AND seq = ?2")?
                .execute(params![dest, int(seq)])?;
        }
        Ok(waiting)
    }

    pub(crate) fn insert_retry(&self, dest: u32, due: u64, waiting: Waiting, tries: Tries) -> rusqlite::Result<()> {
        let Waiting { seq, at, bytes, webhook } = waiting;
        self.conn
            .prepare_cached(
                "INSERT INTO retry(dest, due, seq, at, bytes, webhook, attempts, first, lost)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                dest,
                int(due),
                int(seq),
                int(at),
                bytes,
                webhook,
                tries.attempts,
                tries.first.map(int),
                tries.lost
            ])?;
        Ok(())
    }

    /// Puts a sealed record where it belongs. Returns what stands in the table.
    pub(crate) fn store<'s>(&self, seq: u64, sealed: &'s [u8]) -> rusqlite::Result<Cow<'s, [u8]>> {
        if sealed.len() < self.large {
            return Ok(Cow::Borrowed(sealed));
        }
        let place = self.segments.borrow_mut().append(sealed).map_err(sql::io)?;
        self.name(place, seq)?;
        Ok(Cow::Owned(place.encode().to_vec()))
    }

    /// Says whose record lies at a place.
    pub(crate) fn name(&self, place: Place, seq: u64) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("INSERT INTO body(segment, start, length, seq) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![int(place.segment), int(place.start), place.length, int(seq)])?;
        Ok(())
    }

    /// Nobody's any more.
    pub(crate) fn free(&self, place: Place) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM body WHERE segment = ?1 AND start = ?2")?
            .execute([int(place.segment), int(place.start)])?;
        self.segments.borrow_mut().free(place);
        Ok(())
    }

    /// Deletes an event's row if nobody else needs it, with the record beside it. False: somebody does.
    fn delete(&mut self, waiting: Waiting) -> rusqlite::Result<bool> {
        if !self.segments.borrow().may_hold(waiting.bytes as usize + zen_seal::OVERHEAD) {
            return Ok(self.delete_event.on(self.conn)?.execute([int(waiting.seq)])? > 0);
        }
        // A length is known without reading the record.
        let sql = format!("{DELETE_EVENT} RETURNING CASE length(record) WHEN {} THEN record END", Place::BYTES);
        let stored = self
            .conn
            .prepare_cached(&sql)?
            .query_row([int(waiting.seq)], |row| row.get::<_, Option<Vec<u8>>>(0))
            .optional()?;
        if let Some(place) = stored.iter().flatten().find_map(|stored| Place::decode(stored)) {
            self.free(place)?;
        }
        Ok(stored.is_some())
    }

    /// One delivery of the event ended for good; with the last one the event's row goes.
    pub(crate) fn unref(&mut self, waiting: Waiting) -> rusqlite::Result<()> {
        if self.delete(waiting)? {
            *self.webhook_bytes.entry(waiting.webhook).or_default() -= i64::from(waiting.bytes);
            self.effects.push(Effect::EventGone { webhook: waiting.webhook, bytes: waiting.bytes });
        } else {
            self.conn.prepare_cached("UPDATE event SET refs = refs - 1 WHERE seq = ?1")?.execute([int(waiting.seq)])?;
        }
        Ok(())
    }

    /// What is left to do when the transaction is committed. Gives the statements back.
    pub(crate) fn done(self) -> Done {
        let Self { seq, effects, new_webhooks, new_destinations, .. } = self;
        Done { seq, effects, new_webhooks, new_destinations }
    }

    /// Writes what the batch has in common. Nothing may be added after it.
    pub(crate) fn finish(
        &mut self,
        journal: &journal::Journal,
        now: u64,
    ) -> rusqlite::Result<(Vec<claims::New>, Option<journal::Written>)> {
        let mut claims = Vec::with_capacity(self.new_claims.len());
        for (nth, (webhook, row)) in std::mem::take(&mut self.new_claims).into_iter().enumerate() {
            claims.push(self.claims.write(self.conn, webhook, row, nth as u64)?);
        }
        for (webhook, bytes) in &self.webhook_bytes {
            self.conn
                .prepare_cached("UPDATE webhook SET bytes = max(0, bytes + ?2) WHERE id = ?1")?
                .execute(params![webhook, bytes])?;
        }
        let mut written = None;
        if !self.history.is_empty() {
            written = Some(journal.write(self.conn, self.keyring, &self.history, now, self.seq)?);
        }
        Ok((claims, written))
    }

    pub(crate) fn webhook(&mut self, key: &ObjectKey) -> rusqlite::Result<u32> {
        number(self.conn, &self.numbers.webhooks, &mut self.new_webhooks, key, "webhook")
    }

    pub(crate) fn destination(&mut self, key: &ObjectKey) -> rusqlite::Result<u32> {
        number(self.conn, &self.numbers.destinations, &mut self.new_destinations, key, "destination")
    }
}

/// The number of a name, given out on first use.
fn number(
    conn: &Connection,
    known: &Numbered,
    new: &mut Vec<(ObjectKey, u32)>,
    key: &ObjectKey,
    table: &str,
) -> rusqlite::Result<u32> {
    if let Some(number) = known.of(key) {
        return Ok(number);
    }
    if let Some((_, number)) = new.iter().find(|(other, _)| other == key) {
        return Ok(*number);
    }
    let number = known.next(key, new);
    conn.prepare_cached(&format!("INSERT INTO {table}(id, key) VALUES (?1, ?2)"))?
        .execute(params![number, key.to_string()])?;
    new.push((key.clone(), number));
    Ok(number)
}

/// Carries a batch's effects into memory. `now` is the clock's time of the batch.
pub(crate) fn apply(state: &mut State, effects: Vec<Effect>, ledger: &super::ledger::Ledger, now: u64) {
    let mut touched = Vec::new();
    for effect in effects {
        touched.push(effect.lane());
        effect.apply(state, ledger);
    }
    touched.sort_unstable();
    touched.dedup();
    for lane in touched {
        state.look(lane, now);
    }
}
