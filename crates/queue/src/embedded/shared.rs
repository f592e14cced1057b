//! What callers, writer, readers and timer share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use zen_seal::Keyring;

use super::clock::Clock;
use super::command::{Command, Settle};
use super::inbox::{Inbox, Refused};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::open::Own;
use super::options::{Options, Point};
use super::segments::Records;
use super::state::State;
use crate::{Error, Fault, Health};

#[derive(Debug)]
pub(crate) struct Shared {
    pub folder: PathBuf,
    pub own: Own,
    pub options: Options,
    pub keyring: Keyring,
    /// Reads what the tables name.
    pub records: Records,
    /// Bytes of the files with large records.
    pub segment_bytes: Arc<AtomicU64>,
    pub clock: Clock,
    pub inbox: Inbox<Command>,
    pub ledger: Ledger,
    pub changes: watch::Sender<u64>,
    pub health: watch::Sender<Health>,
    /// The timer must look again: something is due earlier than it sleeps for.
    pub timer: Notify,
    pub closed: AtomicBool,
    /// Frames in the write-ahead log, as the last checkpoint saw them.
    pub wal_frames: AtomicU64,
    pub metrics: Metrics,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(
        folder: PathBuf,
        own: Own,
        options: Options,
        keyring: Keyring,
        state: State,
        ledger: Ledger,
    ) -> Self {
        let records = Records::new(keyring.clone(), &folder);
        Self {
            folder,
            own,
            inbox: Inbox::new(options.inbox_events, options.inbox_bytes),
            options,
            records,
            segment_bytes: Arc::default(),
            keyring,
            clock: Clock::start(),
            ledger,
            changes: watch::Sender::new(0),
            health: watch::Sender::new(Health::Ok),
            timer: Notify::new(),
            closed: AtomicBool::new(false),
            wal_frames: AtomicU64::new(0),
            metrics: Metrics::default(),
            state: Mutex::new(state),
        }
    }

    /// The lock on everything in memory; never held over I/O or an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        match *self.health.borrow() {
            Health::Ok => None,
            Health::Failing(fault) => Some(fault),
        }
    }

    /// Something may have become due.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Sends a command that is not bounded by the inbox.
    pub(crate) fn send(&self, command: Command) -> Result<(), Error> {
        self.inbox.push(command).map_err(|(_, refused)| match refused {
            Refused::Full => Error::Unavailable(Fault::Io),
            Refused::Closed => Error::Closed,
        })
    }

    /// Sends ends of leases that nobody waits for.
    pub(crate) fn settle_quietly(&self, settle: Settle) {
        if !settle.endings.is_empty() {
            // Closed: the leases are void with the process.
            let _ = self.send(Command::Settle(settle));
        }
    }

    /// Waits for an answer of the writer.
    pub(crate) async fn answer<T: Send + 'static>(&self, answer: oneshot::Receiver<T>) -> Option<T> {
        if self.options.hold_paused_clock {
            tokio::task::spawn_blocking(move || answer.blocking_recv().ok()).await.ok().flatten()
        } else {
            answer.await.ok()
        }
    }

    pub(crate) fn step(&self, point: Point) {
        if let Some(steps) = &self.options.steps {
            steps.at(point);
        }
    }
}
