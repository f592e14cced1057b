//! Listings and lookups, on the reading thread.

pub(crate) mod dead;
pub(crate) mod events;

use bytes::Bytes;
use prost::Message;
use rusqlite::{Connection, OptionalExtension};
use zen_model::{Event, ObjectKey};
use zen_seal::{Aad, Keyring};

use super::sql::int;
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

/// Reads and opens one record. None: there is no such event.
pub(crate) fn event(
    conn: &Connection,
    keyring: &Keyring,
    names: &Names,
    seq: u64,
) -> rusqlite::Result<Option<StoredEvent>> {
    let row = conn
        .prepare_cached("SELECT webhook, id, record FROM event WHERE seq = ?1")?
        .query_row([int(seq)], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?)))
        .optional()?;
    Ok(row.map(|(webhook, id, sealed)| {
        let webhook = names.webhook(webhook);
        let record = keyring.open(&record_aad(&webhook, &id), sealed).ok().map(Bytes::from);
        StoredEvent { webhook, id, record }
    }))
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
