//! The chains of all writers on one volume: `<component>/<pod>/<chain>/`.

mod chain;
mod expire;
mod lines;
mod scan;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use zen_audit::wire::Resumed;
use zen_audit::{Action, ChainId, Head, Log, Record, Writer};
use zen_identity::Component;
use zen_model::Timestamp;
use zen_model::reason::AuditReason;

use crate::Metrics;
use chain::{Appended, Chain};
use lines::Lines;
pub use scan::{Found, scan};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A file that has so many bytes is followed by the next.
    pub file_bytes: u64,
    /// The most bytes of all chains; the oldest files go.
    pub keep_bytes: u64,
    /// Files that nothing was written to for so long go.
    pub keep_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { file_bytes: 16 << 20, keep_bytes: 8 << 30, keep_age: Duration::from_hours(90 * 24) }
    }
}

/// All chains, and the store's own log.
pub struct Store {
    root: PathBuf,
    options: Options,
    log: Log,
    metrics: Metrics,
    chains: Mutex<BTreeMap<ChainId, Kept>>,
}

/// One chain as the store knows it without touching it.
struct Kept {
    /// Appends to one chain come one after the other.
    chain: Arc<Mutex<Chain>>,
    /// Its end; none while its first entries are being written.
    head: Option<Head>,
    /// When entries came last.
    at: Timestamp,
    /// Whether it changed since its head was anchored.
    changed: bool,
}

/// What became of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything up to this is durable.
    Stored(Head),
    /// They do not follow on this.
    Conflict(Option<Head>),
}

/// Lines cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They are not what a writer sends.
    #[error("failed to read the lines: {0}")]
    Malformed(String),
    /// Somebody sends what another component wrote.
    #[error("{0} sends entries of {1}")]
    OtherWriter(&'static str, Writer),
    /// The volume.
    #[error("failed to write: {0}")]
    Write(#[from] io::Error),
}

impl Store {
    /// With what [`scan`] found. Says in the log what that repaired.
    pub fn new(root: &Path, options: Options, found: Vec<Found>, log: Log, metrics: Metrics) -> Self {
        let (own, mut chains) = (log.head().writer.to_string(), BTreeMap::new());
        for found in found {
            if found.is_own() {
                continue;
            }
            if let Some(record) = found.tail.record(&own, &found.chain) {
                log.note(record);
            }
            let Some(head) = found.tail.head.clone() else { continue };
            let kept = Kept { head: Some(head), at: found.at, changed: true, chain: Arc::default() };
            *lock(&kept.chain) = Chain::found(&found);
            chains.insert(found.chain, kept);
        }
        metrics.chains(chains.len());
        Self { root: root.to_owned(), options, log, metrics, chains: Mutex::new(chains) }
    }

    /// The store's own log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where a writer stands, and what a new chain of it follows on.
    pub fn resume(&self, writer: &Writer, asked: &[ChainId]) -> Resumed {
        let chains = self.chains();
        let heads = asked.iter().filter_map(|id| chains.get(id)?.head.clone()).filter(|head| head.writer == *writer);
        let heads = heads.collect();
        // Ids that were made later sort later.
        let others =
            || chains.iter().rev().filter(|(id, _)| !asked.contains(id)).filter_map(|(_, kept)| kept.head.as_ref());
        let own = others().find(|head| head.writer == *writer);
        let after = own.or_else(|| others().find(|head| head.writer.component() == writer.component()));
        Resumed { after: after.cloned(), heads }
    }

    /// Appends lines of one chain; durable on return. What was stored before is stored once.
    ///
    /// # Errors
    ///
    /// When they are not the component's, or cannot be written.
    pub fn append(&self, component: Component, lines: &Bytes, earliest: u64) -> Result<Answer, Error> {
        let lines = Lines::parse(lines).map_err(Error::Malformed)?;
        let first = lines.first();
        if first.writer.component() != component.account() {
            return Err(Error::OtherWriter(component.account(), first.writer.clone()));
        }
        let id = first.chain.clone();
        let chain = Arc::clone(&self.chains().entry(id.clone()).or_insert_with(Kept::empty).chain);
        let mut chain = lock(&chain);
        let new = chain.head().is_none();
        let appended = chain.append(&self.root, self.options.file_bytes, &lines, earliest);
        let head = chain.head().cloned();
        drop(chain);
        self.keep(&id, head.as_ref(), matches!(appended, Ok(Appended::Stored { new: 1.. })));
        match appended {
            Ok(Appended::Stored { new: entries }) => {
                self.metrics.stored(component, entries);
                if new && first.seq > 1 {
                    self.say(Action::AdoptChain, AuditReason::BeginningMissing, &id, "from", &first.seq.to_string());
                }
                head.map(Answer::Stored).ok_or_else(|| Error::Malformed("there is no entry".to_owned()))
            }
            Ok(Appended::Gap) => Ok(Answer::Conflict(head)),
            Ok(Appended::Fork { first_time }) => {
                self.metrics.conflict(component);
                if first_time {
                    tracing::error!(chain = %id, writer = %first.writer, "a writer has another history of a chain");
                    self.say(Action::FindDamage, AuditReason::ChainForked, &id, "offered", &lines.last().to_string());
                }
                Ok(Answer::Conflict(head))
            }
            Err(error) => {
                self.metrics.failed();
                tracing::error!(%error, chain = %id, "failed to write entries");
                Err(error.into())
            }
        }
    }

    /// The head of every chain, those that changed last first.
    pub fn heads(&self) -> Vec<Head> {
        let chains = self.chains();
        let mut heads: Vec<_> = chains.values().filter_map(|kept| Some((kept.at, kept.head.as_ref()?))).collect();
        heads.sort_by(|a, b| b.cmp(a));
        heads.into_iter().map(|(_, head)| head.clone()).collect()
    }

    /// The head of one chain.
    pub fn head(&self, chain: &ChainId) -> Option<Head> {
        self.chains().get(chain)?.head.clone()
    }

    /// Heads that changed since this was asked last.
    pub(crate) fn take_changed(&self) -> Vec<Head> {
        let mut chains = self.chains();
        let changed = chains.values_mut().filter(|kept| kept.changed);
        changed.filter_map(|kept| std::mem::take(&mut kept.changed).then(|| kept.head.clone())?).collect()
    }

    fn keep(&self, id: &ChainId, head: Option<&Head>, changed: bool) {
        let mut chains = self.chains();
        if let (Some(head), Some(kept)) = (head, chains.get_mut(id)) {
            // Another request of the same chain may have been faster.
            if kept.head.as_ref().is_none_or(|kept| kept.seq <= head.seq) {
                kept.head = Some(head.clone());
            }
            if changed {
                (kept.at, kept.changed) = (Timestamp::now(), true);
            }
        }
        self.metrics.chains(chains.len());
    }

    fn say(&self, action: Action, reason: AuditReason, chain: &ChainId, key: &str, value: &str) {
        let own = self.log.head().writer.to_string();
        let record = Record::new(action, &own, &format!("Chain/{chain}")).reason(reason.code());
        self.log.note(record.detail(key, value));
    }

    fn chains(&self) -> MutexGuard<'_, BTreeMap<ChainId, Kept>> {
        lock(&self.chains)
    }
}

impl Kept {
    fn empty() -> Self {
        Self { chain: Arc::default(), head: None, at: Timestamp::now(), changed: false }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
