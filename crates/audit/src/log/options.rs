use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Metrics, OnChange};
use crate::folder::Steps;
use crate::head::Head;
use crate::names::Writer;

/// What [`Log::record`](super::Log::record) waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// The entry is synced to the own disk.
    #[default]
    Disk,
    /// The store has it too. Needs the transport to run.
    Store,
}

/// How a log is kept.
#[derive(Clone)]
pub struct Options {
    /// Where its files lie; no other process may use it.
    pub folder: PathBuf,
    /// Who writes.
    pub writer: Writer,
    /// Refuse what cannot be audited. Otherwise it is done, and the log says that it is degraded.
    pub strict: bool,
    /// What a receipt means.
    pub acknowledge: Acknowledge,
    /// Entries go to a store: files are kept until it has them, and then removed.
    pub shipped: bool,
    /// Where the chain before stood, as far as somebody else knows: the store's last head of this writer.
    pub after: Option<Head>,
    /// Records that may wait for the thread.
    pub queue: usize,
    /// The longest that a caller waits.
    pub patience: Duration,
    /// A file that has so many bytes is followed by the next.
    pub file_bytes: u64,
    /// As a file that is so old.
    pub file_age: Duration,
    /// The most bytes of all files. Over it the oldest go, with an entry that says so; those that the store does not have
    /// yet stay, and new entries are lost instead.
    pub keep_bytes: u64,
    /// Files whose last entry is older go. None: only the size counts.
    pub keep_age: Option<Duration>,
    /// Entries that wait in memory for a broken disk, bytes.
    pub memory_bytes: usize,
    /// Is told when something stops working, and when it works again; for Events. Must not block.
    pub on_change: Option<OnChange>,
    /// What is counted: others than these own ones where they have to be registered before the log is opened.
    pub metrics: Metrics,
    /// For tests.
    pub steps: Option<Arc<dyn Steps>>,
}

impl Options {
    /// The usual ones: not strict, 16 MiB or a day a file, 256 MiB in all.
    pub fn new(folder: impl Into<PathBuf>, writer: Writer) -> Self {
        Self {
            folder: folder.into(),
            writer,
            strict: false,
            acknowledge: Acknowledge::Disk,
            shipped: false,
            after: None,
            queue: 4096,
            patience: Duration::from_secs(2),
            file_bytes: 16 << 20,
            file_age: Duration::from_hours(24),
            keep_bytes: 256 << 20,
            keep_age: None,
            memory_bytes: 4 << 20,
            on_change: None,
            metrics: Metrics::default(),
            steps: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("folder", &self.folder).field("writer", &self.writer).finish_non_exhaustive()
    }
}
