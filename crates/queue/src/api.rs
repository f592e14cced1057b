//! The contract between the ingester and whatever stores its events.

mod delivery;
mod fault;
mod intake;
mod listing;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use zen_model::{DeadReason, Event, EventId, Namespace, ObjectKey, Timestamp};

pub use delivery::{DeliveryId, Demand, LeaseToken, Leased, MAX_LOST_LEASES, QueueId, Settled};
pub use fault::{AdoptError, Error, Fault, Health};
pub use intake::{Claim, CommitError, Committed, NewEvent, QuotaScope, Quotas};
pub use listing::{
    DeadFilter, DeadLetter, DeliveryState, DeliverySummary, DestinationStats, EventDetail, EventFilter, EventSummary,
    Stats, Step,
};

use crate::handover::{Adopted, Batch, Budget, Cursor, Exported, Page};

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
