//! The embedded queue: one folder, no server.
//!
//! `SQLite` in WAL mode with `synchronous=FULL`; why, and what else was measured: docs/adr/0003-embedded-store.md. One
//! thread writes, in batches; callers encode and seal, readers read beside it. Leases are in memory only, so that those of
//! an earlier process are void by construction.

mod batch;
mod checkpoint;
mod claims;
mod clock;
mod command;
mod fault;
mod handover;
mod inbox;
mod journal;
mod lane;
mod leasing;
mod ledger;
mod metrics;
mod numbers;
mod open;
mod options;
mod query;
mod reader;
mod recent;
mod schema;
mod segments;
mod shared;
mod sql;
mod state;
mod timer;
pub mod wal;
mod writer;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use zen_model::{DeadReason, Event, EventId, Namespace, ObjectKey, Timestamp};
use zen_seal::Keyring;

pub(crate) use batch::RESPONSE_BYTES;
pub use options::{Options, Point, Steps};

use crate::handover::{Adopted, Batch, Budget, Cursor, Exported, Page};
use crate::{
    AdoptError, BoxFuture, CommitError, Committed, DeadFilter, DeadLetter, DeliveryId, Demand, DestinationStats, Error,
    EventDetail, EventFilter, EventSummary, Fault, Health, LeaseToken, Leased, NewEvent, Queue, QueueId, Quotas,
    Settled, Stats,
};
use command::{Bury, Command, Expire, Job, Replay};
use query::events::Context;
use reader::{For, Readers};
use segments::Segments;
use shared::Shared;

/// The queue in one folder of this machine.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
}

impl Embedded {
    /// Opens the folder, or makes it. Call it on a Tokio runtime; it reads for a moment, longer after a crash.
    ///
    /// Fails with [`Error::Open`], whose text says what to do, when another process uses the folder, when it cannot be
    /// written, when its files are damaged or newer than this program, or when the keys are others.
    pub fn open(folder: &Path, keyring: Keyring, options: Options) -> Result<Arc<Self>, Error> {
        let failed = |reason: String| Error::Open { folder: folder.display().to_string(), reason };
        let opened = open::open(folder, &keyring, &options, Timestamp::now().0)?;
        let connect = || open::connect_reader(folder).map_err(|error| failed(error.to_string()));
        let (records, listings) = (connect()?, connect()?);
        let log = open::connect(folder).map_err(|error| failed(error.to_string()))?;
        let readers = Readers::start(records, listings).map(Arc::new).map_err(|error| failed(error.to_string()))?;
        let open::Opened { lock, conn, own, state, ledger, numbers, journal, claims, seq, begun } = opened;
        let probe = options.probe_every;
        let shared = Arc::new(Shared::new(folder.to_owned(), own, options, keyring, state, ledger));
        let checkpointer =
            checkpoint::Checkpointer::start(log, Arc::clone(&shared)).map_err(|error| failed(error.to_string()))?;
        let now = shared.clock.now();
        let segments = Segments::open(folder, &conn, shared.options.segment_bytes, Arc::clone(&shared.segment_bytes));
        let segments = segments.map_err(|error| failed(error.to_string()))?;
        let mut writer = writer::Writer {
            upkeep: writer::Upkeep::new(now, shared.options.history_age),
            shared: Arc::clone(&shared),
            conn,
            numbers,
            journal,
            claims,
            segments: RefCell::new(segments),
            seq,
            parked: Vec::new(),
            jobs: VecDeque::new(),
            fault: None,
            low: false,
            probed: Instant::now() - probe.min(Duration::from_secs(1)),
            checkpointer: Some(checkpointer),
            readers: Arc::clone(&readers),
            runtime: tokio::runtime::Handle::current(),
            lock,
        };
        writer.bury_begun(&begun).map_err(|error| failed(error.to_string()))?;
        writer.hold_in_doubt(now).map_err(|error| failed(error.to_string()))?;
        std::thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| failed(error.to_string()))?;
        tokio::spawn(timer::run(Arc::downgrade(&shared)));
        Ok(Arc::new(Self { shared, readers }))
    }

    /// Adds the metrics; the caller's registry carries the prefix `zen_queue`.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(&self.shared, registry);
    }

    async fn job<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>, u64) -> Job,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        if let Some(fault) = self.shared.fault() {
            return Err(Error::Unavailable(fault));
        }
        self.shared.send(Command::Job(job(answer, self.shared.clock.now())))?;
        self.shared.answer(answered).await.unwrap_or(Err(Error::Closed))
    }

    async fn listing<T: Send + 'static>(
        &self,
        task: impl FnOnce(&rusqlite::Connection, &Context) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let context = {
            let mut state = self.shared.state();
            let names = state.names();
            let leased = state.lanes.iter().flat_map(|lane| {
                let of = lane.number;
                let granted = lane.leased.iter().filter(|(_, lease)| !lease.exported);
                granted.map(move |(&seq, _)| DeliveryId { seq, destination: of })
            });
            Context { records: self.shared.records.clone(), names, leased: leased.collect(), own: self.shared.own }
        };
        let folder = self.shared.folder.clone();
        let answered = self.readers.run(For::Listings, move |conn| {
            task(conn, &context).map_err(|error| Error::Unavailable(fault::of(&error, &folder)))
        });
        self.shared.answer(answered).await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without close(): the writer finishes what it was given and ends by itself.
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.inbox.close();
        self.shared.timer.notify_one();
    }
}

impl Queue for Embedded {
    fn admit(&self, webhook: &ObjectKey, destinations: &[ObjectKey], bytes: usize) -> Result<(), CommitError> {
        if let Some(fault) = self.shared.fault() {
            return Err(CommitError::Unavailable(fault));
        }
        self.shared.ledger.admit(&webhook.namespace, destinations, bytes)
    }

    fn commit(&self, entry: NewEvent) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.commit_event(entry))
    }

    fn lease(&self, demand: Demand) -> BoxFuture<'_, Result<Vec<Leased>, Error>> {
        Box::pin(self.lease_due(demand))
    }

    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.settle_all(settled))
    }

    fn begin(&self, leases: Vec<LeaseToken>) -> BoxFuture<'_, Result<Vec<LeaseToken>, Error>> {
        Box::pin(self.begin_all(leases))
    }

    fn renew(&self, leases: &[LeaseToken]) {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        for token in leases {
            if let Some(lease) = state.lease(*token) {
                lease.expires = now.saturating_add(lease.term);
            }
        }
    }

    fn abandon(&self, leases: &[LeaseToken]) {
        self.abandon_all(leases);
    }

    fn bury(
        &self,
        destination: ObjectKey,
        only_from: Option<Namespace>,
        reason: DeadReason,
    ) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.job(move |answer, now| {
            Job::Bury(Bury { destination, only_from, reason, now, place: None, done: 0, answer })
        }))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn due(&self) -> Vec<ObjectKey> {
        let state = self.shared.state();
        state.due.iter().filter_map(|number| state.lane_ref(*number).map(|lane| lane.key.clone())).collect()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn set_quotas(&self, quotas: Quotas) {
        self.shared.ledger.set(quotas);
    }

    fn stats(&self) -> Stats {
        stats(&self.shared)
    }

    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EventSummary>, Error>> {
        Box::pin(self.listing(move |conn, context| query::events::list(conn, context, &filter)))
    }

    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Vec<EventDetail>, Error>> {
        Box::pin(self.listing(move |conn, context| query::events::get(conn, context, &id)))
    }

    fn dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<Vec<DeadLetter>, Error>> {
        Box::pin(self.listing(move |conn, context| query::dead::list(conn, &context.records, &context.names, &filter)))
    }

    fn dead_letter(&self, id: DeliveryId) -> BoxFuture<'_, Result<Option<(DeadLetter, Event)>, Error>> {
        Box::pin(self.listing(move |conn, context| query::dead::get(conn, &context.records, &context.names, id)))
    }

    fn replay(&self, filter: DeadFilter, limit: u64) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.job(move |answer, now| Job::Replay(Replay { filter, limit, now, done: 0, answer })))
    }

    fn count_dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.listing(move |conn, context| {
            query::dead::Condition::of(&filter, &context.names).map_or(Ok(0), |condition| condition.count(conn))
        }))
    }

    fn expire(&self, now: Timestamp, dead_letters: BTreeMap<ObjectKey, Duration>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.job(move |answer, _| {
            Job::Expire(Expire { now: now.0, retention: dead_letters, after: (0, 0, 0), answer })
        }))
    }

    fn id(&self) -> QueueId {
        QueueId(self.shared.own.queue)
    }

    fn export(&self, cursor: Cursor, budget: Budget) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(self.export_page(cursor, budget))
    }

    fn adopt(&self, batch: Batch) -> BoxFuture<'_, Result<Adopted, AdoptError>> {
        Box::pin(self.adopt_batch(batch))
    }

    fn forget(&self, exported: Exported) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.forget_page(exported))
    }

    fn hold(&self, exported: &Exported, time: Duration) {
        self.hold_page(exported, time);
    }

    fn keep(&self, exported: &Exported) {
        self.keep_page(exported);
    }

    fn heir(&self) -> BoxFuture<'_, Result<Option<QueueId>, Error>> {
        Box::pin(self.named_heir())
    }

    fn set_heir(&self, heir: Option<QueueId>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.name_heir(heir))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closed.store(true, Ordering::Relaxed);
            self.shared.timer.notify_one();
            let (answer, closed) = oneshot::channel();
            if self.shared.send(Command::Close { answer }).is_ok() {
                let _ = self.shared.answer(closed).await;
            }
        })
    }
}

/// From memory, except for the sizes of the files.
fn stats(shared: &Shared) -> Stats {
    let disk_bytes = ["", "-wal", "-shm"].iter().filter_map(|suffix| {
        let mut name = open::database(&shared.folder).into_os_string();
        name.push(suffix);
        fs::metadata(name).ok().map(|file| file.len())
    });
    let disk_bytes = disk_bytes.sum::<u64>() + shared.segment_bytes.load(Ordering::Relaxed);
    let state = shared.state();
    let destinations = state.lanes.iter().map(|lane| {
        let leased = lane.granted();
        let of_retries = lane.leased.values().filter(|lease| lease.origin != lane::Origin::Ready && !lease.exported);
        let of_retries = of_retries.count() as u64;
        let shown = DestinationStats {
            waiting: lane.ready_rows + lane.retry_rows,
            leased,
            retrying: lane.retry_rows.saturating_sub(of_retries),
            dead: lane.dead_rows,
            bytes: lane.account.load(Ordering::Relaxed),
            oldest: lane.oldest().map(Timestamp),
        };
        (lane.key.clone(), shown)
    });
    Stats {
        committed: state.counts.committed,
        duplicates: state.counts.duplicates,
        batches: state.counts.batches,
        bytes: shared.ledger.global.load(Ordering::Relaxed),
        disk_bytes,
        claims: state.counts.claims,
        destinations: destinations.collect(),
    }
}

/// The fault that a closed queue answers with.
fn closed() -> CommitError {
    CommitError::Unavailable(Fault::Closed)
}
