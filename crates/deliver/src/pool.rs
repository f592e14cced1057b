//! The idle connections of one Destination's revision: the last one used is the first one used again, so that a quiet
//! Destination keeps few.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;

/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_mins(1);
/// A connection is used for no longer than this, so that a changed DNS entry takes effect.
const LIFE: Duration = Duration::from_mins(5);
/// Where a repeat would do harm, a connection must have been used this recently: servers close idle ones without warning,
/// and a request that meets the close has an unknown fate.
const FRESH: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
    limit: usize,
    keep: Duration,
}

impl Pool {
    /// Keeps at most `limit` idle connections.
    pub(crate) fn new(limit: usize, idempotent: bool) -> Self {
        Self { idle: Mutex::default(), limit, keep: if idempotent { IDLE } else { FRESH } }
    }

    /// A connection that is good for a request, as far as can be known.
    pub(crate) fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        loop {
            let mut connection = self.idle().pop()?;
            if self.is_young(&connection, now) && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Takes it back after a complete response.
    pub(crate) fn put(&self, mut connection: Connection) {
        let now = Instant::now();
        connection.used = now;
        if self.is_young(&connection, now) && connection.is_usable() {
            let mut idle = self.idle();
            if idle.len() < self.limit {
                idle.push(connection);
            }
        }
    }

    /// Closes what is too old or was closed by the target.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle().retain_mut(|connection| self.is_young(connection, now) && connection.is_usable());
    }

    fn is_young(&self, connection: &Connection, now: Instant) -> bool {
        now.duration_since(connection.used) < self.keep && now.duration_since(connection.born) < LIFE
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
