//! What can be set about the embedded queue. The defaults suit everything from a laptop to a busy node.

use std::sync::Arc;
use std::time::Duration;

/// Bounds of the embedded queue.
#[derive(Clone)]
pub struct Options {
    /// Plain records of recent commits that are kept so that the lease that follows needs no read, in bytes.
    pub recent_bytes: usize,
    /// At most so many commands in one batch.
    pub batch_commands: usize,
    /// At most about so many bytes of records in one batch.
    pub batch_bytes: usize,
    /// Commits that may wait for the writer; more answer `Overloaded`.
    pub inbox_events: usize,
    /// Bytes of records that may wait for the writer; more answer `Overloaded`.
    pub inbox_bytes: usize,
    /// Bytes of history that are kept for listings.
    pub history_bytes: u64,
    /// How long history is kept.
    pub history_age: Duration,
    /// Idempotency claims that are kept for one Webhook; beyond it the oldest are dropped and counted.
    pub claims_per_webhook: u64,
    /// How long dead letters are kept whose Destination names no retention.
    pub dead_letter_retention: Duration,
    /// No stored due time is believed to be further away than this: longer than any policy could ask.
    pub furthest_due: Duration,
    /// The write-ahead log is folded into the database beyond this size.
    pub wal_bytes: u64,
    /// Intake stops when the disk has less room than this and what the write-ahead log may still need: settlements,
    /// which free space, go on in what is kept back.
    pub reserve_bytes: u64,
    /// After a crash in a handover: how long what may be at the peer is leased to nobody, unless that is settled earlier.
    pub hold_in_doubt: Duration,
    /// Records of at least so many bytes go to files of their own, see `large_batch_bytes`; smaller ones always lie in
    /// the tables.
    pub large_record_bytes: usize,
    /// ... if those of one batch have so many bytes together: below it a second file to sync costs more than it saves.
    pub large_batch_bytes: usize,
    /// Such a file is full at this size.
    pub segment_bytes: u64,
    /// How often a failing store is tried again.
    pub probe_every: Duration,
    /// One of several replicas, which may adopt from one another: events and Destinations are numbered so that no two
    /// replicas give out one delivery id, and an id outlives the move. Read when the folder is made.
    pub unique_ids: bool,
    /// Waits for the writer on a blocking thread: keeps a paused Tokio clock from running ahead. For tests.
    pub hold_paused_clock: bool,
    /// Told about each step of a batch. For crash tests.
    pub steps: Option<Arc<dyn Steps>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recent_bytes: 16 << 20,
            batch_commands: 1024,
            batch_bytes: 8 << 20,
            inbox_events: 8192,
            inbox_bytes: 64 << 20,
            history_bytes: 64 << 20,
            history_age: Duration::from_hours(14 * 24),
            claims_per_webhook: 1_000_000,
            dead_letter_retention: Duration::from_hours(336),
            furthest_due: Duration::from_hours(25),
            wal_bytes: 64 << 20,
            reserve_bytes: 32 << 20,
            hold_in_doubt: Duration::from_mins(10),
            large_record_bytes: 8 << 10,
            large_batch_bytes: 64 << 10,
            segment_bytes: 16 << 20,
            probe_every: Duration::from_secs(1),
            unique_ids: false,
            hold_paused_clock: false,
            steps: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// Is told where the writer stands; a crash test ends the process there.
pub trait Steps: Send + Sync {
    /// The writer reached this point.
    fn at(&self, point: Point);
}

/// A point in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A batch was taken, nothing of it is written.
    Taken,
    /// The transaction holds every row of it.
    Written,
    /// Claims, history and counters are in it too; the commit is next.
    BeforeCommit,
    /// It is durable; nobody has been told.
    Committed,
    /// The write-ahead log is about to be folded into the database.
    BeforeCheckpoint,
    /// It was.
    AfterCheckpoint,
    /// The large records of a batch are appended to their segment.
    BodiesWritten,
    /// They are synced; the commit that names them is next.
    BodiesSynced,
    /// What was left in a segment was copied to another; the commit is next.
    BeforeMove,
    /// That is durable; the first one's file is still there.
    Moved,
    /// A page is held and on its way out.
    Exported,
    /// The transaction holds every row of a page that came in; the commit is next.
    BeforeAdoption,
    /// The page is durable; nobody has been told.
    Adopted,
    /// The rows of a page that a peer has are deleted; the commit is next.
    BeforeForgetting,
    /// That is durable.
    Forgotten,
}

impl Point {
    /// The points of every batch, in its order.
    pub const ALL: [Self; 6] = [
        Self::Taken,
        Self::Written,
        Self::BeforeCommit,
        Self::Committed,
        Self::BeforeCheckpoint,
        Self::AfterCheckpoint,
    ];

    /// The points of large records: of their way in, and of their way to another file.
    pub const BODIES: [Self; 4] = [Self::BodiesWritten, Self::BodiesSynced, Self::BeforeMove, Self::Moved];

    /// The points of a handover, on both sides.
    pub const HANDOVER: [Self; 5] =
        [Self::Exported, Self::BeforeAdoption, Self::Adopted, Self::BeforeForgetting, Self::Forgotten];
}
