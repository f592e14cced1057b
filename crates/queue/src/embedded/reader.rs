//! Threads that read: one for records that are leased, one for listings, so that a long listing delays no delivery.
//! In WAL mode readers and the writer do not wait for each other.

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

type Task = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Debug)]
pub(crate) struct Readers {
    records: Thread,
    listings: Thread,
}

/// Which thread a task runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Records,
    Listings,
}

#[derive(Debug)]
struct Thread(Mutex<Option<(Sender<Task>, JoinHandle<()>)>>);

impl Readers {
    pub(crate) fn start(records: Connection, listings: Connection) -> std::io::Result<Self> {
        Ok(Self {
            records: Thread::start("queue-records", records)?,
            listings: Thread::start("queue-listings", listings)?,
        })
    }

    /// Runs a task; the receiver fails when the queue closes first.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        on: For,
        task: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let thread = if on == For::Records { &self.records } else { &self.listings };
        thread.send(Box::new(move |conn| {
            let _ = answer.send(task(conn));
        }));
        answered
    }

    /// Finishes what waits and ends both threads.
    pub(crate) fn close(&self) {
        self.records.close();
        self.listings.close();
    }
}

impl Thread {
    fn start(name: &str, conn: Connection) -> std::io::Result<Self> {
        let (tasks, taken) = mpsc::channel::<Task>();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            for task in taken {
                task(&conn);
            }
        })?;
        Ok(Self(Mutex::new(Some((tasks, thread)))))
    }

    fn send(&self, task: Task) {
        if let Some((tasks, _)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = tasks.send(task);
        }
    }

    fn close(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((tasks, thread)) = thread {
            drop(tasks);
            let _ = thread.join();
        }
    }
}
