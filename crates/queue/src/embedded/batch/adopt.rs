//! What comes from another replica, in the transaction.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use zen_model::ObjectKey;

use super::{Batch, Effect, response_aad};
use crate::DeliveryId;
use crate::embedded::claims;
use crate::embedded::journal::{Accepted, Entry, What};
use crate::embedded::lane::{Tries, Waiting};
use crate::embedded::open::Own;
use crate::embedded::sql::{int, uint};
use crate::handover::{self, HeldClaim};

/// A delivery that another replica hands over, sealed by its caller so that the writer only stores.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The queue that accepted the event, and the event's number there.
    pub queue: [u8; 16],
    pub oseq: u64,
    /// How often it was handed over, this time included.
    pub hops: u32,
    pub webhook: ObjectKey,
    pub destination: ObjectKey,
    pub id: String,
    pub r#type: String,
    pub request_id: String,
    pub accepted: u64,
    pub body_bytes: u64,
    /// Of the record, unsealed.
    pub bytes: u32,
    pub sealed: Vec<u8>,
    pub stands: Arrived,
}

/// Where it stands.
#[derive(Debug)]
pub(crate) enum Arrived {
    Waiting { due: u64, tries: Tries },
    Dead(handover::Dead),
}

/// An event's row that is here.
struct Here {
    dests: Vec<u8>,
}

/// Claims in one row: as many as a batch of commits writes.
const CLAIMS_A_ROW: usize = 1024;

impl Batch<'_> {
    /// Stores a delivery, unless it was adopted before. True: it is new here.
    pub(crate) fn adopt(&mut self, arrival: &Arrival, own: Own, now: u64) -> rusqlite::Result<bool> {
        let origin = self.origin(arrival.queue)?;
        let dest = self.destination(&arrival.destination)?;
        let known = self
            .conn
            .prepare_cached("SELECT hops FROM adopted WHERE origin = ?1 AND oseq = ?2 AND dest = ?3")?
            .query_row(params![origin, int(arrival.oseq), dest], |row| row.get::<_, u32>(0))
            .optional()?;
        if known.is_some_and(|hops| hops >= arrival.hops) {
            return Ok(false);
        }
        let webhook = self.webhook(&arrival.webhook)?;
        let (seq, here) = self.place(arrival, origin, webhook, own)?;
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO adopted(origin, oseq, dest, seq, hops, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![origin, int(arrival.oseq), dest, int(seq), arrival.hops, int(now)])?;
        let delivery = DeliveryId { seq, destination: dest };
        if let Some(here) = &here
            && numbers(&here.dests).any(|other| other == dest)
            && self.is_here(delivery)?
        {
            // It came home before it was forgotten here: the copy that never left is the one.
            return Ok(false);
        }
        self.enter(arrival, delivery, webhook, here.as_ref(), now)?;
        Ok(true)
    }

    /// The number of a queue that events came from.
    fn origin(&self, queue: [u8; 16]) -> rusqlite::Result<u32> {
        let known = self
            .conn
            .prepare_cached("SELECT id FROM origin WHERE queue = ?1")?
            .query_row([queue], |row| row.get(0))
            .optional()?;
        match known {
            Some(number) => Ok(number),
            None => self
                .conn
                .prepare_cached("INSERT INTO origin(queue) VALUES (?1) RETURNING id")?
                .query_row([queue], |row| row.get(0)),
        }
    }

    /// The number of the event here, and its row if another delivery brought it before. It keeps the number that it has,
    /// and with it the delivery's id, unless that is another event's here or might become one's.
    fn place(
        &mut self,
        arrival: &Arrival,
        origin: u32,
        webhook: u32,
        own: Own,
    ) -> rusqlite::Result<(u64, Option<Here>)> {
        let sibling = self
            .conn
            .prepare_cached("SELECT seq FROM adopted WHERE origin = ?1 AND oseq = ?2 LIMIT 1")?
            .query_row(params![origin, int(arrival.oseq)], |row| uint(row, 0))
            .optional()?;
        let comes_home = arrival.queue == own.queue && arrival.oseq <= self.seq;
        let keeps = (comes_home || !own.gives(arrival.oseq)).then_some(arrival.oseq);
        if let Some(seq) = sibling.or(keeps) {
            let row = self
                .conn
                .prepare_cached("SELECT webhook, id, dests FROM event WHERE seq = ?1")?
                .query_row([int(seq)], |row| {
                    let same = row.get::<_, u32>(0)? == webhook && row.get_ref(1)?.as_str()? == arrival.id;
                    Ok((same, Here { dests: row.get(2)? }))
                })
                .optional()?;
            match row {
                None => return Ok((seq, None)),
                Some((true, here)) => return Ok((seq, Some(here))),
                Some((false, _)) => {}
            }
        }
        self.seq += 1;
        Ok((self.seq, None))
    }

    /// Whether the delivery waits here or is a dead letter.
    fn is_here(&self, delivery: DeliveryId) -> rusqlite::Result<bool> {
        for table in ["ready", "dead", "retry"] {
            let there = self
                .conn
                .prepare_cached(&format!("SELECT 1 FROM {table} WHERE dest = ?1 AND seq = ?2"))?
                .exists(params![delivery.destination, int(delivery.seq)])?;
            if there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn enter(
        &mut self,
        arrival: &Arrival,
        delivery: DeliveryId,
        webhook: u32,
        here: Option<&Here>,
        now: u64,
    ) -> rusqlite::Result<()> {
        let DeliveryId { seq, destination: dest } = delivery;
        let Arrival { bytes, accepted, .. } = *arrival;
        let mut entry = Entry::new(What::Adopted, seq, dest, now);
        if let Some(here) = here {
            let mut dests = here.dests.clone();
            if numbers(&dests).all(|other| other != dest) {
                dests.extend(dest.to_be_bytes());
            }
            self.conn
                .prepare_cached("UPDATE event SET refs = refs + 1, dests = ?2 WHERE seq = ?1")?
                .execute(params![int(seq), dests])?;
        } else {
            let record = self.store(seq, &arrival.sealed)?;
            self.insert_event.on(self.conn)?.execute(params![
                int(seq),
                webhook,
                arrival.id,
                int(accepted),
                dest.to_be_bytes().as_slice(),
                1,
                record
            ])?;
            *self.webhook_bytes.entry(webhook).or_default() += i64::from(bytes);
            self.effects.push(Effect::EventHere { webhook, bytes });
            entry.accepted = Some(Accepted {
                id: arrival.id.clone(),
                r#type: arrival.r#type.clone(),
                request_id: arrival.request_id.clone(),
                webhook,
                bytes: arrival.body_bytes,
                dests: vec![dest],
                at: accepted,
            });
        }
        let waiting = Waiting { seq, at: accepted, bytes, webhook };
        match &arrival.stands {
            Arrived::Waiting { due, tries } => {
                self.insert_retry(dest, *due, waiting, *tries)?;
                (entry.attempts, entry.due) = (tries.attempts, *due);
                self.effects.push(Effect::Arrived { dest, due: *due, waiting, tries: *tries });
            }
            Arrived::Dead(dead) => {
                self.insert_dead(delivery, waiting, dead)?;
                (entry.attempts, entry.reason, entry.status) = (dead.attempts, dead.reason, dead.status);
                self.effects.push(Effect::ArrivedDead { dest, bytes });
            }
        }
        self.history.push(&entry);
        Ok(())
    }

    fn insert_dead(&self, delivery: DeliveryId, waiting: Waiting, dead: &handover::Dead) -> rusqlite::Result<()> {
        let DeliveryId { seq, destination: dest } = delivery;
        self.conn
            .prepare_cached(
                "INSERT INTO dead(dest, seq, since, reason, attempts, at, bytes, webhook, status, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                dest,
                int(seq),
                int(dead.since),
                dead.reason,
                dead.attempts,
                int(waiting.at),
                waiting.bytes,
                waiting.webhook,
                dead.status,
                dead.error
            ])?;
        if !dead.response.is_empty() {
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO response(dest, seq, body) VALUES (?1, ?2, ?3)")?
                .execute(params![dest, int(seq), self.keyring.seal(&response_aad(delivery), &dead.response)])?;
        }
        Ok(())
    }

    /// Stores claims: of two for one key the later to expire counts. Returns the rows that were written.
    pub(crate) fn adopt_claims(
        &mut self,
        page: &[(ObjectKey, Vec<HeldClaim>)],
        now: u64,
    ) -> rusqlite::Result<Vec<claims::New>> {
        let mut written = Vec::new();
        let mut held: HashMap<[u8; 16], u64> = HashMap::new();
        let mut rows = claims::Cached::default();
        for (webhook, page) in page {
            let webhook = self.webhook(webhook)?;
            let mut row = claims::NewRow::default();
            for claim in page {
                let Some(hash) = claim.hash.first_chunk().copied().filter(|_| claim.expires > now) else { continue };
                let until = match held.get(&hash) {
                    Some(until) => Some(*until),
                    None => self.claims.find_cached(self.conn, hash, now, &mut rows)?.map(|claim| claim.expires),
                };
                if until.is_some_and(|until| until >= claim.expires) {
                    continue;
                }
                held.insert(hash, claim.expires);
                row.push(hash, claim.seq, claim.expires, &claim.id);
                if row.len() == CLAIMS_A_ROW {
                    let row = std::mem::take(&mut row);
                    written.push(self.claims.write(self.conn, webhook, row, written.len() as u64)?);
                }
            }
            if row.len() > 0 {
                written.push(self.claims.write(self.conn, webhook, row, written.len() as u64)?);
            }
        }
        Ok(written)
    }
}

/// The numbers in an event's `dests`.
fn numbers(dests: &[u8]) -> impl Iterator<Item = u32> {
    dests.chunks_exact(4).filter_map(<[u8]>::first_chunk).map(|dest| u32::from_be_bytes(*dest))
}
