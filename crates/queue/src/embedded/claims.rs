//! Idempotency claims (W-07): one row for each Webhook in a batch, and a compact index of them in memory.
//!
//! The index maps 8 bytes of a claim's hash to its row, 17 bytes a claim; the row is read only on a hit and decides.
//! Should two claims ever share those 8 bytes, the newer one is indexed and the older one is forgotten early.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use rusqlite::{Connection, OptionalExtension, params};
use zen_model::EventId;

use super::sql::{int, uint};

/// The claims of one row.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Row {
    #[prost(message, repeated, tag = "1")]
    pub claims: Vec<Stored>,
}

/// One claim. Field numbers are for ever.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    pub hash: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    #[prost(uint64, tag = "3")]
    pub expires: u64,
    #[prost(string, tag = "4")]
    pub id: String,
}

impl Stored {
    pub(crate) fn event_id(&self) -> EventId {
        EventId::from(self.id.as_str())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Claims {
    index: HashMap<u64, u64, BuildHasherDefault<AlreadyHash>>,
    by_webhook: HashMap<u32, VecDeque<Held>>,
    counts: HashMap<u32, u64>,
    last_row: u64,
    max: u64,
    pub dropped: u64,
}

#[derive(Clone, Debug)]
struct Held {
    row: u64,
    count: u64,
    expires: u64,
}

impl Claims {
    pub(crate) fn load(conn: &Connection, max: u64) -> rusqlite::Result<Self> {
        let mut claims = Self { max, ..Self::default() };
        let mut rows = conn.prepare("SELECT id, webhook, expires, body FROM claims ORDER BY id")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(3)?.as_blob().unwrap_or_default();
            let claimed = Row::decode(body).unwrap_or_default().claims;
            let shorts = claimed.iter().map(|claim| short(&claim.hash)).collect();
            claims.note(&New { row: uint(row, 0)?, webhook: row.get(1)?, expires: uint(row, 2)?, shorts });
        }
        Ok(claims)
    }

    pub(crate) fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The claim, if it is held at `now`.
    pub(crate) fn find(&self, conn: &Connection, hash: [u8; 16], now: u64) -> rusqlite::Result<Option<Stored>> {
        let Some(row) = self.index.get(&short(&hash)) else { return Ok(None) };
        Ok(read(conn, *row)?.claims.into_iter().rev().find(|claim| claim.hash == hash && claim.expires > now))
    }

    /// As [`Claims::find`], for many that lie in few rows.
    pub(crate) fn find_cached(
        &self,
        conn: &Connection,
        hash: [u8; 16],
        now: u64,
        cached: &mut Cached,
    ) -> rusqlite::Result<Option<Stored>> {
        let Some(&row) = self.index.get(&short(&hash)) else { return Ok(None) };
        if cached.0.as_ref().is_none_or(|(number, _)| *number != row) {
            cached.0 = Some((row, read(conn, row)?));
        }
        let claims = cached.0.iter().flat_map(|(_, row)| row.claims.iter().rev());
        Ok(claims.into_iter().find(|claim| claim.hash == hash && claim.expires > now).cloned())
    }

    /// Deletes rows that another replica has.
    pub(crate) fn take(conn: &Connection, rows: &[u64]) -> rusqlite::Result<Vec<Gone>> {
        let mut gone = Vec::with_capacity(rows.len());
        for &row in rows {
            let body = read(conn, row)?;
            let webhook = conn
                .prepare_cached("DELETE FROM claims WHERE id = ?1 RETURNING webhook")?
                .query_row([int(row)], |row| row.get(0))
                .optional()?;
            gone.extend(webhook.map(|webhook| Gone { webhook, row, body, over: false }));
        }
        Ok(gone)
    }

    /// Writes the batch's claims of one Webhook.
    pub(crate) fn write(&self, conn: &Connection, webhook: u32, new: NewRow, nth: u64) -> rusqlite::Result<New> {
        let row = self.last_row + 1 + nth;
        let NewRow { body, shorts, expires } = new;
        conn.prepare_cached("INSERT INTO claims(id, webhook, expires, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![int(row), webhook, int(expires), body])?;
        Ok(New { row, webhook, expires, shorts })
    }

    /// The transaction was committed.
    pub(crate) fn note(&mut self, new: &New) {
        self.last_row = self.last_row.max(new.row);
        for short in &new.shorts {
            self.index.insert(*short, new.row);
        }
        let count = new.len();
        *self.counts.entry(new.webhook).or_default() += count;
        let held = Held { row: new.row, count, expires: new.expires };
        self.by_webhook.entry(new.webhook).or_default().push_back(held);
    }

    /// Deletes rows of Webhooks that hold more than their share, and rows that expired before `now`. At most `limit`
    /// rows, oldest first.
    pub(crate) fn sweep(&self, conn: &Connection, now: Option<u64>, limit: usize) -> rusqlite::Result<Vec<Gone>> {
        let mut gone = Vec::new();
        for (webhook, rows) in &self.by_webhook {
            let mut count = self.counts.get(webhook).copied().unwrap_or(0);
            for held in rows {
                let over = count > self.max && rows.len() > 1;
                if gone.len() >= limit || !(over || now.is_some_and(|now| held.expires <= now)) {
                    break;
                }
                count -= held.count;
                let body = read(conn, held.row)?;
                conn.prepare_cached("DELETE FROM claims WHERE id = ?1")?.execute([int(held.row)])?;
                gone.push(Gone { webhook: *webhook, row: held.row, body, over });
            }
        }
        Ok(gone)
    }

    /// Whether a Webhook holds more than its share.
    pub(crate) fn is_over(&self, webhook: u32) -> bool {
        self.counts.get(&webhook).is_some_and(|count| *count > self.max)
    }

    /// The sweep was committed.
    pub(crate) fn swept(&mut self, gone: &[Gone]) {
        for gone in gone {
            for claim in &gone.body.claims {
                let short = short(&claim.hash);
                if self.index.get(&short) == Some(&gone.row) {
                    self.index.remove(&short);
                }
            }
            let Some(rows) = self.by_webhook.get_mut(&gone.webhook) else { continue };
            let Some(at) = rows.iter().position(|held| held.row == gone.row) else { continue };
            let count = rows.remove(at).map_or(0, |held| held.count);
            *self.counts.entry(gone.webhook).or_default() -= count;
            self.dropped += if gone.over { count } else { 0 };
        }
        if self.index.capacity() > 4 * self.index.len() + 4096 {
            self.index.shrink_to_fit();
        }
    }
}

/// A [`Row`] while it grows: encoded as it comes, so that no claim asks the allocator for anything of its own.
#[derive(Debug, Default)]
pub(crate) struct NewRow {
    body: Vec<u8>,
    /// What the index goes by.
    shorts: Vec<u64>,
    /// When the last of them ends.
    expires: u64,
}

impl NewRow {
    pub(crate) fn len(&self) -> usize {
        self.shorts.len()
    }

    /// Adds a claim, in the form of [`Stored`].
    pub(crate) fn push(&mut self, hash: [u8; 16], seq: u64, expires: u64, id: &str) {
        let length = 2 + hash.len() + 1 + encoded_len_varint(seq) + 1 + encoded_len_varint(expires);
        let length = length + 1 + encoded_len_varint(id.len() as u64) + id.len();
        let body = &mut self.body;
        field(body, 1, WireType::LengthDelimited, length as u64);
        field(body, 1, WireType::LengthDelimited, hash.len() as u64);
        body.extend_from_slice(&hash);
        field(body, 2, WireType::Varint, seq);
        field(body, 3, WireType::Varint, expires);
        field(body, 4, WireType::LengthDelimited, id.len() as u64);
        body.extend_from_slice(id.as_bytes());
        self.shorts.push(short(&hash));
        self.expires = self.expires.max(expires);
    }
}

/// A field's key, and its value or its length.
fn field(body: &mut Vec<u8>, tag: u32, kind: WireType, value: u64) {
    encode_key(tag, kind, body);
    encode_varint(value, body);
}

/// The row that was read last.
#[derive(Debug, Default)]
pub(crate) struct Cached(Option<(u64, Row)>);

/// A row that counts when its transaction commits.
#[derive(Debug)]
pub(crate) struct New {
    row: u64,
    pub webhook: u32,
    expires: u64,
    shorts: Vec<u64>,
}

impl New {
    pub(crate) fn len(&self) -> u64 {
        self.shorts.len() as u64
    }
}

/// A row that no longer counts when its transaction commits.
#[derive(Debug)]
pub(crate) struct Gone {
    webhook: u32,
    row: u64,
    body: Row,
    over: bool,
}

fn read(conn: &Connection, row: u64) -> rusqlite::Result<Row> {
    let body = conn
        .prepare_cached("SELECT body FROM claims WHERE id = ?1")?
        .query_row([int(row)], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    Ok(body.and_then(|body| Row::decode(body.as_slice()).ok()).unwrap_or_default())
}

fn short(hash: &[u8]) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The keys are cut from SHA-256: hashing them again gains nothing.
#[derive(Debug, Default)]
pub(crate) struct AlreadyHash(u64);

impl Hasher for AlreadyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    /// Of a whole hash, its beginning.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = short(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_that_grew_read_as_rows(
            claims in proptest::collection::vec((any::<[u8; 16]>(), any::<u64>(), any::<u64>(), ".{0,40}"), 0..20),
        ) {
            let mut new = NewRow::default();
            for (hash, seq, expires, id) in &claims {
                new.push(*hash, *seq, *expires, id);
            }
            let stored = |(hash, seq, expires, id): &([u8; 16], u64, u64, String)| {
                Stored { hash: hash.to_vec(), seq: *seq, expires: *expires, id: id.clone() }
            };
            let expected = Row { claims: claims.iter().map(stored).collect() };
            prop_assert_eq!(Row::decode(new.body.as_slice()), Ok(expected));
            prop_assert_eq!(new.expires, claims.iter().map(|claim| claim.2).max().unwrap_or(0));
        }
    }
}
