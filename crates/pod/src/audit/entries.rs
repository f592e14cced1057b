//! Where entries go before there is a log, and once there is one.

use std::sync::{Mutex, PoisonError};

use zen_audit::{Log, Record, Refused};

/// What is remembered of the time before there is a log: the certificate that it is shipped with comes first.
const EARLY: usize = 64;

/// Where entries go: into memory, and from [`Entries::open`] on into the log.
#[derive(Debug, Default)]
pub struct Entries(Mutex<To>);

#[derive(Debug)]
enum To {
    Memory(Vec<Record>),
    Log(Log),
    Nowhere,
}

impl Default for To {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl Entries {
    /// For what keeps no log: all of it is dropped.
    pub fn nowhere() -> Self {
        Self(Mutex::new(To::Nowhere))
    }

    /// From now on into this log; what is remembered first.
    pub fn open(&self, log: &Log) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let To::Memory(early) = std::mem::replace(&mut *to, To::Log(log.clone())) {
            for record in early {
                log.note(record);
            }
        }
    }

    /// There will be no log.
    pub fn give_up(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = To::Nowhere;
    }

    /// What was done and cannot be taken back. Never waits.
    pub fn note(&self, record: Record) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            To::Log(log) => log.note(record),
            To::Memory(early) if early.len() < EARLY => early.push(record),
            To::Memory(_) => tracing::error!(?record, "there is no audit log yet, and no room to wait for it"),
            To::Nowhere => {}
        }
    }

    /// What may be done once it is recorded. Waits as long as the log's patience at most.
    ///
    /// # Errors
    ///
    /// From a strict log alone.
    pub async fn record(&self, record: Record) -> Result<(), Refused> {
        let log = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            To::Log(log) => Some(log.clone()),
            To::Memory(_) | To::Nowhere => None,
        };
        if let Some(log) = log {
            return log.record(record).await.map(drop);
        }
        self.note(record);
        Ok(())
    }
}
