//! Dead letters: which are meant, and what is shown of them.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use zen_model::{DeadReason, Event, EventId, Timestamp};

use crate::embedded::batch::response_aad;
use crate::embedded::segments::Records;
use crate::embedded::sql::{int, uint};
use crate::embedded::state::Names;
use crate::{DeadFilter, DeadLetter, DeliveryId};

const COLUMNS: &str = "dest, seq, since, reason, attempts, at, bytes, status, error";

/// Listings show so many when the filter names no number.
const LIMIT: usize = 100;
/// And never more than this at once.
const MAX_LIMIT: usize = 10_000;

/// A filter as SQL.
#[derive(Debug)]
pub(crate) struct Condition {
    text: String,
    values: Vec<Value>,
}

impl Condition {
    /// None: the filter names something that this queue has never seen, so that nothing can match.
    pub(crate) fn of(filter: &DeadFilter, names: &Names) -> Option<Self> {
        let mut condition = Self { text: "1".to_owned(), values: Vec::new() };
        if !filter.ids.is_empty() {
            let ids: Vec<DeliveryId> = filter.ids.iter().filter_map(|id| id.parse().ok()).collect();
            let places = vec!["(?, ?)"; ids.len()].join(", ");
            condition.text.extend([" AND (dest, seq) IN (VALUES ", &places, ")"]);
            if ids.is_empty() {
                return None;
            }
            for id in ids {
                condition.values.push(id.destination.into());
                condition.values.push(int(id.seq).into());
            }
        }
        if let Some(namespace) = &filter.namespace {
            let numbers: Vec<u32> = names.destinations_of(namespace).collect();
            if numbers.is_empty() {
                return None;
            }
            condition.text.extend([" AND dest IN (", &vec!["?"; numbers.len()].join(", "), ")"]);
            condition.values.extend(numbers.into_iter().map(Value::from));
        }
        if let Some(key) = &filter.destination {
            condition.and(" AND dest = ?", names.number_of(key)?.into());
        }
        if let Some(key) = &filter.webhook {
            condition.and(" AND webhook = ?", names.number_of_webhook(key)?.into());
        }
        if let Some(code) = &filter.reason {
            condition.and(" AND reason = ?", i64::from(DeadReason::from_code(code)? as u8).into());
        }
        if let Some(since) = filter.since {
            condition.and(" AND since >= ?", int(since.0).into());
        }
        if let Some(until) = filter.until {
            condition.and(" AND since < ?", int(until.0).into());
        }
        Some(condition)
    }

    fn and(&mut self, text: &str, value: Value) {
        self.text += text;
        self.values.push(value);
    }

    /// The oldest that match.
    pub(crate) fn select(&self, conn: &Connection, limit: usize) -> rusqlite::Result<Vec<DeliveryId>> {
        conn.prepare_cached(&format!(
            "SELECT dest, seq FROM dead WHERE {} ORDER BY since, seq, dest LIMIT {limit}",
            self.text
        ))?
        .query_map(params_from_iter(&self.values), |row| {
            Ok(DeliveryId { destination: row.get(0)?, seq: uint(row, 1)? })
        })?
        .collect()
    }

    pub(crate) fn count(&self, conn: &Connection) -> rusqlite::Result<u64> {
        conn.prepare_cached(&format!("SELECT count(*) FROM dead WHERE {}", self.text))?
            .query_row(params_from_iter(&self.values), |row| uint(row, 0))
    }
}

/// One row of `dead`.
struct Dead {
    delivery: DeliveryId,
    since: u64,
    reason: u8,
    attempts: u32,
    at: u64,
    bytes: u64,
    status: u16,
    error: Option<String>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Dead> {
    Ok(Dead {
        delivery: DeliveryId { destination: row.get(0)?, seq: uint(row, 1)? },
        since: uint(row, 2)?,
        reason: row.get(3)?,
        attempts: row.get(4)?,
        at: uint(row, 5)?,
        bytes: uint(row, 6)?,
        status: row.get(7)?,
        error: row.get(8)?,
    })
}

/// Dead letters that match, oldest first.
pub(crate) fn list(
    conn: &Connection,
    records: &Records,
    names: &Names,
    filter: &DeadFilter,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let Some(condition) = Condition::of(filter, names) else { return Ok(Vec::new()) };
    let limit = if filter.limit == 0 { LIMIT } else { filter.limit.min(MAX_LIMIT) };
    let rows: Vec<Dead> = conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead WHERE {} ORDER BY since, seq, dest LIMIT {limit}",
            condition.text
        ))?
        .query_map(params_from_iter(&condition.values), read)?
        .collect::<Result<_, _>>()?;
    Ok(rows.into_iter().map(|row| show(conn, records, names, row).0).collect())
}

/// One dead letter with its event and the response that was kept.
pub(crate) fn get(
    conn: &Connection,
    records: &Records,
    names: &Names,
    delivery: DeliveryId,
) -> rusqlite::Result<Option<(DeadLetter, Event)>> {
    let at = params![delivery.destination, int(delivery.seq)];
    let row = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM dead WHERE dest = ?1 AND seq = ?2"))?
        .query_row(at, read)
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let (mut letter, event) = show(conn, records, names, row);
    let response = conn
        .prepare_cached("SELECT body FROM response WHERE dest = ?1 AND seq = ?2")?
        .query_row(at, |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    letter.last_response = response
        .and_then(|sealed| records.keyring.open(&response_aad(delivery), sealed).ok())
        .map(|response| String::from_utf8_lossy(&response).into_owned());
    Ok(Some((letter, event)))
}

fn show(conn: &Connection, records: &Records, names: &Names, dead: Dead) -> (DeadLetter, Event) {
    // A page that cannot be read costs the listing one event's details, not the listing.
    let stored = super::event(conn, records, names, dead.delivery.seq).ok().flatten();
    let damaged = stored.as_ref().is_none_or(|stored| stored.record.is_none());
    let event = stored.map(|stored| stored.decode()).unwrap_or_default();
    let letter = DeadLetter {
        id: dead.delivery.to_string(),
        event: EventId::from(event.id.as_str()),
        webhook: event.webhook_key(),
        destination: names.destination(dead.delivery.destination),
        r#type: event.r#type.clone(),
        reason: DeadReason::from_number(dead.reason).map_or("Unknown", DeadReason::code).to_owned(),
        attempts: dead.attempts,
        accepted: Timestamp(dead.at),
        since: Timestamp(dead.since),
        last_status: dead.status,
        last_error: dead.error,
        bytes: if damaged { dead.bytes } else { event.body.len() as u64 },
        last_response: None,
    };
    (letter, event)
}
