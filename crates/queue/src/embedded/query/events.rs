//! Events, newest first: from the history, and behind its beginning from the events that still wait.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use zen_model::{DeadReason, EventId, Timestamp};

use crate::embedded::journal::{self, Accepted, Entry, What};
use crate::embedded::open::{NUMBERS, Own};
use crate::embedded::segments::Records;
use crate::embedded::sql::{int, uint};
use crate::embedded::state::Names;
use crate::{DeliveryId, DeliveryState, DeliverySummary, EventDetail, EventFilter, EventSummary, Step};

const LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;

/// What a listing needs beside the database.
pub(crate) struct Context {
    pub records: Records,
    pub names: std::sync::Arc<Names>,
    pub leased: HashSet<DeliveryId>,
    pub own: Own,
}

/// One event with its steps, oldest first.
struct Found {
    seq: u64,
    at: u64,
    accepted: Accepted,
    steps: Vec<Entry>,
}

/// Events that match, newest first.
pub(crate) fn list(conn: &Connection, context: &Context, filter: &EventFilter) -> rusqlite::Result<Vec<EventSummary>> {
    let limit = if filter.limit == 0 { LIMIT } else { filter.limit.min(MAX_LIMIT) };
    let mut listed = Vec::new();
    search(conn, context, filter.since, &mut |found| {
        let webhook = || context.names.webhook(found.accepted.webhook);
        let matches = filter.webhook.as_ref().is_none_or(|key| webhook() == *key)
            && filter.namespace.as_ref().is_none_or(|namespace| webhook().namespace == *namespace)
            && filter.until.is_none_or(|until| found.at < until.0);
        if matches {
            let summary = summary(conn, context, &found)?;
            // A peer lists what was handed over.
            let left = summary.deliveries.is_empty() && !found.accepted.dests.is_empty();
            let delivery = summary.deliveries.iter().any(|delivery| {
                filter.destination.as_ref().is_none_or(|key| delivery.destination == *key)
                    && filter.state.is_none_or(|state| delivery.state == state)
            });
            if delivery || (!left && filter.destination.is_none() && filter.state.is_none()) {
                listed.push(summary);
            }
        }
        Ok(listed.len() < limit)
    })?;
    Ok(listed)
}

/// Every event of this id (sources may use one twice), newest first.
pub(crate) fn get(conn: &Connection, context: &Context, id: &EventId) -> rusqlite::Result<Vec<EventDetail>> {
    let mut details = Vec::new();
    search(conn, context, None, &mut |found| {
        if found.accepted.id == id.as_str() {
            let summary = summary(conn, context, &found)?;
            let history = found.steps.iter().flat_map(|entry| steps(context, entry)).collect();
            let mut request_id = found.accepted.request_id.clone();
            if request_id.is_empty()
                && let Some(stored) = super::event(conn, &context.records, &context.names, found.seq)?
            {
                // Older than the history: the record itself says.
                request_id = stored.decode().request_id;
            }
            details.push(EventDetail { summary, request_id, history });
        }
        Ok(true)
    })?;
    Ok(details)
}

/// Shows every known event to `take`, newest first, until it returns false.
fn search(
    conn: &Connection,
    context: &Context,
    since: Option<Timestamp>,
    take: &mut dyn FnMut(Found) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let since = since.map_or(0, |since| since.0);
    let mut later: HashMap<u64, Vec<Entry>> = HashMap::new();
    let mut first_known = u64::MAX;
    let mut adopted = HashSet::new();
    let mut journal = conn.prepare("SELECT batch, body, at FROM journal ORDER BY batch DESC")?;
    let mut rows = journal.query([])?;
    while let Some(row) = rows.next()? {
        // Everything in a batch happened before it was written.
        if uint(row, 2)? < since {
            return Ok(());
        }
        let Some(batch) = journal::open(&context.records.keyring, uint(row, 0)?, row.get(1)?) else { continue };
        for entry in batch.entries.into_iter().rev() {
            let seq = entry.seq;
            let Some(accepted) = entry.accepted.clone() else {
                later.entry(seq).or_default().push(entry);
                continue;
            };
            let at = if accepted.at == 0 { entry.at } else { accepted.at };
            if entry.what == What::Adopted as u32 {
                if !adopted.insert(seq) {
                    continue;
                }
            } else {
                first_known = first_known.min(seq);
                if adopted.contains(&seq) {
                    // It left and came home: its later life was shown.
                    continue;
                }
            }
            let mut steps = later.remove(&seq).unwrap_or_default();
            steps.push(entry);
            steps.reverse();
            if at >= since && !take(Found { seq, at, accepted, steps })? {
                return Ok(());
            }
        }
    }
    drop(rows);
    search_waiting(conn, context, (first_known, since), (later, adopted), take)
}

/// Events older than the history.
fn search_waiting(
    conn: &Connection,
    context: &Context,
    (before, since): (u64, u64),
    (mut later, adopted): (HashMap<u64, Vec<Entry>>, HashSet<u64>),
    take: &mut dyn FnMut(Found) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut events = conn.prepare(
        "SELECT seq, webhook, id, at, dests FROM event WHERE seq BETWEEN ?1 AND ?2 AND at >= ?3 ORDER BY seq DESC",
    )?;
    // Own numbers ascend with time; those that other queues gave out say nothing about it.
    let first = context.own.first;
    let last = first.saturating_add(NUMBERS - 1);
    let own = (first, last.min(before.saturating_sub(1)));
    for (from, to) in [own, (last + 1, i64::MAX.cast_unsigned()), (0, first - 1)] {
        let mut rows = events.query([from, to, since].map(int))?;
        while let Some(row) = rows.next()? {
            let (seq, at) = (uint(row, 0)?, uint(row, 3)?);
            if adopted.contains(&seq) {
                continue;
            }
            let dests = row.get_ref(4)?.as_blob().unwrap_or_default().chunks_exact(4);
            let accepted = Accepted {
                id: row.get(2)?,
                webhook: row.get(1)?,
                dests: dests.filter_map(<[u8]>::first_chunk).map(|dest| u32::from_be_bytes(*dest)).collect(),
                ..Accepted::default()
            };
            let mut steps = later.remove(&seq).unwrap_or_default();
            steps.push(Entry::new(What::Accepted, seq, 0, at));
            steps.reverse();
            if !take(Found { seq, at, accepted, steps })? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn summary(conn: &Connection, context: &Context, found: &Found) -> rusqlite::Result<EventSummary> {
    let mut last: BTreeMap<u32, &Entry> = BTreeMap::new();
    for entry in found.steps.iter().filter(|entry| entry.dest != 0) {
        last.insert(entry.dest, entry);
    }
    let mut deliveries = Vec::with_capacity(found.accepted.dests.len());
    // Deliveries that another replica brought after the event itself.
    let brought = last.keys().copied().filter(|dest| !found.accepted.dests.contains(dest));
    for dest in found.accepted.dests.iter().copied().chain(brought) {
        if last.get(&dest).is_some_and(|entry| entry.what == What::HandedOver as u32) {
            continue;
        }
        deliveries.push(delivery(conn, context, DeliveryId { seq: found.seq, destination: dest }, last.get(&dest))?);
    }
    let mut accepted = found.accepted.clone();
    if accepted.r#type.is_empty()
        && let Some(stored) = super::event(conn, &context.records, &context.names, found.seq)?
    {
        // Older than the history: the record itself says.
        let event = stored.decode();
        (accepted.r#type, accepted.bytes) = (event.r#type, event.body.len() as u64);
    }
    Ok(EventSummary {
        id: EventId::from(accepted.id.as_str()),
        seq: found.seq,
        webhook: context.names.webhook(accepted.webhook),
        r#type: accepted.r#type,
        accepted: Timestamp(found.at),
        bytes: accepted.bytes,
        deliveries,
    })
}

fn delivery(
    conn: &Connection,
    context: &Context,
    id: DeliveryId,
    last: Option<&&Entry>,
) -> rusqlite::Result<DeliverySummary> {
    let mut shown = DeliverySummary {
        delivery: id.to_string(),
        destination: context.names.destination(id.destination),
        state: DeliveryState::Waiting,
        attempts: 0,
        due: None,
        reason: None,
    };
    match last.and_then(|entry| What::from_number(entry.what).map(|what| (what, entry))) {
        Some((What::Delivered, entry)) => {
            (shown.state, shown.attempts) = (DeliveryState::Delivered, entry.attempts);
        }
        Some((What::Dead, entry)) => {
            (shown.state, shown.attempts) = (DeliveryState::Dead, entry.attempts);
            shown.reason = reason(entry.reason);
        }
        Some((What::Adopted, entry)) if entry.reason != 0 => {
            (shown.state, shown.attempts) = (DeliveryState::Dead, entry.attempts);
            shown.reason = reason(entry.reason);
        }
        Some((What::Adopted, entry)) if entry.attempts == 0 => {}
        Some((What::Attempt | What::Adopted, entry)) => {
            (shown.state, shown.attempts) = (DeliveryState::Retrying, entry.attempts);
            shown.due = Some(Timestamp(entry.due));
        }
        Some(_) => {}
        // The history says nothing (it was trimmed): the table of dead letters may.
        None => {
            let dead = conn
                .prepare_cached("SELECT reason, attempts FROM dead WHERE dest = ?1 AND seq = ?2")?
                .query_row(params![id.destination, int(id.seq)], |row| Ok((row.get::<_, u32>(0)?, row.get(1)?)))
                .optional()?;
            if let Some((number, attempts)) = dead {
                (shown.state, shown.attempts, shown.reason) = (DeliveryState::Dead, attempts, reason(number));
            }
        }
    }
    let open = matches!(shown.state, DeliveryState::Waiting | DeliveryState::Retrying);
    if open && context.leased.contains(&id) {
        shown.state = DeliveryState::Leased;
    }
    Ok(shown)
}

fn reason(number: u32) -> Option<String> {
    let reason = u8::try_from(number).ok().and_then(DeadReason::from_number);
    reason.map(|reason| reason.code().to_owned())
}

/// An entry as steps that people read.
fn steps(context: &Context, entry: &Entry) -> Vec<Step> {
    let Some(what) = What::from_number(entry.what) else { return Vec::new() };
    let destination = (entry.dest != 0).then(|| context.names.destination(entry.dest));
    let step = |what: &str, detail: String| Step {
        at: Timestamp(entry.at),
        destination: destination.clone(),
        what: what.to_owned(),
        detail,
    };
    let attempt = entry.class().map(|class| {
        let status = if entry.status == 0 { String::new() } else { format!(" {}", entry.status) };
        let error = if entry.error.is_empty() { String::new() } else { format!(", {}", entry.error) };
        let detail = format!("{}{status}{error}, {} ms", class.label(), entry.took);
        step("attempt", detail)
    });
    let end = match what {
        What::Accepted => Some(step("accepted", String::new())),
        What::Attempt => None,
        What::Delivered => Some(step("delivered", String::new())),
        What::Dead => Some(step("dead", reason(entry.reason).unwrap_or_default())),
        What::Replayed => Some(step("replayed", String::new())),
        What::Rearmed => Some(step("rearmed", String::new())),
        What::LostLease => Some(step("lost-lease", String::new())),
        What::Adopted => Some(step("adopted", reason(entry.reason).unwrap_or_default())),
        What::HandedOver => Some(step("handed-over", String::new())),
    };
    attempt.into_iter().chain(end).collect()
}
