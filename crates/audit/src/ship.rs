//! Brings the entries of a log to a store, and removes files that it has.
//!
//! Files are the queue: what the store has not acknowledged is on the disk, whatever happens to this process. Only durable
//! entries go out, so that the store never knows more than the writer.

mod chains;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_model::reason::AuditReason;

use crate::head::Head;
use crate::log::{Cause, Log, OpenError, Options};
use crate::record::{Action, Record};
use crate::wire::{MAX_CHAINS, Resume, Resumed};
use chains::{Chains, Outcome};

/// A store that is away for less is no news.
const GRACE: Duration = Duration::from_secs(10);
/// First pause after a failure; it doubles up to [`MAX_PAUSE`], halved at random.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often the store is asked while there is nothing to send: that it is away should not show only when it is needed.
const IDLE: Duration = Duration::from_secs(30);
/// How long a start waits for the store.
const START: Duration = Duration::from_secs(3);

/// An answer of the store.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, TransportError>> + Send + 'a>>;

/// The way to the store.
pub trait Transport: Send + Sync {
    /// Where this writer stands.
    fn resume<'a>(&'a self, request: &'a Resume) -> Answering<'a, Resumed>;
    /// Lines of one chain; `earliest` is the first entry that is still here. Answered when they are durable there.
    fn append(&self, lines: Bytes, earliest: u64) -> Answering<'_, Appended>;
}

/// What the store made of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Everything up to this is durable there.
    Stored(Head),
    /// It has this of the chain, and the lines do not follow on it.
    Conflict(Option<Head>),
}

/// The store did not take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It cannot be reached, or cannot write: it will take it later.
    #[error("failed to reach the audit store: {0}")]
    Unreachable(String),
    /// It will not take it.
    #[error("failed to hand entries to the audit store: {0}")]
    Refused(String),
}

/// Asks the store, for at most three seconds, where the writer stood, and begins a chain that names it. Without an answer
/// the chain begins without; [`Shipper::run`] adds it then.
///
/// # Errors
///
/// As [`Log::open`].
pub async fn open(mut options: Options, transport: &dyn Transport) -> Result<Log, OpenError> {
    let request = Resume { writer: options.writer.clone(), chains: Vec::new() };
    match tokio::time::timeout(START, transport.resume(&request)).await {
        Ok(Ok(resumed)) => options.after = resumed.after,
        Ok(Err(error)) => tracing::warn!(%error, "the audit log begins without its store"),
        Err(_) => tracing::warn!("the audit log begins without its store: no answer in time"),
    }
    options.shipped = true;
    Log::open(options)
}

/// Brings entries to the store.
pub struct Shipper {
    log: Log,
    transport: Arc<dyn Transport>,
    chains: Chains,
    /// Whether the store said where the writer stands since it was last away.
    resumed: bool,
    /// Whether the chain names the one before it.
    linked: bool,
    /// Since when the store has not answered.
    failing: Option<Instant>,
    pause: Duration,
}

impl Shipper {
    /// For a log whose options say that it is [`shipped`](Options::shipped).
    pub fn new(log: &Log, transport: Arc<dyn Transport>) -> Self {
        let shared = log.shared();
        let chains = Chains::new(&shared.options.folder);
        let linked = shared.options.after.is_some();
        Self { log: log.clone(), transport, chains, resumed: false, linked, failing: None, pause: PAUSE }
    }

    /// Sends what comes until `end`; then what is durable by then, as long as the store takes it. Close the log before.
    pub async fn run(mut self, end: CancellationToken) {
        let mut durable = self.log.shared().durable.subscribe();
        loop {
            durable.borrow_and_update();
            match self.send_all().await {
                Ok(()) => {
                    self.succeeded();
                    if end.is_cancelled() {
                        return;
                    }
                    tokio::select! {
                        _ = durable.changed() => {}
                        () = end.cancelled() => {}
                        () = tokio::time::sleep(IDLE) => self.resumed = false,
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    if end.is_cancelled() && matches!(error, TransportError::Refused(_)) {
                        return;
                    }
                    tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    self.pause = (self.pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    fn succeeded(&mut self) {
        (self.failing, self.pause) = (None, PAUSE);
        let health = &self.log.shared().health;
        if self.chains.is_stuck(&self.log.head().chain) {
            health.begin(Cause::Store, "the store cannot take the entries of this chain");
        } else {
            health.end(Cause::Store);
        }
    }

    fn failed(&mut self, error: &TransportError) {
        self.resumed = false;
        let since = *self.failing.get_or_insert_with(Instant::now);
        let refused = matches!(error, TransportError::Refused(_));
        if refused || since.elapsed() >= GRACE {
            self.log.shared().health.begin(Cause::Store, &error.to_string());
        } else {
            tracing::debug!(%error, "the audit store is away");
        }
    }

    /// Sends until the store has everything.
    async fn send_all(&mut self) -> Result<(), TransportError> {
        let current = self.log.head();
        self.chains.look(&current).await;
        if !self.resumed {
            self.resume().await?;
        }
        // What was begun first goes first: an acknowledgement of a later chain says that all before it are there.
        while let Some(batch) = self.chains.batch(&self.log.head()).await {
            match self.transport.append(batch.lines, batch.earliest).await? {
                Appended::Stored(head) => {
                    let freed = self.chains.stored(&head, &self.log.head()).await;
                    let shared = self.log.shared();
                    shared.health.metrics.remove_kept(freed);
                    shared.health.metrics.unacknowledged(self.chains.outstanding(&self.log.head()));
                    shared.acknowledged.send_replace(Some(head));
                }
                Appended::Conflict(head) => {
                    if self.chains.conflict(&batch.chain, head.as_ref()).await == Outcome::Stuck {
                        self.stuck(&batch.chain, head.as_ref());
                    }
                }
            }
        }
        self.log.shared().health.metrics.unacknowledged(self.chains.outstanding(&self.log.head()));
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), TransportError> {
        let writer = self.log.shared().options.writer.clone();
        let request = Resume { writer, chains: self.chains.ids().into_iter().take(MAX_CHAINS).collect() };
        let resumed = self.transport.resume(&request).await?;
        self.chains.resumed(&resumed.heads).await;
        self.resumed = true;
        if !std::mem::replace(&mut self.linked, true)
            && let Some(after) = resumed.after
        {
            let object = format!("Chain/{}", self.log.head().chain);
            let record = Record::new(Action::LinkChain, &self.log.shared().options.writer.to_string(), &object);
            self.log.note(record.allowed().detail("stored", &after.to_string()));
        }
        Ok(())
    }

    /// A chain that the store has otherwise: it stays here, untouched, for whoever looks into it.
    fn stuck(&self, chain: &crate::ChainId, head: Option<&Head>) {
        let has = head.map(ToString::to_string).unwrap_or_default();
        tracing::error!(%chain, store = has, "the store has another history of a chain");
        let shared = self.log.shared();
        let record = Record::new(Action::FindDamage, &shared.options.writer.to_string(), &format!("Chain/{chain}"));
        // Not a head that this writer vouches for: it is the other side's.
        self.log.note(record.reason(AuditReason::ChainForked.code()).detail("store", &has));
    }
}
