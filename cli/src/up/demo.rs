//! `--demo`: one signed sample to each Webhook, over TLS like any source, and the way of each event.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use zen_compile::{Serving, Snapshot};
use zen_model::{EventId, ObjectKey, Timestamp};
use zen_queue::{DeliveryState, EventDetail, EventFilter, Queue};

use super::printer::Printer;
use super::receiver::Receiver;
use crate::failure::{Context as _, Outcome};
use crate::manifests;
use crate::output::{Style, plain_text, span};
use crate::send::Sender;
use crate::state::{Addresses, Place};

/// An event whose deliveries take longer is shown as it stands.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the queue is asked where an event stands.
const LOOK: Duration = Duration::from_millis(20);

/// The demonstration.
pub struct Demo<'a> {
    /// The folder of the manifests.
    pub dir: &'a Path,
    /// What its `ZenLock`s are opened with.
    pub keyring: &'a zen_lock::Keyring,
    /// The CA that the intake's certificate comes from lies here.
    pub place: &'a Place,
    /// Where the process listens.
    pub addresses: &'a Addresses,
    /// Which Webhooks there are.
    pub snapshot: &'a Snapshot,
    /// Where events stand.
    pub queue: &'a Arc<dyn Queue>,
    /// The stand-in for the targets.
    pub receiver: &'a Receiver,
}

/// One sample's way.
struct Shown {
    webhook: String,
    status: u16,
    answered: Duration,
    event: Option<EventDetail>,
}

impl Demo<'_> {
    /// Sends, waits and tells.
    pub async fn run(&self, printer: &Printer) {
        self.introduce(printer);
        let mut shown = Vec::new();
        for (key, webhook) in &self.snapshot.webhooks {
            if !matches!(webhook.serving, Serving::Active(_)) {
                continue;
            }
            match self.send(key).await {
                Ok(sample) => shown.push(sample),
                Err(failure) => printer.say(
                    |style| format!("{}\n", style.bad(&format!("  demo: {key}: {failure}"))),
                    &json!({"what": "demo", "webhook": key, "error": failure.to_string()}),
                ),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for sample in &mut shown {
            self.settle(sample, deadline).await;
        }
        printer.say(|style| summary(&shown, style), &record(&shown));
    }

    fn introduce(&self, printer: &Printer) {
        let list = |addresses: &[std::net::SocketAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let Receiver { bound, taken } = self.receiver;
        let text = |style: Style| {
            let mut text = format!("  {}\n", style.strong("Demonstration: one signed sample to each Webhook"));
            if !bound.is_empty() {
                let _ = writeln!(text, "  receiving for the Destinations on {}", list(bound));
            }
            if !taken.is_empty() {
                let line = format!("  {} is in use: whoever listens there receives", list(taken));
                let _ = writeln!(text, "{}", style.warn(&line));
            }
            text + "\n"
        };
        printer.say(text, &json!({"what": "demo", "receiving": list(bound), "in_use": list(taken)}));
    }

    async fn send(&self, key: &ObjectKey) -> Outcome<Shown> {
        let known = manifests::read(self.dir, self.keyring.clone())?.webhook(key)?;
        let mut sender = Sender::to_intake(known, &self.addresses.intake, &self.place.ca_file())?;
        let began = Instant::now();
        // Another sample each time the demonstration runs on the same state.
        let nth = Timestamp::now().0;
        let answer = sender.send(None, nth).await?;
        let answered = began.elapsed();
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let event = match body["id"].as_str() {
            Some(id) => self.find(id).await?,
            // Some providers want another answer than an id: the newest event of the Webhook is the one.
            None => match self.newest(key).await? {
                Some(id) => self.find(id.as_str()).await?,
                None => None,
            },
        };
        Ok(Shown { webhook: key.to_string(), status: answer.status.as_u16(), answered, event })
    }

    async fn newest(&self, key: &ObjectKey) -> Outcome<Option<EventId>> {
        let filter = EventFilter { webhook: Some(key.clone()), limit: 1, ..EventFilter::default() };
        let found = self.queue.events(filter).await.context("failed to look the event up")?;
        Ok(found.into_iter().next().map(|event| event.id))
    }

    async fn find(&self, id: &str) -> Outcome<Option<EventDetail>> {
        let found = self.queue.event(EventId::from(id)).await.context("failed to look the event up")?;
        Ok(found.into_iter().next_back())
    }

    /// Waits until every delivery of the event has ended.
    async fn settle(&self, sample: &mut Shown, deadline: Instant) {
        while let Some(event) = &sample.event {
            let ended = |state| matches!(state, DeliveryState::Delivered | DeliveryState::Dead);
            if event.summary.deliveries.iter().all(|delivery| ended(delivery.state)) || Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(LOOK).await;
            match self.find(event.summary.id.as_str()).await {
                Ok(Some(event)) => sample.event = Some(event),
                _ => return,
            }
        }
    }
}

fn summary(shown: &[Shown], style: Style) -> String {
    let mut text = format!("\n  {}\n", style.strong("What became of them"));
    for sample in shown {
        let status = sample.status.to_string();
        let status = if (200..300).contains(&sample.status) { style.good(&status) } else { style.bad(&status) };
        let took = span(sample.answered);
        let _ = writeln!(text, "\n  {}  answered {status} after {took}", style.strong(&sample.webhook));
        let Some(event) = &sample.event else { continue };
        let accepted = event.summary.accepted;
        for step in &event.history {
            let after = format!("+{} ms", step.at.since(accepted).as_millis());
            let to = step.destination.as_ref().map_or_else(|| "verified, on disk".to_owned(), ToString::to_string);
            let what = match step.what.as_str() {
                "delivered" => style.good("delivered"),
                "dead" => style.bad("dead     "),
                other => format!("{other:<9}").into(),
            };
            let _ = writeln!(text, "    {after:>9}  {what}  {to}  {}", style.faint(&plain_text(&step.detail, 100)));
        }
    }
    text.push_str("\n  It goes on serving: send more, change the manifests, end it with Ctrl-C.\n\n");
    text
}

fn record(shown: &[Shown]) -> Value {
    let events = shown.iter().map(|sample| {
        json!({
            "webhook": sample.webhook, "status": sample.status, "answered_seconds": sample.answered.as_secs_f64(),
            "event": sample.event,
        })
    });
    json!({"at": Timestamp::now(), "what": "demo", "events": events.collect::<Vec<_>>()})
}
