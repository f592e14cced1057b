//! The contract between the ingester and whatever stores its events.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zen_model::settle::Attempt;
use zen_model::{DeadReason, Event, EventId, Namespace, ObjectKey, Settlement, Timestamp};

use crate::handover::{Adopted, Batch, Budget, Cursor, Exported, Malformed, Page};

/// A boxed future: the trait is used as `Arc<dyn Queue>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A durable queue of webhook events. Methods may be called from any task; none blocks the caller's thread for I/O.
pub trait Queue: Send + Sync + fmt::Debug + 'static {
    /// Whether an event of this Webhook towards these Destinations would find room. Cheap (a few atomic loads), called
    /// before the body is read (W-15).
    fn admit(&self, webhook: &ObjectKey, destinations: &[ObjectKey], bytes: usize) -> Result<(), CommitError>;

    /// Stores an event with its idempotency claim and one delivery for each destination in one durable commit. When
    /// this returns `Ok`, a SIGKILL or power cut at any later instant loses nothing. Two entries with one claim in one
    /// batch: the second answers `Duplicate` once the first is durable. A commit that failed has claimed nothing.
    fn commit(&self, entry: NewEvent) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Grants leases on due deliveries of one destination, oldest first, at most `max` and at most about `max_bytes` of
    /// records (but at least one). Returns at once, empty when nothing is due.
    fn lease(&self, demand: Demand) -> BoxFuture<'_, Result<Vec<Leased>, Error>>;

    /// Ends leases. Rides in the next durable batch; returns when that batch is durable. Stale `Retry`, `Dead` and
    /// `Release` are ignored, a stale `Ack` counts. Attempts go into the event's history and dead letter.
    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), Error>>;

    /// Marks deliveries as begun before the first byte is sent (`idempotent: false`, D-04); durable on return. What is
    /// begun and not settled when its lease ends, or when the process starts again, becomes `Dead{Ambiguous}`. Returns
    /// those whose lease is still good: only they may be attempted.
    fn begin(&self, leases: Vec<LeaseToken>) -> BoxFuture<'_, Result<Vec<LeaseToken>, Error>>;

    /// Extends leases by their original term, counted from now. Unknown ones are ignored.
    fn renew(&self, leases: &[LeaseToken]);

    /// Ends leases whose egress went away: due again at once, the lease counted towards `Dead{Poison}` (more than
    /// [`MAX_LOST_LEASES`]), the attempt not charged. Expired leases end the same way by themselves.
    fn abandon(&self, leases: &[LeaseToken]);

    /// Moves every waiting delivery of a destination to the dead letters (deleted, consent withdrawn, 410, hold
    /// exceeded). `only_from` limits it to events of one namespace. Returns how many.
    fn bury(
        &self,
        destination: ObjectKey,
        only_from: Option<Namespace>,
        reason: DeadReason,
    ) -> BoxFuture<'_, Result<u64, Error>>;

    /// Destinations that have, or by passing time got, something due since the receiver last looked. The value is a
    /// counter: on a change, ask [`Queue::due`].
    fn changes(&self) -> watch::Receiver<u64>;

    /// Destinations with at least one delivery that could be leased now.
    fn due(&self) -> Vec<ObjectKey>;

    /// Whether commits work. Readiness follows it; intake answers 503 while it is not `Ok`.
    fn health(&self) -> watch::Receiver<Health>;

    /// Byte quotas of waiting events.
    fn set_quotas(&self, quotas: Quotas);

    /// Counts by destination and overall; from memory.
    fn stats(&self) -> Stats;

    /// Events, newest first, from the bounded history and the waiting ones.
    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EventSummary>, Error>>;

    /// One event with its whole kept history; none when it is unknown or its history is past retention.
    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Vec<EventDetail>, Error>>;

    /// Dead letters, oldest first.
    fn dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<Vec<DeadLetter>, Error>>;

    /// One dead letter with the stored event, body included.
    fn dead_letter(&self, id: DeliveryId) -> BoxFuture<'_, Result<Option<(DeadLetter, Event)>, Error>>;

    /// Makes dead letters due again as new attempts: attempts count from zero, and no claim swallows them. Takes at most
    /// `limit`, oldest first, so that the caller can pace a large replay. Durable on return. Returns how many.
    fn replay(&self, filter: DeadFilter, limit: u64) -> BoxFuture<'_, Result<u64, Error>>;

    /// Counts what a replay of this filter would take.
    fn count_dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<u64, Error>>;

    /// Removes dead letters, claims and history that are past their retention. The caller decides how often.
    fn expire(&self, now: Timestamp, dead_letters: BTreeMap<ObjectKey, Duration>) -> BoxFuture<'_, Result<(), Error>>;

    /// Tells this queue's data from any other's, for as long as they exist.
    fn id(&self) -> QueueId;

    /// Picks some of what must survive this queue (waiting deliveries, dead letters, claims that are held), up to about
    /// `budget.bytes`, for a peer to adopt. Deliveries under lease are left out until they are settled or void; those of
    /// the page are held for `budget.hold`, also across a crash. `None` in `Page::next`: nothing is left behind the page.
    fn export(&self, cursor: Cursor, budget: Budget) -> BoxFuture<'_, Result<Page, Error>>;

    /// Stores a page of another queue in one durable commit. Again is the same as once: a delivery that was adopted
    /// before is not stored a second time, also when it has left since; of two claims for one key the later to expire
    /// counts. A dead letter keeps its id, reason, attempts and times. Quotas never refuse what was acknowledged.
    fn adopt(&self, batch: Batch) -> BoxFuture<'_, Result<Adopted, AdoptError>>;

    /// Removes what a peer has durably adopted. Durable on return. Again is the same as once.
    fn forget(&self, exported: Exported) -> BoxFuture<'_, Result<(), Error>>;

    /// Holds a page for longer, counted from now: its peer has not answered yet.
    fn hold(&self, exported: &Exported, time: Duration);

    /// A page's peer did not take it: its deliveries may be leased here again.
    fn keep(&self, exported: &Exported);

    /// The queue that may hold what is still here, because this process died before it was told so.
    fn heir(&self) -> BoxFuture<'_, Result<Option<QueueId>, Error>>;

    /// Names the queue that pages are sent to, before the first is; none when it has been told of them all. Durable on
    /// return.
    fn set_heir(&self, heir: Option<QueueId>) -> BoxFuture<'_, Result<(), Error>>;

    /// Finishes the batch in hand, syncs and closes. Later calls fail with [`Error::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Leases that may end without a settlement before a delivery becomes `Dead{Poison}`.
pub const MAX_LOST_LEASES: u32 = 5;

/// An event on its way into the queue.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event; `Event::content_hash` is filled in by the caller. An empty `id` is replaced by a generated one.
    pub event: Event,
    /// Where it goes; none: kept in the history as unrouted, payload not kept.
    pub destinations: Vec<ObjectKey>,
    /// Idempotency claim (W-07).
    pub claim: Option<Claim>,
}

/// A claim of an idempotency key for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// SHA-256 over tenant, webhook and key, cut to 16 bytes.
    pub hash: [u8; 16],
    /// How long a repeat is recognised.
    pub window: Duration,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Durable.
    Accepted {
        /// The event's id, generated where the request had none.
        id: EventId,
    },
    /// The claim was taken by an earlier event, which is durable.
    Duplicate {
        /// The first event's id.
        id: EventId,
        /// Deliveries of the first event that were dead letters and are now due again.
        rearmed: u32,
    },
}

/// Why an event was not stored. Nothing of it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A quota is full.
    #[error("{scope} has no room for more waiting events")]
    Full {
        /// Whose quota.
        scope: QuotaScope,
    },
    /// The writer is behind by more than its bound.
    #[error("the commit queue is full")]
    Overloaded,
    /// The store cannot commit.
    #[error("the queue cannot commit: {0}")]
    Unavailable(Fault),
}

/// Whose quota is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaScope {
    /// The whole queue.
    Global,
    /// One tenant.
    Namespace(Namespace),
    /// One destination.
    Destination(ObjectKey),
}

impl fmt::Display for QuotaScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("the queue"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::Destination(key) => write!(f, "destination {key}"),
        }
    }
}

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No space left, or a disk quota.
    DiskFull,
    /// The folder or file system is read-only.
    ReadOnly,
    /// The files are damaged.
    Corrupt,
    /// Any other I/O error.
    Io,
    /// Closed, or closing.
    Closed,
}

impl Fault {
    /// Stable label for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Corrupt => "corrupt",
            Self::Io => "io",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::ReadOnly => "the folder is read-only",
            Self::Corrupt => "the queue's files are damaged",
            Self::Io => "the disk reports an error",
            Self::Closed => "the queue is closed",
        })
    }
}

/// Whether commits work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They do.
    Ok,
    /// They do not, for this reason; recovery is tried by itself.
    Failing(Fault),
}

/// An operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is failing.
    #[error("the queue is unavailable: {0}")]
    Unavailable(Fault),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The folder cannot be used; the text says why and what to do.
    #[error("failed to open the queue at {folder}: {reason}")]
    Open {
        /// The folder.
        folder: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Identifies the data of a queue: drawn when its folder was made. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub [u8; 16]);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl std::str::FromStr for QueueId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| format!("{text:?} is not the id of a queue"))
    }
}

/// Why a page of another queue was not adopted. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It makes no sense, and will not when it is sent again.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The store cannot commit.
    #[error("the queue cannot commit: {0}")]
    Unavailable(Fault),
}

/// Names a delivery: an event on its way to one destination. Written `<seq>-<destination number>`, both in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event's sequence number, ascending in commit order.
    pub seq: u64,
    /// The destination's number inside this queue.
    pub destination: u32,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.destination)
    }
}

impl std::str::FromStr for DeliveryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-').and_then(|(seq, to)| Some((seq.parse().ok()?, to.parse().ok()?)));
        let (seq, destination) = parts.ok_or_else(|| format!("{text:?} is not a delivery id such as 17-2"))?;
        Ok(Self { seq, destination })
    }
}

/// A delivery and the number of the lease on it. Lease numbers are unique over the life of the process and never repeat
/// after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The lease.
    pub lease: u64,
}

/// What an egress could take now.
#[derive(Clone, Debug)]
pub struct Demand {
    /// For which destination.
    pub destination: ObjectKey,
    /// At most so many deliveries.
    pub max: usize,
    /// At most about so many bytes of records.
    pub max_bytes: usize,
    /// How long the lease lasts unless renewed; longer than the request's total timeout.
    pub term: Duration,
}

/// A delivery under lease.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The delivery and its lease.
    pub token: LeaseToken,
    /// Attempts charged so far.
    pub attempts: u32,
    /// When the first attempt began; none before it.
    pub first_attempt: Option<Timestamp>,
    /// The encoded [`Event`], exactly as it was committed, to be carried on without encoding it again.
    pub record: Bytes,
    /// Decoded once from `record`; its body points into it.
    pub event: Event,
}

/// The end of a lease with what happened in it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which lease.
    pub token: LeaseToken,
    /// How it ended.
    pub settlement: Settlement,
    /// The attempt, where one was made.
    pub attempt: Option<Attempt>,
}

/// Limits on the bytes of records that wait (dead letters count too).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// The whole queue; none is no limit.
    pub global: Option<u64>,
    /// By tenant.
    pub namespaces: BTreeMap<Namespace, u64>,
    /// The limit of each destination; none is no limit.
    pub each_destination: Option<u64>,
}

/// Numbers for status and metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Events committed since the process began.
    pub committed: u64,
    /// Repeats answered from a claim since the process began.
    pub duplicates: u64,
    /// Durable batches since the process began.
    pub batches: u64,
    /// Bytes of records that wait or are dead.
    pub bytes: u64,
    /// Bytes of the store's files.
    pub disk_bytes: u64,
    /// Claims that are remembered.
    pub claims: u64,
    /// By destination.
    pub destinations: BTreeMap<ObjectKey, DestinationStats>,
}

/// Numbers of one destination.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DestinationStats {
    /// Waiting, leased ones and those in back-off included.
    pub waiting: u64,
    /// Of those, under lease.
    pub leased: u64,
    /// Of those, waiting for their next attempt.
    pub retrying: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Bytes of records that wait or are dead.
    pub bytes: u64,
    /// When the oldest waiting one was accepted.
    pub oldest: Option<Timestamp>,
}

/// Which events to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Of a Webhook of this namespace.
    pub namespace: Option<Namespace>,
    /// Of this Webhook.
    pub webhook: Option<ObjectKey>,
    /// With a delivery to this Destination.
    pub destination: Option<ObjectKey>,
    /// With a delivery in this state.
    pub state: Option<DeliveryState>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// At most so many; 0 means 100.
    pub limit: usize,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// Waits for its first attempt or for a lease.
    Waiting,
    /// An attempt failed; waits for the next.
    Retrying,
    /// Under lease.
    Leased,
    /// The target took it.
    Delivered,
    /// In the dead letters.
    Dead,
}

/// One event in a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventSummary {
    /// The event's id.
    pub id: EventId,
    /// Its sequence number.
    pub seq: u64,
    /// The Webhook that took it.
    pub webhook: ObjectKey,
    /// CloudEvents type.
    pub r#type: String,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Body size in bytes.
    pub bytes: u64,
    /// Where its deliveries stand; empty is unrouted.
    pub deliveries: Vec<DeliverySummary>,
}

/// One delivery in a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliverySummary {
    /// Its id, for `dead-letters show` and `replay`.
    pub delivery: String,
    /// To this Destination.
    pub destination: ObjectKey,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts charged.
    pub attempts: u32,
    /// When the next attempt is due, in back-off.
    pub due: Option<Timestamp>,
    /// Reason code, when dead.
    pub reason: Option<String>,
}

/// One event with everything that is known about it, oldest step first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDetail {
    /// The listing's line.
    #[serde(flatten)]
    pub summary: EventSummary,
    /// Correlation id.
    pub request_id: String,
    /// What happened, in order.
    pub history: Vec<Step>,
}

/// One step of an event's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// To which Destination; none for the event as a whole.
    pub destination: Option<ObjectKey>,
    /// `accepted`, `attempt`, `delivered`, `dead`, `replayed`, `rearmed`, `lost-lease`, `adopted`, `handed-over`.
    pub what: String,
    /// Attempt class label, reason code, status and stable error words; never target text.
    pub detail: String,
}

/// Which dead letters are meant. An empty filter means all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadFilter {
    /// These deliveries only, as `<seq>-<number>`.
    pub ids: Vec<String>,
    /// Of a Destination of this namespace.
    pub namespace: Option<Namespace>,
    /// Of this Destination.
    pub destination: Option<ObjectKey>,
    /// Of this Webhook.
    pub webhook: Option<ObjectKey>,
    /// With this reason code.
    pub reason: Option<String>,
    /// Dead at or after.
    pub since: Option<Timestamp>,
    /// Dead before.
    pub until: Option<Timestamp>,
    /// At most so many in a listing; 0 means 100.
    pub limit: usize,
}

/// A dead letter as it is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The delivery's id.
    pub id: String,
    /// The event's id.
    pub event: EventId,
    /// The Webhook that took it.
    pub webhook: ObjectKey,
    /// To this Destination.
    pub destination: ObjectKey,
    /// CloudEvents type.
    pub r#type: String,
    /// Reason code.
    pub reason: String,
    /// Attempts charged.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it became a dead letter.
    pub since: Timestamp,
    /// HTTP status of the last attempt; 0 when none came.
    pub last_status: u16,
    /// Stable words for the last failure.
    pub last_error: Option<String>,
    /// Body size in bytes.
    pub bytes: u64,
    /// The beginning of the last response, only in `dead_letter`, never in listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_response: Option<String>,
}
