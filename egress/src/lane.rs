//! The run queue of one Destination and its slots (D-10).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use zen_compile::{Destination, Snapshot, Target};
use zen_deliver::Prepared;
use zen_model::ObjectKey;

use crate::hosts::Share;
use crate::metrics::Attempts;
use crate::session::{Job, Session};
use crate::{Egress, worker};

/// Jobs of all sessions for one Destination. At most `concurrency` workers take from it; a worker is a task that lives
/// while there is something to take, so that a quiet Destination costs nothing and a busy one spawns nothing.
#[derive(Debug)]
pub(crate) struct Lane {
    key: ObjectKey,
    pub(crate) attempts: Attempts,
    state: Mutex<State>,
    /// The Destination's.
    concurrency: AtomicUsize,
    /// This egress's part of it, as an ingester said last.
    told: AtomicUsize,
    current: ArcSwap<Current>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    workers: usize,
}

/// What the Destination is in one snapshot.
#[derive(Debug)]
struct Current {
    generation: Option<u64>,
    /// [`Egress::rekeyed`] as it was.
    rekeyed: u64,
    standing: Standing,
}

/// Whether deliveries can be attempted.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// They can.
    Ready(Ready),
    /// Paused, or a Service without endpoints.
    Held,
    /// Not in the snapshot.
    Unknown,
    /// Cannot be prepared.
    Unusable,
}

/// What an attempt needs.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) prepared: Arc<Prepared>,
    /// Of the slots of the target's host.
    pub(crate) share: Arc<Share>,
}

impl Lane {
    pub(crate) fn new(key: ObjectKey, attempts: Attempts) -> Self {
        let current = ArcSwap::from_pointee(Current { generation: None, rekeyed: 0, standing: Standing::Unknown });
        Self {
            key,
            attempts,
            state: Mutex::default(),
            concurrency: AtomicUsize::new(1),
            told: AtomicUsize::new(usize::MAX),
            current,
        }
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Gives the job to a new worker where a slot is free; else it waits for one. `slots` came with its lease.
    pub(crate) fn push(self: &Arc<Self>, egress: &Arc<Egress>, job: Job, slots: u32) {
        self.refresh(egress, &egress.parts.snapshot.load());
        self.told.store(if slots == 0 { usize::MAX } else { slots as usize }, Ordering::Relaxed);
        let mut state = self.state();
        if state.workers < self.slots() {
            state.workers += 1;
            drop(state);
            worker::spawn(Arc::clone(egress), Arc::clone(self), job);
        } else {
            state.waiting.push_back(job);
        }
    }

    /// The next job of a worker; none ends the worker, whose slot is free from then on.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        let next = if state.workers > self.slots() { None } else { state.waiting.pop_front() };
        if next.is_none() {
            state.workers -= 1;
        }
        next
    }

    /// Takes out what waits of a session that ends or drains.
    pub(crate) fn take(&self, session: &Arc<Session>) -> Vec<Job> {
        let mut state = self.state();
        let (taken, left): (VecDeque<_>, _) =
            state.waiting.drain(..).partition(|job| Arc::ptr_eq(&job.session, session));
        state.waiting = left;
        taken.into()
    }

    /// Whether deliveries can be attempted now.
    pub(crate) fn standing(&self, egress: &Egress) -> Standing {
        let snapshot = egress.parts.snapshot.load();
        self.refresh(egress, &snapshot);
        self.current.load().standing.clone()
    }

    /// Closes old connections. Whether the lane is still needed.
    pub(crate) fn sweep(&self, egress: &Egress, snapshot: &Snapshot) -> bool {
        self.refresh(egress, snapshot);
        match &self.current.load().standing {
            Standing::Ready(ready) => ready.prepared.sweep(),
            Standing::Held | Standing::Unusable => {}
            Standing::Unknown => {
                let state = self.state();
                return state.workers > 0 || !state.waiting.is_empty();
            }
        }
        true
    }

    /// Prepares the Destination anew when its revision has changed.
    fn refresh(&self, egress: &Egress, snapshot: &Snapshot) {
        let current = self.current.load();
        let rekeyed = egress.rekeyed.load(Ordering::Acquire);
        if current.generation == Some(snapshot.generation) && current.rekeyed == rekeyed {
            return;
        }
        let before = Some(&current.standing).filter(|_| current.rekeyed == rekeyed);
        let standing = match snapshot.destination(&self.key) {
            Some(destination) if egress.parts.serves(destination) => {
                self.concurrency.store(destination.concurrency.max(1), Ordering::Relaxed);
                if is_held(destination) { Standing::Held } else { prepare(egress, destination, before) }
            }
            // Of no business here any more, where there is one.
            _ => Standing::Unknown,
        };
        self.current.store(Arc::new(Current { generation: Some(snapshot.generation), rekeyed, standing }));
    }

    fn slots(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed).min(self.told.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_held(destination: &Destination) -> bool {
    destination.paused || matches!(&destination.target, Target::Service { addresses, .. } if addresses.is_empty())
}

fn prepare(egress: &Egress, destination: &Arc<Destination>, before: Option<&Standing>) -> Standing {
    let before = if let Some(Standing::Ready(before)) = before { Some(before) } else { None };
    if let Some(before) = before
        && before.prepared.destination.revision == destination.revision
    {
        return Standing::Ready(before.clone());
    }
    let keys = (egress.parts.target_keys)(&destination.key);
    match Prepared::new(Arc::clone(destination), keys) {
        Ok(prepared) => {
            let share = egress.hosts.share(destination, before.map(|before| &before.share));
            Standing::Ready(Ready { prepared: Arc::new(prepared), share })
        }
        Err(error) => {
            tracing::error!(destination = %destination.key, %error, "failed to prepare the destination");
            Standing::Unusable
        }
    }
}
