//! Events of `events.k8s.io/v1`, aggregated: a reason that repeats is one Event whose count goes up, and it is written
//! at most every [`HEARTBEAT`]; many different notes of one reason on one object are bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::names;

/// A repeat is written at most this often.
const HEARTBEAT: Duration = Duration::from_mins(10);
/// Different notes of one reason on one object come at most this fast, after the first [`BURST`].
const REFILL: Duration = Duration::from_mins(1);
const BURST: u32 = 5;
/// Reasons on objects that are remembered; the oldest go first.
const REMEMBERED: usize = 4096;
/// The API server's bound is 1024.
const LONGEST_NOTE: usize = 1000;

/// What is to be said about an object.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Something is not as it should be.
    pub warning: bool,
    /// A reason code.
    pub reason: &'a str,
    /// What was done, or tried: one word such as `Reconcile`.
    pub action: &'a str,
    /// For people; cut at 1000 bytes. Never a secret.
    pub note: &'a str,
}

/// What is to be written.
pub(super) enum Write {
    Create(Box<Event>),
    Repeat { name: String, patch: Value },
}

pub(super) struct Aggregator {
    instance: String,
    said: Mutex<HashMap<Key, Said>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    object: String,
    reason: String,
    warning: bool,
}

struct Said {
    name: String,
    /// None: the API server does not have it.
    note: Option<String>,
    count: i32,
    /// When it was written last.
    written: Instant,
    /// New notes that may still be written.
    tokens: u32,
    refilled: Instant,
}

impl Aggregator {
    pub(super) fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), said: Mutex::default() }
    }

    /// What is to be written for this notice; none when enough was said.
    pub(super) fn next(&self, regarding: &ObjectReference, notice: &Notice<'_>) -> Option<Write> {
        let now = Instant::now();
        let key = Key::of(regarding, notice);
        let note = cut(notice.note);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = said.get_mut(&key) else {
            if said.len() >= REMEMBERED {
                let oldest = said.iter().min_by_key(|(_, said)| said.written).map(|(key, _)| key.clone());
                oldest.map(|key| said.remove(&key));
            }
            let event = self.event(regarding, notice, note);
            let name = event.metadata.name.clone().unwrap_or_default();
            let first =
                Said { name, note: Some(note.to_owned()), count: 1, written: now, tokens: BURST - 1, refilled: now };
            said.insert(key, first);
            return Some(Write::Create(Box::new(event)));
        };
        if last.note.as_deref() == Some(note) {
            last.count = last.count.saturating_add(1);
            if now.duration_since(last.written) < HEARTBEAT {
                return None;
            }
            last.written = now;
            let series = json!({"count": last.count, "lastObservedTime": MicroTime(Timestamp::now())});
            return Some(Write::Repeat { name: last.name.clone(), patch: json!({"series": series}) });
        }
        let refills = now.duration_since(last.refilled).as_secs() / REFILL.as_secs();
        if refills > 0 {
            last.tokens = last.tokens.saturating_add(u32::try_from(refills).unwrap_or(BURST)).min(BURST);
            last.refilled = now;
        }
        last.tokens = last.tokens.checked_sub(1)?;
        let event = self.event(regarding, notice, note);
        last.name = event.metadata.name.clone().unwrap_or_default();
        last.note = Some(note.to_owned());
        (last.count, last.written) = (1, now);
        Some(Write::Create(Box::new(event)))
    }

    /// What was to be written for this notice is not at the API server: it expired, or never came there. It may be said
    /// again, as often as a new note.
    pub(super) fn unsaid(&self, regarding: &ObjectReference, notice: &Notice<'_>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = said.get_mut(&Key::of(regarding, notice)) {
            last.note = None;
        }
    }

    fn event(&self, regarding: &ObjectReference, notice: &Notice<'_>, note: &str) -> Event {
        let now = Timestamp::now();
        let name = regarding.name.as_deref().unwrap_or(names::OPERATOR);
        Event {
            metadata: ObjectMeta {
                namespace: Some(regarding.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                // The name of an Event says nothing; client-go makes it of the object's name and the time, too.
                name: Some(format!("{}.{:x}", &name[..name.len().min(200)], now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            action: Some(notice.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(note.to_owned()),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some("zen-mesh.io/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

impl Key {
    fn of(regarding: &ObjectReference, notice: &Notice<'_>) -> Self {
        Self { object: identity(regarding), reason: notice.reason.to_owned(), warning: notice.warning }
    }
}

fn identity(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{} {}/{} {}", part(&object.kind), part(&object.namespace), part(&object.name), part(&object.uid))
}

fn cut(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> ObjectReference {
        let text = |text: &str| Some(text.to_owned());
        ObjectReference {
            kind: text("Webhook"),
            namespace: text("team-a"),
            name: text("github"),
            uid: text("1"),
            ..ObjectReference::default()
        }
    }

    fn notice(note: &str) -> Notice<'_> {
        Notice { warning: true, reason: "RefNotFound", action: "Reconcile", note }
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_is_counted_and_written_rarely() {
        let events = Aggregator::new("zen-operator-0");
        let Some(Write::Create(event)) = events.next(&webhook(), &notice("no Secret")) else { panic!("said") };
        for _ in 0..100 {
            assert!(events.next(&webhook(), &notice("no Secret")).is_none(), "said already");
        }
        tokio::time::advance(HEARTBEAT).await;
        let Some(Write::Repeat { name, patch }) = events.next(&webhook(), &notice("no Secret")) else {
            panic!("repeated")
        };
        assert_eq!(Some(name), event.metadata.name);
        assert_eq!(patch["series"]["count"], 102);
    }

    #[tokio::test(start_paused = true)]
    async fn many_different_notes_are_bounded() {
        let events = Aggregator::new("zen-operator-0");
        let said = |range: std::ops::Range<u32>| {
            range.filter(|n| events.next(&webhook(), &notice(&n.to_string())).is_some()).count()
        };
        assert_eq!(said(0..100), 5);
        tokio::time::advance(REFILL * 2).await;
        assert_eq!(said(100..200), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_written_is_said_again_within_the_bound() {
        let events = Aggregator::new("zen-operator-0");
        let tries = (0..100).filter(|_| {
            let write = events.next(&webhook(), &notice("no Secret"));
            events.unsaid(&webhook(), &notice("no Secret"));
            matches!(write, Some(Write::Create(_)))
        });
        assert_eq!(tries.count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_long_notes_are_cut() {
        let events = Aggregator::new("zen-operator-0");
        for number in 0..2 * REMEMBERED {
            let object = ObjectReference { uid: Some(number.to_string()), ..webhook() };
            assert!(events.next(&object, &notice("x")).is_some());
        }
        assert_eq!(events.said.lock().expect("lock").len(), REMEMBERED);
        let long = "ü".repeat(LONGEST_NOTE);
        let object = ObjectReference { uid: None, ..webhook() };
        let Some(Write::Create(event)) = events.next(&object, &notice(&long)) else { panic!("said") };
        assert_eq!(event.note.map(|note| note.len()), Some(LONGEST_NOTE));
    }
}
