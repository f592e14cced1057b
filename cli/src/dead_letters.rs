//! `zen dead-letters`: what could not be delivered, and another try.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use zen_ingester::admin::types::{
    self, DeadLetterDetail, DeadLetterQuery, DryRun, PayloadQuery, ReplayRequest, ReplayState,
};
use zen_model::{DeadReason, ObjectKey, Timestamp};
use zen_queue::{DeadFilter, DeadLetter};

use crate::client::{Ask, Client, segment};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Style, Table, count, plain_text, size, write_stdout};
use crate::parse;

/// Characters of ids and types that are shown.
const SHOWN: usize = 48;
/// How often the progress of a replay is asked for.
const PROGRESS: Duration = Duration::from_millis(200);

/// What could not be delivered: list, inspect, replay.
#[derive(Debug, Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List dead letters, oldest first.
    List {
        #[command(flatten)]
        select: Select,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show one dead letter with the beginning of the target's last answer.
    Show {
        /// Its id, as the listing shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Also show the body of the event. It may hold personal data and secrets.
        #[arg(long)]
        payload: bool,
        #[command(flatten)]
        ask: Ask,
    },
    Replay(Replay),
}

/// Deliver dead letters again: new attempts, never taken for duplicates.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen dead-letters replay 17-2                                  one
  zen dead-letters replay --destination team-a/ci --dry-run     how many would it be?
  zen dead-letters replay --all --rate 50/s                     all, gently")]
pub struct Replay {
    /// These, by id.
    #[arg(value_name = "ID", required_unless_present_any = ["destination", "webhook", "reason", "since", "until", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    select: Select,
    /// Every dead letter.
    #[arg(long, conflicts_with_all = ["ids", "destination", "webhook", "reason", "since", "until"])]
    all: bool,
    /// Count what would be replayed, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second, e.g. 100/s.
    #[arg(long, value_name = "N/s", value_parser = parse::rate)]
    rate: Option<u32>,
    /// Do not ask before a replay of several.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    ask: Ask,
}

impl Replay {
    /// Asks, acts, shows the progress.
    pub async fn run(self) -> Outcome {
        let Self { ids, select, all: _, dry_run, rate, yes, ask } = self;
        let request = ReplayRequest { filter: select.filter(ids), rate, ..ReplayRequest::default() };
        Job { client: ask.client().await?, request, output: ask.output }.run(dry_run, yes).await
    }
}

/// Which dead letters are meant; all conditions hold.
#[derive(Debug, Args)]
struct Select {
    /// To this Destination.
    #[arg(long, value_name = "NS/NAME")]
    destination: Option<ObjectKey>,
    /// Of this Webhook.
    #[arg(long, value_name = "NS/NAME")]
    webhook: Option<ObjectKey>,
    /// With this reason, e.g. `AttemptsExhausted`.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<String>,
    /// Dead since: a time, or an age such as 10m.
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    since: Option<Timestamp>,
    /// Dead before: a time, or an age such as 10m.
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<Timestamp>,
}

fn reason(text: &str) -> Result<String, String> {
    DeadReason::from_code(text).map(|reason| reason.code().to_owned()).ok_or_else(|| {
        let codes: Vec<_> = DeadReason::ALL.iter().map(|reason| reason.code()).collect();
        format!("there is no reason {text:?}; the reasons are {}", codes.join(", "))
    })
}

impl Select {
    fn filter(self, ids: Vec<String>) -> DeadFilter {
        let Self { destination, webhook, reason, since, until } = self;
        DeadFilter { ids, destination, webhook, reason, since, until, ..DeadFilter::default() }
    }
}

impl DeadLetters {
    /// Asks, acts, prints.
    pub async fn run(self) -> Outcome {
        match self.what {
            What::List { select, limit, ask } => {
                let mut client = ask.client().await?;
                let Select { destination, webhook, reason, since, until } = select;
                let query = DeadLetterQuery {
                    namespace: None,
                    destination,
                    webhook,
                    reason,
                    since,
                    until,
                    limit: usize::from(limit),
                };
                let found: Vec<DeadLetter> = client.get("/api/v1/dead-letters", &query).await?;
                ask.output.print(&found, |found| table(found))
            }
            What::Show { id, payload, ask } => show(&id, payload, &ask).await,
            What::Replay(replay) => replay.run().await,
        }
    }
}

fn table(found: &[DeadLetter]) -> String {
    if found.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut table =
        Table::new(["ID", "SINCE", "DESTINATION", "REASON", "ATTEMPTS", "LAST", "WEBHOOK", "TYPE", "EVENT"]);
    for letter in found {
        table.row([
            letter.id.clone(),
            letter.since.to_string(),
            letter.destination.to_string(),
            letter.reason.clone(),
            letter.attempts.to_string(),
            last(letter),
            letter.webhook.to_string(),
            plain_text(&letter.r#type, SHOWN),
            plain_text(letter.event.as_str(), SHOWN),
        ]);
    }
    table.render()
}

fn last(letter: &DeadLetter) -> String {
    match (letter.last_status, &letter.last_error) {
        (0, Some(error)) => error.clone(),
        (0, None) => "-".to_owned(),
        (status, _) => status.to_string(),
    }
}

async fn show(id: &str, payload: bool, ask: &Ask) -> Outcome {
    let mut client = ask.client().await?;
    let path = format!("/api/v1/dead-letters/{}", segment(id));
    let found: Option<DeadLetterDetail> = client.find(&path, &PayloadQuery { payload }).await?;
    let found = found.ok_or_else(|| {
        Failure::new(format!("there is no dead letter {}", plain_text(id, 100)))
            .hint("zen dead-letters list shows the ids")
    })?;
    ask.output.print(&found, |found| details(found, Style::stdout()))
}

fn details(found: &DeadLetterDetail, style: Style) -> String {
    let DeadLetterDetail { letter, stored } = found;
    let reason = DeadReason::from_code(&letter.reason).map(DeadReason::row);
    let mut facts = Table::bare(0);
    facts.row([style.strong("dead letter").into_owned(), letter.id.clone()]);
    facts.row(["event".to_owned(), plain_text(letter.event.as_str(), 200)]);
    facts.row(["webhook".to_owned(), letter.webhook.to_string()]);
    facts.row(["destination".to_owned(), letter.destination.to_string()]);
    facts.row(["type".to_owned(), plain_text(&letter.r#type, 200)]);
    facts.row(["source".to_owned(), plain_text(&stored.source, 200)]);
    facts.row(["content".to_owned(), format!("{}, {}", plain_text(&stored.content_type, 100), size(letter.bytes))]);
    facts.row(["SHA-256".to_owned(), stored.content_hash.clone()]);
    facts.row(["request id".to_owned(), plain_text(&stored.request_id, 200)]);
    facts.row(["accepted".to_owned(), letter.accepted.to_string()]);
    facts.row(["dead since".to_owned(), letter.since.to_string()]);
    facts.row(["attempts".to_owned(), letter.attempts.to_string()]);
    facts.row(["last".to_owned(), last(letter)]);
    facts.row(["reason".to_owned(), style.bad(&letter.reason).into_owned()]);
    if let Some(reason) = reason {
        facts.row([String::new(), reason.meaning.to_owned()]);
        facts.row([String::new(), reason.hint.to_owned()]);
    }
    let mut text = facts.render();
    if let Some(response) = &letter.last_response {
        text.push_str("last response\n");
        text.push_str(&block(response));
    }
    if let Some(payload) = &stored.payload {
        text.push_str("payload\n");
        text.push_str(&block(&payload_text(payload)));
    }
    text
}

/// The body as it came where it is text, as base64 where it is not.
fn payload_text(base64: &str) -> String {
    let bytes = STANDARD.decode(base64).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| base64.to_owned())
}

/// Outside text, indented and harmless.
fn block(text: &str) -> String {
    let mut block = String::new();
    for line in text.lines() {
        let _ = writeln!(block, "  {}", plain_text(line, 4096));
    }
    block
}

/// A replay that was asked for.
struct Job {
    client: Client,
    request: ReplayRequest,
    output: Output,
}

impl Job {
    async fn run(mut self, dry_run: bool, yes: bool) -> Outcome {
        let people = self.output == Output::Table;
        let counting = ReplayRequest { dry_run: true, ..self.request.clone() };
        let counted: DryRun = self.client.post("/api/v1/replays", &counting).await?;
        if dry_run {
            return self.output.print(&counted, |counted| format!("{} would be replayed\n", letters(counted.count)));
        }
        if counted.count == 0 && !self.request.filter.ids.is_empty() {
            return Err(Failure::new("there are no such dead letters").hint("zen dead-letters list shows the ids"));
        }
        if counted.count > 1 && !yes && people && !confirmed(counted.count)? {
            return Err(Failure::new("nothing was replayed"));
        }
        let mut replay: types::Replay = self.client.post("/api/v1/replays", &self.request).await?;
        let progress = people && std::io::stderr().is_terminal();
        let path = format!("/api/v1/replays/{}", segment(&replay.id));
        while replay.state == ReplayState::Running {
            if progress {
                eprint!("\r{} of {} replayed", count(replay.replayed), count(replay.total));
                let _ = std::io::stderr().flush();
            }
            tokio::time::sleep(PROGRESS).await;
            replay = self.client.get(&path, &()).await?;
        }
        if progress {
            eprint!("\r\x1b[K");
        }
        let so_far = letters(replay.replayed);
        match replay.state {
            ReplayState::Failed => {
                let why = replay.error.as_deref().unwrap_or("no reason given");
                Err(Failure::new(format!("the replay stopped after {so_far}: {why}")))
            }
            ReplayState::Cancelled => Err(Failure::new(format!("the replay was cancelled after {so_far}"))),
            ReplayState::Running | ReplayState::Done => {
                self.output.print(&replay, |_| format!("{so_far} replayed: new attempts are due\n"))
            }
        }
    }
}

/// `1 dead letter`, `2 dead letters`.
fn letters(number: u64) -> String {
    format!("{} dead letter{}", count(number), if number == 1 { "" } else { "s" })
}

/// Asks on a terminal; scripts have said what they want.
fn confirmed(matched: u64) -> Outcome<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(true);
    }
    write_stdout(&format!("Replay {}? [y/N] ", letters(matched)));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::new(format!("failed to read: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_taken_in_any_case_and_others_refused() {
        assert_eq!(reason("attemptsexhausted"), Ok("AttemptsExhausted".to_owned()));
        assert!(reason("Tired").expect_err("unknown").contains("AttemptsExhausted"));
    }

    #[test]
    fn outside_text_is_harmless() {
        assert_eq!(block("a\x1b[2J\nb"), "  a\u{fffd}[2J\n  b\n");
    }
}
