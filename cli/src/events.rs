//! `zen events`: what became of the events.

use std::path::PathBuf;

use clap::Args;
use zen_model::{ObjectKey, Timestamp};
use zen_queue::{DeliveryState, DeliverySummary, EventDetail, EventFilter, EventSummary};

use crate::client::{client, segment};
use crate::cluster::InCluster;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Style, Table, plain_text, size};
use crate::parse;

/// Characters of ids and types that are shown.
const SHOWN: usize = 48;

/// List events, or show one with its whole history.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen events --since 10m                               of the last ten minutes
  zen events --state dead --destination team-a/ci      what could not be delivered there
  zen events 4f1c2a0e-…                                one event, step by step")]
pub struct Events {
    /// Show this event with its history.
    id: Option<String>,
    /// Of this Webhook.
    #[arg(long, value_name = "NS/NAME", conflicts_with = "id")]
    webhook: Option<ObjectKey>,
    /// With a delivery to this Destination.
    #[arg(long, value_name = "NS/NAME", conflicts_with = "id")]
    destination: Option<ObjectKey>,
    /// With a delivery in this state: waiting, retrying, leased, delivered or dead. Anything else names the state
    /// folder, as with the other commands.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<State>,
    /// Accepted since: a time, or an age such as 10m.
    #[arg(long, value_name = "TIME", conflicts_with = "id", value_parser = parse::time)]
    since: Option<Timestamp>,
    /// Accepted before: a time, or an age such as 10m.
    #[arg(long, value_name = "TIME", conflicts_with = "id", value_parser = parse::time)]
    until: Option<Timestamp>,
    /// At most so many, newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// The folder of the manifests that the mesh runs on; its state is DIR/.zen.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    cluster: InCluster,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// `--state` has two meanings here, and the words tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Of(DeliveryState),
    Folder(PathBuf),
}

#[allow(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn state(text: &str) -> Result<State, String> {
    Ok(serde_json::from_value(text.into()).map_or_else(|_| State::Folder(PathBuf::from(text)), State::Of))
}

impl Events {
    /// Asks and prints.
    pub async fn run(self) -> Outcome {
        let output = self.output;
        let (mut wanted, mut folder) = (None, None);
        for state in self.state {
            match state {
                State::Of(state) => wanted = Some(state),
                State::Folder(named) => folder = Some(named),
            }
        }
        let mut client = client(&self.cluster, folder.as_deref(), self.dir.as_deref()).await?;
        if let Some(id) = &self.id {
            let path = format!("/api/v1/events/{}", segment(id));
            let found: Option<Vec<EventDetail>> = client.find(&path, &()).await?;
            return match found {
                Some(found) if !found.is_empty() => output.print(&found, |found| details(found, Style::stdout())),
                _ => Err(Failure::new(format!("no event {} is known", plain_text(id, 200)))
                    .hint("zen events lists what is known; history is kept for a bounded time")),
            };
        }
        let filter = EventFilter {
            namespace: None,
            webhook: self.webhook,
            destination: self.destination,
            state: wanted,
            since: self.since,
            until: self.until,
            limit: usize::from(self.limit),
        };
        let found: Vec<EventSummary> = client.get("/api/v1/events", &filter).await?;
        output.print(&found, |found| table(found, Style::stdout()))
    }
}

fn table(events: &[EventSummary], style: Style) -> String {
    if events.is_empty() {
        return "no events\n".to_owned();
    }
    let mut table = Table::new(["ACCEPTED", "WEBHOOK", "TYPE", "ID", "SIZE", "DELIVERIES"]);
    for event in events {
        table.row([
            event.accepted.to_string(),
            event.webhook.to_string(),
            plain_text(&event.r#type, SHOWN),
            plain_text(event.id.as_str(), SHOWN),
            size(event.bytes),
            deliveries(&event.deliveries, style),
        ]);
    }
    table.render()
}

fn deliveries(deliveries: &[DeliverySummary], style: Style) -> String {
    if deliveries.is_empty() {
        return style.warn("unrouted").into_owned();
    }
    let one = |delivery: &DeliverySummary| format!("{} {}", delivery.destination, stands(delivery, style));
    deliveries.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn stands(delivery: &DeliverySummary, style: Style) -> String {
    let attempts = delivery.attempts;
    match delivery.state {
        DeliveryState::Delivered => style.good("delivered").into_owned(),
        DeliveryState::Waiting => "waiting".to_owned(),
        DeliveryState::Leased => "in delivery".to_owned(),
        DeliveryState::Retrying => style.warn(&format!("retrying after {attempts}")).into_owned(),
        DeliveryState::Dead => {
            style.bad(&format!("dead {}", delivery.reason.as_deref().unwrap_or_default())).into_owned()
        }
    }
}

fn details(events: &[EventDetail], style: Style) -> String {
    let mut text = String::new();
    for event in events {
        let EventDetail { summary, request_id, history } = event;
        let mut facts = Table::bare(0);
        facts.row([style.strong("event").into_owned(), plain_text(summary.id.as_str(), 200)]);
        facts.row(["webhook".to_owned(), summary.webhook.to_string()]);
        facts.row(["type".to_owned(), plain_text(&summary.r#type, 200)]);
        facts.row(["accepted".to_owned(), summary.accepted.to_string()]);
        facts.row(["size".to_owned(), size(summary.bytes)]);
        facts.row(["request id".to_owned(), plain_text(request_id, 200)]);
        for delivery in &summary.deliveries {
            let stands = stands(delivery, style);
            facts.row(["delivery".to_owned(), format!("{}  {}  {stands}", delivery.delivery, delivery.destination)]);
        }
        text.push_str(&facts.render());
        let mut steps = Table::bare(2);
        for step in history {
            let destination = step.destination.as_ref().map(ObjectKey::to_string).unwrap_or_default();
            steps.row([step.at.to_string(), step.what.clone(), destination, plain_text(&step.detail, 200)]);
        }
        text.push_str(&steps.render());
    }
    text
}

#[cfg(test)]
mod tests {
    use zen_model::EventId;

    use super::*;

    #[test]
    fn a_listing_says_where_each_delivery_stands() {
        let event = EventSummary {
            id: EventId::from("e1"),
            seq: 1,
            webhook: ObjectKey::new("team-a", "github"),
            r#type: "push".to_owned(),
            accepted: Timestamp(1_700_000_000_123),
            bytes: 512,
            deliveries: vec![DeliverySummary {
                delivery: "1-1".to_owned(),
                destination: ObjectKey::new("team-a", "ci"),
                state: DeliveryState::Dead,
                attempts: 1,
                due: None,
                reason: Some("Rejected".to_owned()),
            }],
        };
        let text = table(&[event], Style::plain());
        assert!(
            text.ends_with("2023-11-14T22:13:20.123Z  team-a/github  push  e1  512 B  team-a/ci dead Rejected\n"),
            "{text}"
        );
        assert_eq!(state("dead"), Ok(State::Of(DeliveryState::Dead)));
        assert_eq!(state("dir/.zen"), Ok(State::Folder("dir/.zen".into())));
    }
}
