//! `zen status`: what is in effect, and how it does.

use std::fmt::Write as _;

use clap::Args;
use zen_ingester::admin::types::{DestinationStatus, Problem, Status, WebhookStatus};
use zen_model::Timestamp;

use crate::client::Ask;
use crate::failure::Outcome;
use crate::output::{Style, Table, count, plain_text, size, span};

/// Show what is in effect and how it does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen status --dir examples/quickstart
  zen status -o json | jq '.destinations[] | select(.breaker != \"closed\")'")]
pub struct StatusCommand {
    #[command(flatten)]
    ask: Ask,
}

impl StatusCommand {
    /// Asks and prints.
    pub async fn run(self) -> Outcome {
        let mut client = self.ask.client().await?;
        let status: Status = client.get("/api/v1/status", &()).await?;
        self.ask.output.print(&status, |status| text(status, Timestamp::now(), Style::stdout()))
    }
}

fn text(status: &Status, now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    let mut webhooks =
        Table::new(["WEBHOOK", "PROVIDER", "SERVED AT", "STATE", "ACCEPTED", "REPEATS", "REFUSED", "VERIFIED BY"]);
    for webhook in &status.webhooks {
        let counts = webhook.counts;
        webhooks.row([
            webhook.key.to_string(),
            webhook.provider.clone(),
            served_at(webhook),
            webhook_state(webhook, style),
            count(counts.accepted),
            count(counts.duplicates),
            count(counts.refused),
            webhook.last_verified.as_ref().map_or_else(
                || "-".to_owned(),
                |last| format!("{}, {} ago", plain_text(&last.secret, 60), span(now.since(last.at))),
            ),
        ]);
    }
    section(&mut text, "no Webhooks", status.webhooks.is_empty(), &webhooks);
    let mut destinations = Table::new(["DESTINATION", "TARGET", "STATE", "WAITING", "RETRYING", "DEAD", "OLDEST"]);
    for destination in &status.destinations {
        destinations.row([
            destination.key.to_string(),
            destination.target.clone(),
            destination_state(destination, now, style),
            count(destination.waiting),
            count(destination.retrying),
            if destination.dead > 0 { style.bad(&count(destination.dead)).into_owned() } else { "0".to_owned() },
            destination.oldest.map_or_else(|| "-".to_owned(), |oldest| span(now.since(oldest))),
        ]);
    }
    section(&mut text, "no Destinations", status.destinations.is_empty(), &destinations);
    let queue = &status.queue;
    let health = if queue.health == "ok" { style.good("ok") } else { style.bad(&queue.health) };
    let _ = writeln!(
        text,
        "queue: {health}, {} waiting or dead, {} on disk; an acknowledgement means {}",
        size(queue.bytes),
        size(queue.disk_bytes),
        queue.durability,
    );
    for (destination, bytes) in &queue.orphans {
        let _ = writeln!(text, "  {} wait for {destination}, which is in no configuration", size(*bytes));
    }
    match status.sessions.len() {
        0 => {
            let _ = writeln!(text, "{}", style.bad("no egress is connected: nothing is delivered"));
        }
        _ => {
            for session in &status.sessions {
                let since = span(now.since(session.since));
                let _ = writeln!(text, "egress: {}, for {since}, {} in delivery", session.peer, count(session.leases));
            }
        }
    }
    problems(&mut text, status, style);
    text
}

fn section(text: &mut String, nothing: &str, is_empty: bool, table: &Table) {
    if is_empty {
        let _ = writeln!(text, "{nothing}\n");
    } else {
        let _ = writeln!(text, "{}", table.render());
    }
}

fn served_at(webhook: &WebhookStatus) -> String {
    match webhook.hosts.as_slice() {
        [] => webhook.path.clone(),
        [host] => format!("{host}{}", webhook.path),
        [host, more @ ..] => format!("{host}{} (+{})", webhook.path, more.len()),
    }
}

fn webhook_state(webhook: &WebhookStatus, style: Style) -> String {
    match webhook {
        WebhookStatus { accepted: false, problems, .. } => style.bad(first_reason(problems)).into_owned(),
        WebhookStatus { inactive: true, .. } => style.warn("inactive").into_owned(),
        _ => style.good("ok").into_owned(),
    }
}

fn destination_state(destination: &DestinationStatus, now: Timestamp, style: Style) -> String {
    match destination {
        DestinationStatus { accepted: false, problems, .. } => style.bad(first_reason(problems)).into_owned(),
        DestinationStatus { gone: true, .. } => style.bad("gone (410)").into_owned(),
        DestinationStatus { paused: true, .. } => style.warn("paused").into_owned(),
        DestinationStatus { breaker, breaker_since, .. } if breaker != "closed" => {
            let since = breaker_since.map_or_else(String::new, |since| format!(" for {}", span(now.since(since))));
            style.warn(&format!("breaker {}{since}", breaker.replace('_', "-"))).into_owned()
        }
        _ => style.good("ok").into_owned(),
    }
}

fn first_reason(problems: &[Problem]) -> &str {
    problems.iter().find(|problem| !problem.warning).map_or("not in effect", |problem| &problem.reason)
}

fn problems(text: &mut String, status: &Status, style: Style) {
    let webhooks = status.webhooks.iter().map(|webhook| (format!("Webhook {}", webhook.key), &webhook.problems));
    let destinations = status.destinations.iter().map(|own| (format!("Destination {}", own.key), &own.problems));
    let others = status.problems.iter().map(|other| (format!("{} {}", other.kind, other.key), &other.problems));
    for (object, problems) in webhooks.chain(destinations).chain(others) {
        for problem in problems {
            let reason = if problem.warning { style.warn(&problem.reason) } else { style.bad(&problem.reason) };
            let _ = writeln!(text, "{object}  {}  {reason}  {}", problem.field, plain_text(&problem.message, 500));
        }
    }
}

#[cfg(test)]
mod tests {
    use zen_ingester::admin::types::QueueStatus;

    use super::*;

    #[test]
    fn a_mesh_without_an_egress_says_so() {
        let queue = QueueStatus {
            health: "disk_full".to_owned(),
            durability: "fsynced".to_owned(),
            bytes: 0,
            disk_bytes: 0,
            committed: 0,
            duplicates: 0,
            batches: 0,
            claims: 0,
            orphans: std::collections::BTreeMap::new(),
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            generation: 1,
            webhooks: Vec::new(),
            destinations: Vec::new(),
            problems: Vec::new(),
            queue,
            sessions: Vec::new(),
        };
        let text = text(&status, Timestamp(0), Style::plain());
        assert!(text.contains("queue: disk_full") && text.contains("an acknowledgement means fsynced"), "{text}");
        assert!(text.contains("no egress is connected"), "{text}");
    }
}
