//! The thread that owns the chain and its files.

mod expire;

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use zen_model::Timestamp;
use zen_model::reason::AuditReason;

use super::health::Cause;
use super::prior::{self, Lock, Prior};
use super::{Options, Shared};
use crate::Entry;
use crate::folder::Appender;
use crate::head::{Hash, Head};
use crate::names::ChainId;
use crate::record::{Action, Record};

/// How often a broken disk is tried, and what is due is looked at, while nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// Records of one batch: what is written and synced together.
const BATCH: usize = 512;

/// What the thread is asked to do.
pub(super) enum Command {
    /// Write this, which happened then.
    Record(Record, Timestamp, Option<oneshot::Sender<Written>>),
    /// Write everything and end.
    End(oneshot::Sender<()>),
}

/// What became of a record.
pub(super) struct Written {
    pub(super) entry: Option<(ChainId, u64)>,
    pub(super) durable: bool,
}

type Waiting = (Option<(ChainId, u64)>, oneshot::Sender<Written>);

/// What is written and synced together.
#[derive(Default)]
struct Batch {
    waiting: Vec<Waiting>,
    records: usize,
    end: Option<oneshot::Sender<()>>,
}

pub(super) struct Thread {
    shared: Arc<Shared>,
    /// Held while the folder is ours. None: it could not be used yet.
    lock: Option<Lock>,
    /// The last entry that has its number; it may be in `pending` still.
    head: Head,
    /// Entries that are not on the disk.
    pending: Vec<Entry>,
    pending_bytes: usize,
    file: Option<Appender>,
    file_since: Timestamp,
    /// When files were looked at whose time may be over.
    expired_at: Timestamp,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, prior: Result<Prior, String>) -> Self {
        let head = shared.durable.borrow().clone();
        let mut thread = Self {
            shared,
            lock: None,
            head,
            pending: Vec::new(),
            pending_bytes: 0,
            file: None,
            file_since: Timestamp::now(),
            expired_at: Timestamp(0),
        };
        match prior {
            Ok(prior) => {
                thread.open_chain(prior.after.clone());
                thread.take_on(prior);
            }
            Err(reason) => {
                thread.shared.health.begin(Cause::Disk, &reason);
                thread.open_chain(None);
            }
        }
        thread
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        self.commit(Vec::new());
        loop {
            let first = match commands.recv_timeout(TICK) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                // Nobody is left who could want anything.
                Err(RecvTimeoutError::Disconnected) => return self.commit(Vec::new()),
            };
            self.recovered();
            let mut batch = Batch::default();
            for command in first.into_iter().chain(commands.try_iter()) {
                match command {
                    Command::Record(record, time, answer) => {
                        let entry = self.push(record, time);
                        batch.waiting.extend(answer.map(|answer| (entry, answer)));
                        batch.records += 1;
                    }
                    Command::End(answer) => batch.end = Some(answer),
                }
                if batch.end.is_some() || batch.records == BATCH {
                    break;
                }
            }
            self.commit(batch.waiting);
            if let Some(end) = batch.end {
                self.recovered();
                self.commit(Vec::new());
                drop(self);
                let _ = end.send(());
                return;
            }
        }
    }

    /// Gives a record its place in the chain. None: there is no room for it.
    fn push(&mut self, record: Record, time: Timestamp) -> Option<(ChainId, u64)> {
        let Shared { options, health, .. } = &*self.shared;
        if options.shipped {
            let kept = health.metrics.kept_bytes() + self.pending_bytes as u64;
            if kept >= options.keep_bytes {
                health.lose(Cause::Backlog);
                return None;
            }
        }
        if self.pending_bytes >= options.memory_bytes && health.is(Cause::Disk) {
            health.lose(Cause::Disk);
            return None;
        }
        let lost = health.take_lost();
        let degraded = lost > 0 || health.cause().is_some();
        let entry = Entry::following(&self.head, record, time, degraded, lost);
        self.head = entry.head();
        self.pending_bytes += entry.to_line().len() + 1;
        self.pending.push(entry);
        Some((self.head.chain.clone(), self.head.seq))
    }

    fn say(&mut self, record: Record) {
        self.push(record, Timestamp::now());
    }

    /// The first entry of the chain: who, which, and where the one before ended.
    fn open_chain(&mut self, local: Option<Head>) {
        let Options { after, .. } = &self.shared.options;
        let stored = after.as_ref().map(ToString::to_string).unwrap_or_default();
        let after = local.or_else(|| after.clone()).map(|head| head.to_string()).unwrap_or_default();
        let record = self.own(Action::OpenChain).allowed().detail("after", &after);
        let record = if stored == after { record } else { record.detail("stored", &stored) };
        self.say(record.detail("program", concat!("zen-mesh ", env!("CARGO_PKG_VERSION"))));
    }

    /// What earlier processes left becomes this one's to keep and to tell of.
    fn take_on(&mut self, prior: Prior) {
        self.lock = Some(prior.lock);
        self.shared.health.metrics.kept(prior.bytes);
        for mut record in prior.records {
            record.who = self.head.writer.to_string();
            self.say(record);
        }
    }

    fn own(&self, action: Action) -> Record {
        Record::new(action, &self.head.writer.to_string(), &format!("Chain/{}", self.head.chain))
    }

    /// Says what works again. The entry also carries what was lost meanwhile.
    fn recovered(&mut self) {
        let health = &self.shared.health;
        // A queue that was full may be full again at once: not every batch is news.
        if health.has_lasted(Cause::Queue, TICK) {
            health.end(Cause::Queue);
        }
        if health.is(Cause::Backlog) && health.metrics.kept_bytes() < self.shared.options.keep_bytes / 10 * 9 {
            health.end(Cause::Backlog);
        }
        for recovered in health.take_recovered() {
            let record = self.own(Action::Recover).allowed().detail("cause", recovered.cause.label());
            let record = record.detail("since", &recovered.since.to_string()).detail("reason", &recovered.reason);
            self.push(record, Timestamp::now());
        }
    }

    /// Makes durable what has its place, and answers whoever waits for it.
    fn commit(&mut self, waiting: Vec<Waiting>) {
        let began = Instant::now();
        let entries = self.pending.len() as u64;
        let durable = match self.write() {
            Ok(()) => {
                if entries > 0 {
                    self.shared.health.metrics.committed(entries, began.elapsed().as_secs_f64());
                    self.shared.durable.send_replace(self.head.clone());
                }
                self.shared.health.end(Cause::Disk);
                true
            }
            Err(error) => {
                self.shared.health.begin(Cause::Disk, &error.to_string());
                false
            }
        };
        for (entry, answer) in waiting {
            let durable = durable && entry.is_some();
            // Nobody waits any more: the entry is there all the same.
            let _ = answer.send(Written { entry, durable });
        }
        if durable && let Err(error) = self.expire() {
            tracing::warn!(%error, "failed to remove old files of the audit log");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            let mut prior = prior::look(&self.shared.options.folder)?;
            let after = prior.after.take().map(|head| head.to_string()).unwrap_or_default();
            let linked = self.own(Action::LinkChain).allowed().detail("after", &after);
            self.take_on(prior);
            self.say(linked);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.append() {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                // The file is not what this process wrote: the chain ends where it was, and another one says so.
                tracing::error!(%error, "a file of the audit log was changed or removed");
                self.begin_again(&error);
                self.append()
            }
            done => done,
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let Options { folder, file_bytes, file_age, steps, .. } = &self.shared.options;
        let now = Timestamp::now();
        let is_full = |file: &Appender| {
            file.is_clean()
                && file.segment().bytes > 0
                && (file.segment().bytes >= *file_bytes || now.since(self.file_since) >= *file_age)
        };
        if self.file.as_ref().is_none_or(is_full) {
            let first = self.pending.first().map_or(1, |entry| entry.seq);
            let chain = folder.join(self.head.chain.as_str());
            self.file = Some(Appender::create(folder, &chain, first, steps.clone())?);
            self.file_since = now;
        }
        let mut bytes = Vec::with_capacity(self.pending_bytes);
        for entry in &self.pending {
            bytes.extend_from_slice(&entry.to_line());
            bytes.push(b'\n');
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.append(&bytes)?;
        let metrics = &self.shared.health.metrics;
        metrics.add_kept(bytes.len() as u64);
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// A new chain that follows on the durable end of this one; what was not written yet moves into it.
    fn begin_again(&mut self, error: &io::Error) {
        let after = self.shared.durable.borrow().clone();
        let moved = mem::take(&mut self.pending);
        (self.file, self.pending_bytes) = (None, 0);
        self.head = Head { chain: ChainId::generate(), seq: 0, hash: Hash::NONE, writer: after.writer.clone() };
        let lost_file = Record::new(Action::FindDamage, &after.writer.to_string(), &format!("Chain/{}", after.chain))
            .reason(AuditReason::ChainDamaged.code())
            .detail("damage", &error.to_string())
            .detail("after", &after.to_string());
        self.open_chain(Some(after));
        self.say(lost_file);
        for entry in moved {
            let entry = entry.moved(&self.head);
            self.head = entry.head();
            self.pending_bytes += entry.to_line().len() + 1;
            self.pending.push(entry);
        }
    }
}
