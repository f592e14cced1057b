//! Listings and lookups, on the reading thread.

pub(crate) mod dead;
pub(crate) mod events;

use bytes::Bytes;
use prost::Message;
use rusqlite::{Connection, OptionalExtension};
use zen_model::{Event, ObjectKey};
use zen_seal::Aad;

use super::segments::{self, Place, Records};
use super::sql::{self, int};
use super::state::Names;

/// Binds a record to its tenant, Webhook and event.
pub(crate) fn record_aad(webhook: &ObjectKey, id: &str) -> Aad {
    let parts = [webhook.namespace.as_str().as_bytes(), webhook.name.as_str().as_bytes(), id.as_bytes()];
    Aad::new("zen-mesh/queue/event", &parts)
}

/// What is stored of an event.
#[derive(Debug)]
pub(crate) struct StoredEvent {
    pub webhook: ObjectKey,
    pub id: String,
    /// None: the record does not open.
    pub record: Option<Bytes>,
}

/// Reads and opens one record. None: there is no such event. An error: perhaps another time.
pub(crate) fn event(
    conn: &Connection,
    records: &Records,
    names: &Names,
    seq: u64,
) -> rusqlite::Result<Option<StoredEvent>> {
    let mut tried = None;
    loop {
        let row = conn
            .prepare_cached("SELECT webhook, id, record FROM event WHERE seq = ?1")?
            .query_row([int(seq)], |row| {
                Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .optional()?;
        let Some((webhook, id, stored)) = row else { return Ok(None) };
        let place = Place::decode(&stored);
        let sealed = match place {
            None => Some(stored),
            Some(place) => match records.read(place) {
                Err(error) if !segments::is_gone(&error) => return Err(sql::io(error)),
                read => read.ok(),
            },
        };
        let webhook = names.webhook(webhook);
        let record = sealed.and_then(|sealed| records.keyring.open(&record_aad(&webhook, &id), sealed).ok());
        // The writer may have moved it after its place was read: only what is damaged at one place twice is so.
        if record.is_none() && place.is_some() && tried != place {
            tried = place;
            continue;
        }
        return Ok(Some(StoredEvent { webhook, id, record: record.map(Bytes::from) }));
    }
}

impl StoredEvent {
    /// The event, or what is left of it when the record is damaged.
    pub(crate) fn decode(&self) -> Event {
        let whole = self.record.clone().and_then(|record| Event::decode(record).ok());
        whole.unwrap_or_else(|| Event {
            id: self.id.clone(),
            namespace: self.webhook.namespace.as_str().to_owned(),
            webhook: self.webhook.name.as_str().to_owned(),
            ..Event::default()
        })
    }
}
