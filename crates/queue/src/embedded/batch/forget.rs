//! What another replica has durably taken leaves this one.

use rusqlite::{OptionalExtension, params};

use super::{Batch, Effect};
use crate::DeliveryId;
use crate::embedded::journal::{Entry, What};
use crate::embedded::lane::{Origin, Waiting};
use crate::embedded::sql::{int, uint};
use crate::handover::Held;

impl Batch<'_> {
    /// Marks a waiting delivery as on its way to a peer.
    pub(crate) fn hand(&self, delivery: DeliveryId, origin: Origin) -> rusqlite::Result<()> {
        let due = match origin {
            Origin::Ready => None,
            Origin::Retry { due } => Some(int(due)),
        };
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO handing(dest, seq, due) VALUES (?1, ?2, ?3)")?
            .execute(params![delivery.destination, int(delivery.seq), due])?;
        Ok(())
    }

    /// It is here after all, or gone.
    pub(super) fn unhand(&self, delivery: DeliveryId) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM handing WHERE dest = ?1 AND seq = ?2")?
            .execute(params![delivery.destination, int(delivery.seq)])?;
        Ok(())
    }

    /// Removes a waiting delivery that a peer has. What was tried here since it was exported stays.
    pub(crate) fn forget(&mut self, held: Held, now: u64) -> rusqlite::Result<()> {
        let delivery = held.token.delivery;
        self.unhand(delivery)?;
        if self.hops(delivery)? != held.hops {
            // It came back from there meanwhile: this is the only copy.
            self.effects.push(Effect::PutBack { token: held.token });
            return Ok(());
        }
        let DeliveryId { seq, destination: dest } = delivery;
        let waiting =
            |row: &rusqlite::Row<'_>| Ok(Waiting { seq, at: uint(row, 0)?, bytes: row.get(1)?, webhook: row.get(2)? });
        let (origin, taken) = match held.due {
            None => {
                let sql = "DELETE FROM ready WHERE dest = ?1 AND seq = ?2 RETURNING at, bytes, webhook";
                let mut delete = self.conn.prepare_cached(sql)?;
                (Origin::Ready, delete.query_row(params![dest, int(seq)], waiting).optional()?)
            }
            Some(due) => {
                let sql = "DELETE FROM retry WHERE dest = ?1 AND due = ?2 AND seq = ?3 RETURNING at, bytes, webhook";
                let mut delete = self.conn.prepare_cached(sql)?;
                (Origin::Retry { due }, delete.query_row(params![dest, int(due), int(seq)], waiting).optional()?)
            }
        };
        let Some(waiting) = taken else {
            self.effects.push(Effect::Forget { token: held.token });
            return Ok(());
        };
        self.unmark(delivery)?;
        self.unref(waiting)?;
        self.history.push(&Entry::new(What::HandedOver, seq, dest, now));
        self.effects.push(Effect::Gone { delivery, origin, bytes: waiting.bytes });
        Ok(())
    }

    /// Removes a dead letter that a peer has; one that was made due again meanwhile stays.
    pub(crate) fn forget_dead(&mut self, delivery: DeliveryId, hops: u32, now: u64) -> rusqlite::Result<()> {
        if self.hops(delivery)? != hops {
            return Ok(());
        }
        if let Some(waiting) = self.take_dead(delivery)? {
            self.unref(waiting)?;
            self.history.push(&Entry::new(What::HandedOver, delivery.seq, delivery.destination, now));
            self.effects.push(Effect::DeadGone { dest: delivery.destination, bytes: waiting.bytes });
        }
        Ok(())
    }

    /// How often a delivery was handed over until it came here.
    fn hops(&self, delivery: DeliveryId) -> rusqlite::Result<u32> {
        self.conn
            .prepare_cached("SELECT coalesce(max(hops), 0) FROM adopted WHERE seq = ?1 AND dest = ?2")?
            .query_row(params![int(delivery.seq), delivery.destination], |row| row.get(0))
    }
}
