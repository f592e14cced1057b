//! Folds the write-ahead log into the database beside the commits, on a thread and a connection of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tracing::debug;

use super::options::Point;
use super::shared::Shared;

pub(crate) struct Checkpointer {
    asks: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    pub(crate) fn start(conn: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (asks, asked) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("queue-checkpoint".into()).spawn(move || {
            for () in asked {
                shared.step(Point::BeforeCheckpoint);
                match fold(&conn) {
                    Ok(frames) => shared.wal_frames.store(frames, Ordering::Relaxed),
                    // The writer meets the same fault and reports it.
                    Err(error) => debug!(%error, "failed to fold the log"),
                }
                shared.step(Point::AfterCheckpoint);
            }
        })?;
        Ok(Self { asks, thread })
    }

    /// Asks for a checkpoint, unless one is asked for already.
    pub(crate) fn ask(&self) {
        let _ = self.asks.try_send(());
    }

    /// Waits for the checkpoint in hand.
    pub(crate) fn end(self) {
        drop(self.asks);
        let _ = self.thread.join();
    }
}

/// Takes what no reader needs any more, without making the writer wait. Returns the frames that the log holds.
fn fold(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1))
        .map(|frames| u64::try_from(frames).unwrap_or(0))
}
