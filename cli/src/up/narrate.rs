//! A line per event: what `zen up` says while it runs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use zen_model::observe::Observation;
use zen_model::settle::Class;
use zen_model::{DeadReason, EventId, ObjectKey, Timestamp};
use zen_runtime::watch::Feed;

use super::order::Ordered;
use super::printer::{Printer, Reader};
use crate::output::{Style, count, plain_text, size, span};

/// Lines a second on a terminal; what is beyond is counted and summed up.
const LINES_A_SECOND: u32 = 50;
/// Observations that are written at once for machines.
const BATCH: usize = 256;
/// Characters of an event id or type that are shown.
const SHOWN: usize = 48;

/// Prints observations until every tap is gone.
pub async fn narrate(feed: Feed, printer: Printer) {
    let mut feed = Ordered::new(feed);
    match printer.reader() {
        Reader::People(style) => for_people(&mut feed, &printer, style).await,
        Reader::Machines => for_machines(&mut feed, &printer).await,
    }
}

async fn for_machines(feed: &mut Ordered, printer: &Printer) {
    while let Some(first) = feed.next().await {
        let mut text = Vec::new();
        let now = Timestamp::now().to_string();
        let more = std::iter::from_fn(|| feed.try_next()).take(BATCH - 1);
        for observation in std::iter::once(first).chain(more) {
            // Writing to memory cannot fail, and the record holds nothing that JSON lacks.
            let _ = serde_json::to_writer(&mut text, &record(&observation, &now));
            text.push(b'\n');
        }
        let mut text = String::from_utf8(text).unwrap_or_default();
        match feed.take_dropped() {
            0 => {}
            dropped => {
                let _ = writeln!(text, "{}", json!({"at": now, "what": "dropped", "lines": dropped}));
            }
        }
        printer.text(text);
    }
}

async fn for_people(feed: &mut Ordered, printer: &Printer, style: Style) {
    let mut bounded = Bounded::default();
    loop {
        let next = match bounded.ends() {
            None => Ok(feed.next().await),
            Some(end) => tokio::time::timeout_at(end, feed.next()).await,
        };
        let Ok(observation) = next else {
            if let Some(line) = bounded.summary(feed.take_dropped()) {
                printer.text(format!("{}\n", style.faint(&line)));
            }
            continue;
        };
        let Some(observation) = observation else { return };
        if bounded.admits(&observation, Instant::now()) {
            printer.text(line(&observation, Timestamp::now(), style));
        }
    }
}

/// At most [`LINES_A_SECOND`]; the rest of the second is counted.
#[derive(Debug, Default)]
struct Bounded {
    window: Option<Instant>,
    shown: u32,
    hidden: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    duplicates: u64,
    refused: u64,
    delivered: u64,
    failed: u64,
}

impl Bounded {
    /// When what was hidden has to be summed up; none while nothing is hidden.
    fn ends(&self) -> Option<Instant> {
        let hidden = &self.hidden;
        let any = hidden.accepted + hidden.duplicates + hidden.refused + hidden.delivered + hidden.failed > 0;
        if any { self.window.map(|start| start + Duration::from_secs(1)) } else { None }
    }

    fn admits(&mut self, observation: &Observation, now: Instant) -> bool {
        if self.window.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1)) && self.ends().is_none()
        {
            self.window = Some(now);
            self.shown = 0;
        }
        if self.shown < LINES_A_SECOND || matches!(observation, Observation::Breaker { .. }) {
            self.shown += 1;
            return true;
        }
        match observation {
            Observation::Accepted { .. } => self.hidden.accepted += 1,
            Observation::Duplicate { .. } | Observation::Challenged { .. } => self.hidden.duplicates += 1,
            Observation::Refused { .. } => self.hidden.refused += 1,
            Observation::Attempted { class: Class::Delivered, .. } => self.hidden.delivered += 1,
            Observation::Attempted { .. } | Observation::Breaker { .. } => self.hidden.failed += 1,
        }
        false
    }

    /// The summary of what was hidden, with which a new second begins.
    fn summary(&mut self, dropped: u64) -> Option<String> {
        let hidden = std::mem::take(&mut self.hidden);
        self.window = None;
        let parts = [
            (hidden.accepted, "accepted"),
            (hidden.duplicates, "repeated"),
            (hidden.refused, "refused"),
            (hidden.delivered, "delivered"),
            (hidden.failed, "failed attempts"),
            (dropped, "not counted"),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{} {what}", count(*number)))
            .collect();
        if parts.is_empty() { None } else { Some(format!("… and {}", parts.join(", "))) }
    }
}

/// One line for people, with its newline.
pub fn line(observation: &Observation, now: Timestamp, style: Style) -> String {
    let (word, rest) = match observation {
        Observation::Accepted { webhook, id, r#type, bytes, deliveries } => {
            let to = match deliveries {
                0 => style.warn("no route takes it").into_owned(),
                1 => "1 delivery".to_owned(),
                number => format!("{number} deliveries"),
            };
            let r#type = plain_text(r#type, SHOWN);
            (
                style.good("accepted "),
                format!("{webhook}  {type}  {}  {}  {to}", shown(id.as_str()), size(*bytes as u64)),
            )
        }
        Observation::Duplicate { webhook, id } => {
            (style.faint("repeated "), format!("{webhook}  {}  already accepted", shown(id.as_str())))
        }
        Observation::Refused { webhook, reason } => {
            let webhook = webhook.as_ref().map_or_else(|| "-".to_owned(), ObjectKey::to_string);
            (style.bad("refused  "), format!("{webhook}  {} {}", reason.status(), reason.code()))
        }
        Observation::Challenged { webhook } => (style.good("challenge"), format!("{webhook}  answered")),
        Observation::Attempted { destination, id, attempt, class, status, took, error, retry_in, dead } => {
            let mut how = if *status > 0 { status.to_string() } else { error.unwrap_or("no answer").to_owned() };
            let _ = write!(how, " in {}", span(*took));
            if *attempt > 1 || *class != Class::Delivered {
                let _ = write!(how, ", attempt {attempt}");
            }
            let word = match (class, dead) {
                (Class::Delivered, _) => style.good("delivered"),
                (_, Some(_)) => style.bad("dead     "),
                (_, None) => style.warn("failed   "),
            };
            if let Some(dead) = dead {
                let _ = write!(how, ", {}: zen dead-letters show tells more", dead.code());
            } else if let Some(wait) = retry_in {
                let _ = write!(how, ", again in {}", span(*wait));
            }
            (word, format!("{destination}  {}  {how}", shown(id.as_str())))
        }
        Observation::Breaker { destination, opened: true } => {
            (style.bad("breaker  "), format!("{destination}  opened: events wait, uncharged"))
        }
        Observation::Breaker { destination, opened: false } => {
            (style.good("breaker  "), format!("{destination}  closed: deliveries flow again"))
        }
    };
    format!("{}  {word}  {rest}\n", style.faint(&clock(now)))
}

fn shown(id: &str) -> String {
    plain_text(id, SHOWN)
}

/// `08:00:00.123`, UTC.
pub fn clock(now: Timestamp) -> String {
    let text = now.to_string();
    text.get(11..23).unwrap_or(&text).to_owned()
}

/// One line for machines; what does not apply is left out.
#[derive(Debug, Default, Serialize)]
struct Record<'a> {
    at: &'a str,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<&'a ObjectKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a ObjectKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

fn record<'a>(observation: &'a Observation, at: &'a str) -> Record<'a> {
    let empty = Record { at, ..Record::default() };
    match observation {
        Observation::Accepted { webhook, id, r#type, bytes, deliveries } => Record {
            what: "accepted",
            webhook: Some(webhook),
            id: Some(id),
            r#type: Some(r#type),
            bytes: Some(*bytes),
            deliveries: Some(*deliveries),
            ..empty
        },
        Observation::Duplicate { webhook, id } => {
            Record { what: "duplicate", webhook: Some(webhook), id: Some(id), ..empty }
        }
        Observation::Refused { webhook, reason } => Record {
            what: "refused",
            webhook: webhook.as_ref(),
            reason: Some(reason.code()),
            status: Some(reason.status()),
            ..empty
        },
        Observation::Challenged { webhook } => Record { what: "challenged", webhook: Some(webhook), ..empty },
        Observation::Attempted { destination, id, attempt, class, status, took, error, retry_in, dead } => Record {
            what: match (class, dead) {
                (Class::Delivered, _) => "delivered",
                (_, Some(_)) => "dead",
                (_, None) => "failed",
            },
            destination: Some(destination),
            id: Some(id),
            attempt: Some(*attempt),
            class: Some(class.label()),
            status: (*status > 0).then_some(*status),
            took_seconds: Some(took.as_secs_f64()),
            error: *error,
            retry_in_seconds: retry_in.map(|wait| wait.as_secs_f64()),
            reason: dead.map(DeadReason::code),
            ..empty
        },
        Observation::Breaker { destination, opened } => Record {
            what: if *opened { "breaker-opened" } else { "breaker-closed" },
            destination: Some(destination),
            ..empty
        },
    }
}

#[cfg(test)]
mod tests {
    use zen_model::Refusal;

    use super::*;

    fn attempted(class: Class, status: u16, dead: Option<DeadReason>) -> Observation {
        Observation::Attempted {
            destination: ObjectKey::new("team-a", "ci"),
            id: EventId::from("e1"),
            attempt: 2,
            class,
            status,
            took: Duration::from_millis(12),
            error: None,
            retry_in: dead.is_none().then_some(Duration::from_secs(4)),
            dead,
        }
    }

    #[test]
    fn lines_for_people() {
        let at = Timestamp(1_700_000_000_123);
        let line = |observation: &Observation| line(observation, at, Style::plain());
        let accepted = Observation::Accepted {
            webhook: ObjectKey::new("team-a", "github"),
            id: EventId::from("e\x1b[2J1"),
            r#type: "push".into(),
            bytes: 1536,
            deliveries: 2,
        };
        assert_eq!(
            line(&accepted),
            "22:13:20.123  accepted   team-a/github  push  e\u{fffd}[2J1  1.5 KiB  2 deliveries\n"
        );
        let refused = Observation::Refused { webhook: None, reason: Refusal::UnknownPath };
        assert_eq!(line(&refused), "22:13:20.123  refused    -  404 UnknownPath\n");
        let failed = line(&attempted(Class::Transient, 503, None));
        assert_eq!(failed, "22:13:20.123  failed     team-a/ci  e1  503 in 12 ms, attempt 2, again in 4.0 s\n");
        let dead = line(&attempted(Class::Rejected, 400, Some(DeadReason::Rejected)));
        assert!(dead.contains("dead") && dead.contains("Rejected"), "{dead}");
    }

    #[test]
    fn a_flood_is_summed_up() {
        let mut bounded = Bounded::default();
        let now = Instant::now();
        let shown = (0..1000).filter(|_| bounded.admits(&attempted(Class::Delivered, 200, None), now)).count();
        assert_eq!(shown, LINES_A_SECOND as usize);
        assert!(bounded.ends().is_some());
        assert_eq!(bounded.summary(3).as_deref(), Some("… and 950 delivered, 3 not counted"));
        assert!(bounded.ends().is_none());
        assert!(bounded.admits(&attempted(Class::Delivered, 200, None), now), "a new second");
    }

    #[test]
    fn records_for_machines_have_no_room_for_payloads() {
        let observation = attempted(Class::Transient, 503, None);
        let record = serde_json::to_value(record(&observation, "now")).expect("writes");
        assert_eq!(record["what"], "failed");
        assert_eq!(record["retry_in_seconds"], 4.0);
        assert_eq!(record["destination"], "team-a/ci");
        assert!(record.get("webhook").is_none());
    }
}
