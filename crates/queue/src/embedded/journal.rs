//! The history of events: one sealed row a batch, bounded by bytes and age, trimmed from the front.

use std::collections::VecDeque;

use prost::Message;
use prost::encoding::{self, WireType, encode_key, encode_varint, encoded_len_varint};
use rusqlite::{Connection, params};
use zen_model::Event;
use zen_model::settle::{Attempt, Class};
use zen_seal::{Aad, Keyring};

use super::sql::{int, uint};

/// What happened. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum What {
    Accepted = 1,
    /// Failed, and will be tried again.
    Attempt = 2,
    Delivered = 3,
    Dead = 4,
    Replayed = 5,
    Rearmed = 6,
    LostLease = 7,
    /// Came from another replica.
    Adopted = 8,
    /// Another replica has it.
    HandedOver = 9,
}

impl What {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        use What::{Accepted, Adopted, Attempt, Dead, Delivered, HandedOver, LostLease, Rearmed, Replayed};
        [Accepted, Attempt, Delivered, Dead, Replayed, Rearmed, LostLease, Adopted, HandedOver]
            .into_iter()
            .find(|what| *what as u32 == number)
    }
}

/// The entries of one batch, in order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// One step of one event. Field numbers are for ever.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint32, tag = "2")]
    pub what: u32,
    #[prost(uint32, tag = "3")]
    pub dest: u32,
    #[prost(uint64, tag = "4")]
    pub at: u64,
    #[prost(message, optional, tag = "5")]
    pub accepted: Option<Accepted>,
    /// [`Class`] plus one; 0 when no attempt was made.
    #[prost(uint32, tag = "6")]
    pub class: u32,
    #[prost(uint32, tag = "7")]
    pub status: u32,
    #[prost(uint32, tag = "8")]
    pub took: u32,
    #[prost(string, tag = "9")]
    pub error: String,
    #[prost(uint32, tag = "10")]
    pub attempts: u32,
    #[prost(uint64, tag = "11")]
    pub due: u64,
    #[prost(uint32, tag = "12")]
    pub reason: u32,
}

/// A [`Batch`] while it grows: encoded as it comes.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    body: Vec<u8>,
}

impl Growing {
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        encoding::message::encode(1, entry, &mut self.body);
    }

    /// An [`Entry`] that an event was accepted, from what lies elsewhere: nothing is copied but into the history.
    pub(crate) fn accepted(&mut self, seq: u64, event: &Event, webhook: u32, dests: &[u32]) {
        let texts = [event.id.as_str(), event.r#type.as_str(), event.request_id.as_str()];
        let bytes = event.body.len() as u64;
        let packed: usize = dests.iter().map(|dest| encoded_len_varint(u64::from(*dest))).sum();
        let inner = texts.map(|text| text_len(text.len())).iter().sum::<usize>()
            + number_len(u64::from(webhook))
            + number_len(bytes)
            + text_len(packed);
        let outer = number_len(seq) + number_len(What::Accepted as u64) + number_len(event.time) + text_len(inner);
        self.length(1, outer);
        self.number(1, seq);
        self.number(2, What::Accepted as u64);
        self.number(4, event.time);
        self.length(5, inner);
        for (tag, text) in (1..).zip(texts) {
            self.length(tag, text.len());
            self.body.extend_from_slice(text.as_bytes());
        }
        self.number(4, u64::from(webhook));
        self.number(5, bytes);
        self.length(6, packed);
        for dest in dests {
            encode_varint(u64::from(*dest), &mut self.body);
        }
    }

    fn number(&mut self, tag: u32, value: u64) {
        encode_key(tag, WireType::Varint, &mut self.body);
        encode_varint(value, &mut self.body);
    }

    fn length(&mut self, tag: u32, bytes: usize) {
        encode_key(tag, WireType::LengthDelimited, &mut self.body);
        encode_varint(bytes as u64, &mut self.body);
    }
}

/// Bytes of a number as a field; every tag here fits into one.
fn number_len(value: u64) -> usize {
    1 + encoded_len_varint(value)
}

/// Bytes of a text, or anything else of that length, as a field.
fn text_len(bytes: usize) -> usize {
    number_len(bytes as u64) + bytes
}

/// What a listing shows of an event whose record may be gone.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Accepted {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub r#type: String,
    #[prost(string, tag = "3")]
    pub request_id: String,
    #[prost(uint32, tag = "4")]
    pub webhook: u32,
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    #[prost(uint32, repeated, tag = "6")]
    pub dests: Vec<u32>,
    /// When it was accepted, where that is not the entry's time; else 0.
    #[prost(uint64, tag = "7")]
    pub at: u64,
}

impl Entry {
    pub(crate) fn new(what: What, seq: u64, dest: u32, at: u64) -> Self {
        Self { seq, what: what as u32, dest, at, ..Self::default() }
    }

    /// With what is known of the attempt.
    pub(crate) fn with(mut self, attempt: Option<&Attempt>) -> Self {
        if let Some(attempt) = attempt {
            self.class = Class::ALL.iter().position(|class| *class == attempt.class).map_or(0, number) + 1;
            self.status = u32::from(attempt.status);
            self.took = u32::try_from(attempt.took.as_millis()).unwrap_or(u32::MAX);
            attempt.error.unwrap_or_default().clone_into(&mut self.error);
        }
        self
    }

    /// The attempt's class.
    pub(crate) fn class(&self) -> Option<Class> {
        Class::ALL.get((self.class as usize).checked_sub(1)?).copied()
    }
}

fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(0)
}

/// Binds a row to its place.
fn aad(batch: u64) -> Aad {
    Aad::new("zen-mesh/queue/journal", &[&batch.to_be_bytes()])
}

/// Opens a stored row. None: it is damaged, and its part of the history is lost.
pub(crate) fn open(keyring: &Keyring, batch: u64, body: Vec<u8>) -> Option<Batch> {
    let plain = keyring.open(&aad(batch), body).ok()?;
    Batch::decode(plain.as_slice()).ok()
}

/// The writer's view: how large the history is and where it begins.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    rows: VecDeque<Row>,
    bytes: u64,
    pub last_batch: u64,
}

#[derive(Debug)]
struct Row {
    batch: u64,
    at: u64,
    bytes: u64,
}

impl Journal {
    /// Reads where things stand. Returns the highest sequence number that was given out.
    pub(crate) fn load(conn: &Connection) -> rusqlite::Result<(Self, u64)> {
        let mut journal = Self::default();
        let mut highest = 0;
        let mut rows = conn.prepare("SELECT batch, at, seq, length(body) FROM journal ORDER BY batch")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let entry = Row { batch: uint(row, 0)?, at: uint(row, 1)?, bytes: uint(row, 3)? };
            highest = uint(row, 2)?;
            journal.last_batch = entry.batch;
            journal.bytes += entry.bytes;
            journal.rows.push_back(entry);
        }
        Ok((journal, highest))
    }

    /// Writes the batch's row. `seq` is the highest that was given out.
    pub(crate) fn write(
        &self,
        conn: &Connection,
        keyring: &Keyring,
        batch: &Growing,
        at: u64,
        seq: u64,
    ) -> rusqlite::Result<Written> {
        let number = self.last_batch + 1;
        let body = keyring.seal(&aad(number), &batch.body);
        conn.prepare_cached("INSERT INTO journal(batch, at, seq, body) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            int(number),
            int(at),
            int(seq),
            body
        ])?;
        Ok(Written(Row { batch: number, at, bytes: body.len() as u64 }))
    }

    /// The transaction was committed.
    pub(crate) fn committed(&mut self, written: Written) {
        self.last_batch = written.0.batch;
        self.bytes += written.0.bytes;
        self.rows.push_back(written.0);
    }

    /// Deletes what is beyond the bounds, a few rows at a time; the last row stays. Returns how many went.
    pub(crate) fn trim(&self, conn: &Connection, max_bytes: u64, oldest: u64) -> rusqlite::Result<usize> {
        let mut bytes = self.bytes;
        let mut count = 0;
        let mut bound = None;
        for row in self.rows.iter().take(self.rows.len().saturating_sub(1).min(64)) {
            if bytes <= max_bytes && row.at >= oldest {
                break;
            }
            bytes -= row.bytes;
            count += 1;
            bound = Some(row.batch);
        }
        if let Some(bound) = bound {
            conn.prepare_cached("DELETE FROM journal WHERE batch <= ?1")?.execute([int(bound)])?;
        }
        Ok(count)
    }

    /// The trimming was committed.
    pub(crate) fn trimmed(&mut self, count: usize) {
        for row in self.rows.drain(..count) {
            self.bytes -= row.bytes;
        }
    }
}

/// A row that becomes part of the history when its transaction commits.
#[derive(Debug)]
pub(crate) struct Written(Row);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_grew_reads_as_a_batch(
            (seq, time, webhook) in (any::<u64>(), any::<u64>(), any::<u32>()),
            dests in proptest::collection::vec(any::<u32>(), 0..4),
            (id, r#type, request_id, bytes) in (".{1,40}", ".{0,40}", ".{0,300}", 0_usize..300),
        ) {
            let mut dead = Entry::new(What::Dead, seq, webhook, time);
            dead.error.clone_from(&id);
            let body = vec![0; bytes].into();
            let event = Event { id, r#type, request_id, time, body, ..Event::default() };
            let mut growing = Growing::default();
            growing.push(&dead);
            growing.accepted(seq, &event, webhook, &dests);
            growing.push(&dead);
            let mut accepted = Entry::new(What::Accepted, seq, 0, time);
            let Event { id, r#type, request_id, .. } = event;
            accepted.accepted = Some(Accepted { id, r#type, request_id, webhook, bytes: bytes as u64, dests, at: 0 });
            let read = Batch::decode(growing.body.as_slice());
            prop_assert_eq!(read, Ok(Batch { entries: vec![dead.clone(), accepted, dead] }));
        }
    }
}
