//! The deliveries and claims of a page, read and opened on the reading thread.

use bytes::Bytes;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use tracing::error;
use zen_model::DeadReason;

use crate::DeliveryId;
use crate::embedded::batch::response_aad;
use crate::embedded::claims;
use crate::embedded::command::{Picked, PickedWaiting};
use crate::embedded::lane::Origin;
use crate::embedded::query;
use crate::embedded::segments::Records;
use crate::embedded::sql::{int, uint};
use crate::embedded::state::Names;
use crate::handover::{Batch, Claims, Dead, Delivery, Exported, Held, HeldClaim, Waiting};

struct Reading<'a> {
    conn: &'a Connection,
    records: &'a Records,
    names: &'a Names,
    queue: [u8; 16],
}

/// Reads what was picked. What is gone meanwhile, or makes no sense, is in neither of both.
pub(super) fn page(
    conn: &Connection,
    records: &Records,
    names: &Names,
    queue: [u8; 16],
    picked: &Picked,
    now: u64,
) -> rusqlite::Result<(Batch, Exported)> {
    let reading = Reading { conn, records, names, queue };
    let mut batch = Batch { version: Batch::VERSION, queue: Bytes::copy_from_slice(&queue), ..Batch::default() };
    let mut exported = Exported::default();
    for waiting in &picked.waiting {
        if let Some((delivery, hops)) = reading.waiting(waiting, now)? {
            let due = match waiting.origin {
                Origin::Ready => None,
                Origin::Retry { due } => Some(due),
            };
            exported.waiting.push(Held { token: waiting.token, due, hops });
            batch.deliveries.push(delivery);
        }
    }
    for id in &picked.dead {
        if let Some((delivery, hops)) = reading.dead(*id)? {
            exported.dead.push((*id, hops));
            batch.deliveries.push(delivery);
        }
    }
    for row in &picked.claims {
        batch.claims.extend(reading.claims(*row, now)?);
        exported.claims.push(*row);
    }
    Ok((batch, exported))
}

impl Reading<'_> {
    fn waiting(&self, picked: &PickedWaiting, now: u64) -> rusqlite::Result<Option<(Delivery, u32)>> {
        let PickedWaiting { token, origin, waiting, tries } = *picked;
        let Some((mut delivery, hops)) = self.delivery(token.delivery)? else { return Ok(None) };
        delivery.accepted = waiting.at;
        if delivery.record.is_empty() {
            // It would become this dead letter with its next lease.
            let reason = u32::from(DeadReason::RecordDamaged as u8);
            delivery.dead = Some(Dead { since: now, reason, attempts: tries.attempts, ..Dead::default() });
        } else {
            let after = match origin {
                Origin::Ready => 0,
                Origin::Retry { due } => due.saturating_sub(now),
            };
            let crate::embedded::lane::Tries { attempts, first, lost } = tries;
            delivery.waiting = Some(Waiting { after, attempts, first, lost });
        }
        Ok(sound(delivery, hops))
    }

    fn dead(&self, id: DeliveryId) -> rusqlite::Result<Option<(Delivery, u32)>> {
        let at = params![id.destination, int(id.seq)];
        let row = self
            .conn
            .prepare_cached("SELECT since, reason, attempts, status, error, at FROM dead WHERE dest = ?1 AND seq = ?2")?
            .query_row(at, |row| {
                let (reason, attempts, status, error) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
                let response = Bytes::new();
                Ok((Dead { since: uint(row, 0)?, reason, attempts, status, error, response }, uint(row, 5)?))
            })
            .optional()?;
        let (Some((mut dead, accepted)), Some((delivery, hops))) = (row, self.delivery(id)?) else { return Ok(None) };
        let response = self
            .conn
            .prepare_cached("SELECT body FROM response WHERE dest = ?1 AND seq = ?2")?
            .query_row(at, |row| row.get::<_, Vec<u8>>(0))
            .optional()?;
        let response = response.and_then(|sealed| self.records.keyring.open(&response_aad(id), sealed).ok());
        dead.response = response.unwrap_or_default().into();
        Ok(sound(Delivery { accepted, dead: Some(dead), ..delivery }, hops))
    }

    /// A delivery without where it stands, and how often it was handed over before it came here.
    fn delivery(&self, id: DeliveryId) -> rusqlite::Result<Option<(Delivery, u32)>> {
        let Some(stored) = query::event(self.conn, self.records, self.names, id.seq)? else { return Ok(None) };
        let adopted = self
            .conn
            .prepare_cached(
                "SELECT queue, oseq, hops FROM adopted JOIN origin ON origin.id = adopted.origin
                 WHERE seq = ?1 AND dest = ?2 ORDER BY hops DESC LIMIT 1",
            )?
            .query_row(params![int(id.seq), id.destination], |row| {
                Ok((row.get::<_, [u8; 16]>(0)?, uint(row, 1)?, row.get(2)?))
            })
            .optional()?;
        let (queue, seq, hops) = adopted.unwrap_or((self.queue, id.seq, 0));
        let queue = if queue == self.queue { Bytes::new() } else { Bytes::copy_from_slice(&queue) };
        let delivery = Delivery {
            queue,
            seq,
            hops,
            webhook: stored.webhook.to_string(),
            destination: self.names.destination(id.destination).to_string(),
            id: stored.id,
            record: stored.record.unwrap_or_default(),
            ..Delivery::default()
        };
        Ok(Some((delivery, hops)))
    }

    fn claims(&self, row: u64, now: u64) -> rusqlite::Result<Option<Claims>> {
        let row = self
            .conn
            .prepare_cached("SELECT webhook, body FROM claims WHERE id = ?1")?
            .query_row([int(row)], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()?;
        let Some((webhook, body)) = row else { return Ok(None) };
        let held = claims::Row::decode(body.as_slice()).unwrap_or_default().claims.into_iter();
        let held = held.filter(|claim| claim.expires > now && claim.hash.len() == 16).map(|claim| HeldClaim {
            hash: claim.hash.into(),
            seq: claim.seq,
            expires: claim.expires,
            id: claim.id,
        });
        let claims: Vec<HeldClaim> = held.collect();
        Ok((!claims.is_empty()).then(|| Claims { webhook: self.names.webhook(webhook).to_string(), claims }))
    }
}

/// A peer refuses a page that holds one delivery which makes no sense: it must not stop the others.
fn sound(delivery: Delivery, hops: u32) -> Option<(Delivery, u32)> {
    match delivery.check() {
        Ok(()) => Some((delivery, hops)),
        Err(reason) => {
            error!(event = %delivery.id, destination = %delivery.destination, %reason, "a delivery cannot be handed over");
            None
        }
    }
}
