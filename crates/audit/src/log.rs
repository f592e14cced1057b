//! What a component writes its entries with.
//!
//! One thread owns the files. What comes while it syncs goes into one batch, so that many callers share one sync.

mod health;
mod metrics;
mod options;
mod prior;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tokio::sync::{oneshot, watch};
use zen_model::Timestamp;

pub use health::{Cause, Change, OnChange};
pub use metrics::Metrics;
pub use options::{Acknowledge, Options};

use crate::head::{Hash, Head};
use crate::names::ChainId;
use crate::record::Record;
use health::Health;
use writer::{Command, Thread};

/// The log of one component; cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    inbox: SyncSender<Command>,
    shared: Arc<Shared>,
}

/// What the thread, the callers and the transport have in common.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) health: Health,
    /// The last durable entry.
    pub(crate) durable: watch::Sender<Head>,
    /// The last entry that the store has.
    pub(crate) acknowledged: watch::Sender<Option<Head>>,
}

/// Where an entry went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its chain and number; none when there was no room for it. It is counted then, and the next entry says so.
    pub entry: Option<(ChainId, u64)>,
    /// Whether it is where [`Options::acknowledge`] says.
    pub durable: bool,
    /// What does not work.
    pub degraded: Option<Cause>,
}

/// A strict log does not let this happen. The entry may be in the log all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something does not work.
    #[error("failed to audit: {}", .0.meaning())]
    Degraded(Cause),
    /// It took longer than [`Options::patience`].
    #[error("failed to audit in time")]
    Late,
}

impl Refused {
    /// Stable label for logs and metrics.
    pub const fn category(self) -> &'static str {
        match self {
            Self::Degraded(cause) => cause.label(),
            Self::Late => "late",
        }
    }
}

/// The log cannot be opened, and is strict.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("failed to open the audit log in {folder}: {source}")]
    Folder {
        /// Which.
        folder: String,
        /// Why.
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("failed to start the audit log: {0}")]
    Thread(std::io::Error),
}

impl Log {
    /// Begins a new chain in the folder. What a killed process left half written is cut off, and an entry says so.
    ///
    /// A log that is not strict opens whatever the disk does: it begins degraded then, and goes on trying.
    ///
    /// # Errors
    ///
    /// When it is strict and the folder cannot be used; when there can be no thread.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let prior = match prior::look(&options.folder) {
            Ok(prior) => Ok(prior),
            Err(source) if options.strict => {
                return Err(OpenError::Folder { folder: options.folder.display().to_string(), source });
            }
            Err(error) => Err(error.to_string()),
        };
        let (inbox, commands) = sync_channel(options.queue);
        let health = Health::new(options.on_change.clone(), options.metrics.clone());
        let start = Head { writer: options.writer.clone(), chain: ChainId::generate(), seq: 0, hash: Hash::NONE };
        let shared = Arc::new(Shared {
            options,
            health,
            durable: watch::Sender::new(start),
            acknowledged: watch::Sender::new(None),
        });
        let thread = Thread::new(Arc::clone(&shared), prior);
        let spawned = std::thread::Builder::new().name("audit".to_owned()).spawn(move || thread.run(&commands));
        spawned.map_err(OpenError::Thread)?;
        Ok(Self { inner: Arc::new(Inner { inbox, shared }) })
    }

    /// Writes an entry and returns when it is durable, for what must be in the log before the answer is given. Takes at
    /// most [`Options::patience`].
    ///
    /// # Errors
    ///
    /// Only from a strict log: do not do what was to be audited.
    pub async fn record(&self, record: Record) -> Result<Receipt, Refused> {
        let Shared { options, health, .. } = &*self.inner.shared;
        let (answer, answered) = oneshot::channel();
        let mut receipt = Receipt { entry: None, durable: false, degraded: None };
        let mut late = false;
        if self.send(record, Some(answer)) {
            let waited = tokio::time::timeout(options.patience, async {
                let Ok(at) = answered.await else { return };
                receipt.entry.clone_from(&at.entry);
                if options.acknowledge == Acknowledge::Store && at.durable {
                    self.acknowledged(at.entry).await;
                }
                receipt.durable = at.durable;
            });
            late = waited.await.is_err();
        }
        if late {
            // The thread sits in a write that does not come back, or the store says nothing.
            let cause = if receipt.entry.is_none() { Cause::Disk } else { Cause::Store };
            health.begin(cause, "it takes too long");
        }
        receipt.degraded = health.cause();
        match receipt.degraded {
            Some(cause) if options.strict => Err(Refused::Degraded(cause)),
            _ if options.strict && (late || !receipt.durable) => Err(Refused::Late),
            _ => Ok(receipt),
        }
    }

    /// Writes an entry at some time soon; never waits. When there is no room for it, it is counted and the next entry says so.
    pub fn note(&self, record: Record) {
        self.send(record, None);
    }

    /// Where the chain stands on the disk.
    pub fn head(&self) -> Head {
        self.inner.shared.durable.borrow().clone()
    }

    /// What does not work; none while all is well.
    pub fn degraded(&self) -> Option<Cause> {
        self.inner.shared.health.cause()
    }

    /// For the registry of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.shared.health.metrics
    }

    /// Writes what was handed over until now and ends; what comes afterwards is lost, and counted.
    pub async fn close(self) {
        let (answer, answered) = oneshot::channel();
        let mut command = Command::End(answer);
        // Behind everything that waits: there is room as soon as the thread takes the next batch.
        while let Err(TrySendError::Full(back)) = self.inner.inbox.try_send(command) {
            command = back;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let _ = answered.await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    fn send(&self, record: Record, answer: Option<oneshot::Sender<writer::Written>>) -> bool {
        let sent = self.inner.inbox.try_send(Command::Record(record, Timestamp::now(), answer)).is_ok();
        if !sent {
            self.inner.shared.health.lose(Cause::Queue);
        }
        sent
    }

    async fn acknowledged(&self, entry: Option<(ChainId, u64)>) {
        let Some((chain, seq)) = entry else { return };
        let mut acknowledged = self.inner.shared.acknowledged.subscribe();
        // The chains of a log follow one on the other, so that one that began later is enough.
        let has = |head: &Head| (&head.chain, head.seq) >= (&chain, seq);
        let _ = acknowledged.wait_for(|head| head.as_ref().is_some_and(has)).await;
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("head", &self.head()).field("degraded", &self.degraded()).finish_non_exhaustive()
    }
}
