//! The one thread that writes. It takes what waits in the inbox, puts it into one transaction, commits, carries the
//! effects into memory and answers: group commit without a timer.

mod gather;
mod handover;
mod jobs;
mod upkeep;

pub(crate) use upkeep::Upkeep;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{error, info};
use zen_model::ObjectKey;

use super::batch::{self, Batch, Done, Effect, Outcome};
use super::checkpoint::Checkpointer;
use super::claims::Claims;
use super::command::{Answer, Command, Incoming, Job, Settle};
use super::fault;
use super::inbox::Wait;
use super::journal::Journal;
use super::lane::Lane;
use super::numbers::Numbers;
use super::options::{Options, Point};
use super::reader::Readers;
use super::segments::Segments;
use super::shared::Shared;
use super::sql;
use crate::{CommitError, Committed, DeliveryId, Error, Fault, Health, LeaseToken};

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub conn: Connection,
    pub numbers: Numbers,
    pub journal: Journal,
    pub claims: Claims,
    pub segments: RefCell<Segments>,
    /// The highest sequence number that was given out.
    pub seq: u64,
    /// Settlements of failed batches, tried again when the store works.
    pub parked: Vec<Settle>,
    pub jobs: VecDeque<Job>,
    pub fault: Option<Fault>,
    pub probed: Instant,
    /// The disk is nearly full: intake is refused, settlements go on in the reserve.
    pub low: bool,
    pub upkeep: Upkeep,
    pub checkpointer: Option<Checkpointer>,
    pub readers: Arc<Readers>,
    /// Where the callers wait.
    pub runtime: Handle,
    /// Held as long as anything may write here.
    pub lock: File,
}

/// Leases to begin, and who asked.
type Begin = (Vec<LeaseToken>, Answer<Result<Vec<LeaseToken>, Error>>);

/// Commands of one batch, sorted by what becomes of them when it fails.
#[derive(Default)]
struct Taken {
    commits: Vec<Incoming>,
    settles: Vec<Settle>,
    begins: Vec<Begin>,
}

/// What a batch that is durable leaves to be told.
struct Durable {
    outcomes: Vec<Outcome>,
    begun: Vec<Vec<LeaseToken>>,
}

impl Writer {
    /// Runs until closed.
    pub(crate) fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let options = &self.shared.options;
            let wait = self.wait();
            let Some(commands) = self.shared.inbox.take(options.batch_commands, options.batch_bytes, wait) else {
                break;
            };
            let idle = commands.is_empty();
            let mut taken = Taken::default();
            let mut refills = Vec::new();
            // The order between a settlement and a begin of one lease does not matter: each checks the row it needs.
            for command in commands {
                match command {
                    Command::Commit(incoming) => taken.commits.push(*incoming),
                    Command::Settle(settle) => taken.settles.push(settle),
                    Command::Begin { tokens, answer } => taken.begins.push((tokens, answer)),
                    Command::Refill { lane, answer } => refills.push((lane, answer)),
                    Command::Job(job) => self.jobs.push_back(job),
                    Command::Close { answer } => {
                        closing = Some(answer);
                        self.shared.inbox.close();
                    }
                }
            }
            self.refill(refills);
            self.measure();
            if self.fault.is_some() {
                self.while_failing(taken);
            } else {
                if self.low {
                    self.refuse_intake(&mut taken, Fault::DiskFull);
                }
                self.batch(taken);
                self.step_job();
            }
            self.tend(idle);
        }
        self.close(closing);
    }

    /// Deliveries that were begun when the last process ended are dead as ambiguous (D-04). Before the first batch.
    pub(crate) fn bury_begun(&mut self, begun: &[DeliveryId]) -> rusqlite::Result<()> {
        for chunk in begun.chunks(512) {
            self.step_with(|writer, batch| {
                let now = writer.upkeep.now;
                chunk.iter().try_for_each(|delivery| batch.bury_begun(*delivery, now)).map(|()| false)
            })?;
        }
        Ok(())
    }

    fn wait(&self) -> Wait {
        if self.fault.is_some() || self.low {
            Wait::For(self.shared.options.probe_every)
        } else if !self.jobs.is_empty() {
            Wait::Not
        } else {
            self.upkeep.wait()
        }
    }

    /// Writes one batch and tells everybody.
    fn batch(&mut self, mut taken: Taken) {
        if taken.commits.is_empty() && taken.settles.is_empty() && taken.begins.is_empty() {
            return;
        }
        self.shared.step(Point::Taken);
        let began = self.shared.metrics.clock();
        match self.transaction(&mut taken) {
            Ok((durable, effects)) => {
                self.shared.step(Point::Committed);
                self.shared.metrics.committed(began, taken.commits.len() + taken.settles.len());
                let sizes = || taken.commits.iter().map(|incoming| incoming.sealed.len());
                self.wrote(sizes);
                self.remember(&mut taken, &durable, effects);
                self.tell(taken, durable);
            }
            Err(error) => self.failed(&error, taken),
        }
    }

    /// Answers on the runtime: one wake-up from outside for the whole batch, and the callers are woken from inside, where
    /// that costs no system call. A single caller is told at once.
    fn tell(&self, taken: Taken, durable: Durable) {
        if taken.commits.len() + taken.begins.len() + taken.settles.len() > 1 {
            self.runtime.spawn(async move { tell(taken, durable) });
        } else {
            tell(taken, durable);
        }
    }

    fn transaction(&mut self, taken: &mut Taken) -> rusqlite::Result<(Durable, Vec<Effect>)> {
        let Self { conn, shared, numbers, journal, claims, segments, .. } = self;
        begin(conn)?;
        let mut batch = Batch::new(conn, &shared.keyring, numbers, claims, segments, self.seq);
        batch.large = large(&shared.options, taken.commits.iter().map(|incoming| incoming.sealed.len()));
        let mut now = 0;
        let mut outcomes = Vec::with_capacity(taken.commits.len());
        for incoming in &taken.commits {
            now = now.max(incoming.now);
            outcomes.push(batch.commit(incoming)?);
        }
        let begun = begins(&mut batch, shared, &taken.begins)?;
        for settle in &taken.settles {
            now = now.max(settle.now);
            for ending in &settle.endings {
                batch.end(ending, settle.now)?;
            }
        }
        shared.step(Point::Written);
        let (new_claims, written) = batch.finish(journal, now)?;
        let Done { seq, effects, new_webhooks, new_destinations } = batch.done();
        let bounds = (shared.options.history_bytes, now.saturating_sub(self.upkeep.history_age));
        let trimmed = if written.is_some() { journal.trim(conn, bounds.0, bounds.1)? } else { 0 };
        let over = new_claims.iter().any(|new| claims.is_over(new.webhook));
        let swept = if over { claims.sweep(conn, None, 64)? } else { Vec::new() };
        sync(segments, shared)?;
        shared.step(Point::BeforeCommit);
        conn.prepare_cached("COMMIT")?.execute([])?;
        segments.borrow_mut().committed();

        self.seq = seq;
        for new in &new_claims {
            self.claims.note(new);
        }
        self.claims.swept(&swept);
        if let Some(written) = written {
            self.journal.committed(written);
            self.journal.trimmed(trimmed);
        }
        self.name(new_webhooks, new_destinations);
        self.upkeep.now = self.upkeep.now.max(now);
        Ok((Durable { outcomes, begun }, effects))
    }

    /// Numbers that were given out become known.
    pub(super) fn name(&mut self, webhooks: Vec<(ObjectKey, u32)>, destinations: Vec<(ObjectKey, u32)>) {
        if webhooks.is_empty() && destinations.is_empty() {
            return;
        }
        let mut state = self.shared.state();
        for (key, number) in webhooks {
            self.numbers.webhooks.add(key.clone(), number);
            let namespace = self.shared.ledger.namespace(&key.namespace);
            state.add_webhook(key, namespace);
        }
        for (key, number) in destinations {
            self.numbers.destinations.add(key.clone(), number);
            let account = self.shared.ledger.destination(&key);
            state.add_lane(Lane::new(number, key, account));
        }
    }

    /// Carries a durable batch into memory.
    fn remember(&self, taken: &mut Taken, durable: &Durable, effects: Vec<Effect>) {
        let now = self.upkeep.now;
        let mut state = self.shared.state();
        state.counts.batches += 1;
        state.counts.claims = self.claims.len();
        state.counts.claims_dropped = self.claims.dropped;
        for (incoming, outcome) in taken.commits.iter_mut().zip(&durable.outcomes) {
            match outcome {
                Outcome::Accepted { seq, deliveries, .. } => {
                    state.counts.committed += 1;
                    state.counts.unrouted += u64::from(*deliveries == 0);
                    let event = std::mem::take(&mut incoming.event);
                    state.recent.keep(*seq, (incoming.record.clone(), event), *deliveries);
                }
                Outcome::Duplicate { .. } => {
                    state.counts.duplicates += 1;
                    let namespace = &incoming.webhook.namespace;
                    self.shared.ledger.refund(namespace, &incoming.destinations, incoming.record.len());
                }
            }
        }
        let wake_at = state.wake_at;
        batch::apply(&mut state, effects, &self.shared.ledger, now);
        let earlier = state.wake_at < wake_at;
        let due = !state.due.is_empty();
        drop(state);
        if earlier {
            self.shared.timer.notify_one();
        }
        if due {
            self.shared.changed();
        }
    }

    /// A batch did not become durable: nothing of it was stored. Intake is refused, settlements wait.
    fn failed(&mut self, error: &rusqlite::Error, taken: Taken) {
        let fault = self.fail(error);
        self.refuse(taken, fault);
    }

    /// Undoes the transaction under way and stops intake.
    pub(crate) fn fail(&mut self, error: &rusqlite::Error) -> Fault {
        if !self.conn.is_autocommit() {
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        self.segments.borrow_mut().rolled_back();
        let fault = fault::of(error, &self.shared.folder);
        if self.fault != Some(fault) {
            error!(folder = %self.shared.folder.display(), fault = fault.label(), %error,
                "the queue cannot commit; intake answers 503 until it can");
        }
        if self.fault.replace(fault).is_none() {
            self.probed = Instant::now();
        }
        self.shared.metrics.failed(fault);
        self.shared.health.send_replace(Health::Failing(fault));
        fault
    }

    fn refuse_intake(&self, taken: &mut Taken, fault: Fault) {
        for incoming in taken.commits.drain(..) {
            let namespace = &incoming.webhook.namespace;
            self.shared.ledger.refund(namespace, &incoming.destinations, incoming.record.len());
            let _ = incoming.answer.send(Err(CommitError::Unavailable(fault)));
        }
    }

    fn refuse(&mut self, mut taken: Taken, fault: Fault) {
        self.refuse_intake(&mut taken, fault);
        for (tokens, answer) in taken.begins {
            let mut state = self.shared.state();
            for token in tokens {
                if let Some(lease) = state.lease(token) {
                    (lease.busy, lease.begun) = (false, false);
                }
            }
            let _ = answer.send(Err(Error::Unavailable(fault)));
        }
        self.parked.extend(taken.settles);
    }

    /// Intake is refused; settlements, which make room, are tried again and again; when a write works, all is well.
    fn while_failing(&mut self, taken: Taken) {
        let fault = self.fault.unwrap_or(Fault::Io);
        self.refuse(taken, fault);
        if self.probed.elapsed() < self.shared.options.probe_every {
            return;
        }
        self.probed = Instant::now();
        self.fold_log();
        let parked = Taken { settles: std::mem::take(&mut self.parked), ..Taken::default() };
        let probe = fault::write_probe(&self.shared.folder);
        let written = self.conn.execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('probe', random())", []);
        match (written, probe) {
            (Ok(_), Ok(())) => {
                self.fault = None;
                self.batch(parked);
                if self.fault.is_none() && !self.low {
                    info!(folder = %self.shared.folder.display(), "the queue commits again");
                    self.shared.health.send_replace(Health::Ok);
                }
            }
            (Err(error), _) => self.failed(&error, parked),
            (Ok(_), Err(_)) => {
                // No room for intake, but settlements may fit into the log, which was just folded.
                self.batch(parked);
                self.fault = Some(fault);
                self.shared.health.send_replace(Health::Failing(fault));
            }
        }
    }

    fn close(mut self, closing: Option<Answer<()>>) {
        self.jobs.clear();
        self.parked.clear();
        if let Some(checkpointer) = self.checkpointer.take() {
            checkpointer.end();
        }
        self.readers.close();
        self.fold_log();
        let Self { conn, lock, shared, .. } = self;
        // The last connection folds the log into the database and removes it.
        let _ = conn.close();
        let _ = lock.unlock();
        drop(lock);
        shared.health.send_replace(Health::Failing(Fault::Closed));
        if let Some(closing) = closing {
            let _ = closing.send(());
        }
    }
}

/// From which size on the records of a batch go to a segment.
pub(crate) fn large(options: &Options, records: impl Iterator<Item = usize>) -> usize {
    let least = options.large_record_bytes.max(1);
    let bytes: usize = records.filter(|bytes| *bytes >= least).sum();
    if bytes >= options.large_batch_bytes.max(1) { least } else { usize::MAX }
}

/// Makes the large records of a batch durable, before the commit that names them.
pub(crate) fn sync(segments: &RefCell<Segments>, shared: &Shared) -> rusqlite::Result<()> {
    let mut segments = segments.borrow_mut();
    if segments.is_dirty() {
        shared.step(Point::BodiesWritten);
        segments.sync().map_err(sql::io)?;
        shared.step(Point::BodiesSynced);
    }
    Ok(())
}

pub(crate) fn begin(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(|_| ())
}

/// Begins of leases that are still good.
fn begins(batch: &mut Batch<'_>, shared: &Shared, begins: &[Begin]) -> rusqlite::Result<Vec<Vec<LeaseToken>>> {
    let mut begun = Vec::with_capacity(begins.len());
    for (tokens, _) in begins {
        let good: Vec<LeaseToken> = {
            let mut state = shared.state();
            tokens.iter().copied().filter(|token| state.lease(*token).is_some()).collect()
        };
        for token in &good {
            batch.mark(*token)?;
        }
        begun.push(good);
    }
    Ok(begun)
}

fn tell(taken: Taken, durable: Durable) {
    for (incoming, outcome) in taken.commits.into_iter().zip(&durable.outcomes) {
        // The caller may have gone away; the event is stored all the same.
        let _ = incoming.answer.send(Ok(Committed::from(outcome)));
    }
    for ((_, answer), begun) in taken.begins.into_iter().zip(durable.begun) {
        let _ = answer.send(Ok(begun));
    }
    for settle in taken.settles {
        if let Some(answer) = settle.answer {
            let _ = answer.send(Ok(()));
        }
    }
}
