//! The dispatcher: one task, no lock, no wait for durability.
//!
//! Each turn of its loop first gives every lane in line its step, then waits for whatever comes first: a session's frames,
//! the end of a call to the queue, something that became due, a timer. Calls to the queue run beside the loop; a lane has
//! at most one.

mod frames;
mod grant;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_compile::{DeliveryMode, Snapshot};
use zen_model::observe::Observation;
use zen_model::{DeadReason, ObjectKey};
use zen_queue::{LeaseToken, Leased};

use super::lane::{Divided, LEASES_PER_SLOT, Lane, Offer, Probe};
use super::session::{Held, Session};
use super::share::{Share, divide};
use super::suspects::Suspects;
use super::{Carrier, Handle, Heard, Parts};

/// The configuration, expired leases and what nobody told us are looked at so often.
const TICK: Duration = Duration::from_secs(1);
/// After a failed call to the queue: not sooner again.
const PAUSE: Duration = Duration::from_secs(1);
/// Batches of settlements that may wait for the disk before no more frames are read: the link then holds the egress back.
const MAX_UNSETTLED: usize = 256;
/// Frames that are taken together, so that their settlements are one call.
const FRAMES: usize = 64;

/// The end of a call to the queue.
enum Done {
    Leased { lane: u64, session: u64, asked: usize, term: Duration, result: Result<Vec<Leased>, zen_queue::Error> },
    Settled(Result<(), zen_queue::Error>),
    Begun { session: u64, asked: Vec<LeaseToken>, result: Result<Vec<LeaseToken>, zen_queue::Error> },
    Buried { lane: u64, reason: DeadReason, result: Result<u64, zen_queue::Error> },
}

pub(super) struct Dispatcher {
    parts: Parts,
    handle: Handle,
    snapshot: Arc<Snapshot>,
    changes: watch::Receiver<u64>,
    lanes: HashMap<u64, Lane>,
    ids: HashMap<ObjectKey, u64>,
    sessions: HashMap<u64, Session>,
    suspects: Suspects,
    /// Lanes with something due, in turn.
    line: VecDeque<u64>,
    /// Lanes to look at again at a time.
    timers: BTreeSet<(Instant, u64)>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    unsettled: usize,
    next_id: u64,
    /// Changes whenever the slots of Destinations are to be divided anew.
    epoch: u64,
    /// Rises with every grant.
    turn: u64,
    /// Ingesters that deliver to Destinations of mode `Direct`.
    replicas: usize,
    /// No lease is granted.
    paused: bool,
    /// Zero of the breakers' clock.
    origin: Instant,
    /// The queue's list of what is due may have changed.
    look: bool,
    stopping: bool,
}

impl Dispatcher {
    pub(super) fn new(parts: Parts, handle: Handle) -> Self {
        let changes = parts.queue.changes();
        let snapshot = parts.snapshot.load_full();
        Self {
            parts,
            handle,
            snapshot,
            changes,
            lanes: HashMap::new(),
            ids: HashMap::new(),
            sessions: HashMap::new(),
            suspects: Suspects::default(),
            line: VecDeque::new(),
            timers: BTreeSet::new(),
            running: FuturesUnordered::new(),
            unsettled: 0,
            next_id: 0,
            epoch: 0,
            turn: 0,
            replicas: 1,
            paused: false,
            origin: Instant::now(),
            look: true,
            stopping: false,
        }
    }

    pub(super) async fn run(mut self, mut heard: mpsc::Receiver<Heard>, shutdown: CancellationToken) {
        let wake = Arc::clone(&self.handle.wake);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut frames = Vec::with_capacity(FRAMES);
        let mut deadline = None;
        let mut queue_open = true;
        loop {
            self.reconfigure();
            self.told();
            self.look();
            self.grant();
            if self.stopping && self.sessions.values().all(|session| session.held.is_empty()) && self.running.is_empty()
            {
                return;
            }
            let timer = self.timers.first().map(|(at, _)| *at);
            let next_timer = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    deadline = Some(Instant::now() + self.parts.options.drain_timeout);
                }
                Some(done) = self.running.next(), if !self.running.is_empty() => self.done(done),
                count = heard.recv_many(&mut frames, FRAMES), if self.unsettled < MAX_UNSETTLED => {
                    debug_assert!(count > 0, "the dispatcher holds a handle");
                    self.hear(&mut frames);
                }
                changed = self.changes.changed(), if queue_open => {
                    queue_open = changed.is_ok();
                    self.look = true;
                }
                () = wake.notified() => {}
                () = next_timer, if timer.is_some() => self.timers_due(),
                _ = tick.tick() => self.tick(),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.give_up();
                return;
            }
        }
    }

    /// Takes the snapshot in effect. Lanes that waited for a configuration are looked at again.
    fn reconfigure(&mut self) {
        let current = self.parts.snapshot.load();
        if Arc::ptr_eq(&current, &self.snapshot) {
            return;
        }
        self.snapshot = Arc::clone(&current);
        drop(current);
        let snapshot = Arc::clone(&self.snapshot);
        let now = self.origin.elapsed();
        let Self { lanes, ids, parts, .. } = self;
        lanes.retain(|_, lane| {
            let destination = snapshot.destination(&lane.key);
            if let Some(destination) = destination {
                lane.breaker.configure(destination.breaker);
                lane.missing_since = None;
                if lane.gone.is_some_and(|revision| revision != destination.revision) {
                    lane.gone = None;
                    parts.board.show(&lane.key, lane.breaker.state(now), false);
                }
            }
            let keep = destination.is_some() || !lane.is_idle();
            if !keep {
                ids.remove(&lane.key);
                parts.board.forget(&lane.key);
            }
            keep
        });
        self.revoke();
        self.requeue_all();
    }

    /// Takes what was said through the handle.
    fn told(&mut self) {
        let paused = self.handle.paused.load(Relaxed);
        if std::mem::replace(&mut self.paused, paused) && !paused {
            self.look = true;
            self.requeue_all();
        }
        let replicas = self.handle.replicas.load(Relaxed);
        if std::mem::replace(&mut self.replicas, replicas) != replicas {
            self.redivide();
        }
    }

    /// The sessions are other ones: every Destination's slots are divided anew when its lane is looked at next.
    fn redivide(&mut self) {
        self.epoch += 1;
        self.requeue_all();
    }

    /// Asks the queue what is due, when it may have changed.
    fn look(&mut self) {
        if self.stopping || self.paused || !std::mem::take(&mut self.look) {
            return;
        }
        for key in self.parts.queue.due() {
            let id = self.lane_of(&key);
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.due = true;
                enqueue(&mut self.line, id, lane);
            }
        }
    }

    fn lane_of(&mut self, key: &ObjectKey) -> u64 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.new_id();
        let mut lane = Lane::new(key.clone());
        if let Some(destination) = self.snapshot.destination(key) {
            lane.breaker.configure(destination.breaker);
        }
        self.lanes.insert(id, lane);
        self.ids.insert(key.clone(), id);
        id
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Puts a lane in line again, if it has anything to do.
    fn requeue(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            enqueue(&mut self.line, id, lane);
        }
    }

    fn requeue_all(&mut self) {
        for (id, lane) in &mut self.lanes {
            enqueue(&mut self.line, *id, lane);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Leased { lane, session, asked, term, result } => self.leased(lane, session, asked, term, result),
            Done::Begun { session, asked, result } => self.begun(session, asked, result),
            Done::Settled(result) => {
                self.unsettled -= 1;
                // Their leases end by themselves and are attempted again: at least once.
                if let Err(error) = result {
                    tracing::warn!(%error, "failed to store settlements");
                }
            }
            Done::Buried { lane, reason, result } => self.buried(lane, reason, result),
        }
    }

    fn timers_due(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.remove(&(at, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.timer = None;
            }
            self.requeue(id);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        // The end of an overlap of keys is no change of the configuration.
        self.revoke();
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let expired = session.expire(now);
            // Leases that were never read are still in memory: another window on top, and another, would have no bound.
            let stalled = matches!(session.carrier, Carrier::Relay(_)) && !expired.is_empty() && session.is_behind();
            // The queue tells when they are due; asking once more costs little.
            self.look |= !expired.is_empty();
            for (token, held) in expired {
                self.returned(token, held);
            }
            if stalled {
                tracing::warn!(session = id, "a member's stream is not read; it is closed");
                self.disconnect(id);
            }
        }
    }

    /// Books a lease that ended without a word about the target out of its lane.
    fn returned(&mut self, token: LeaseToken, held: Held) {
        if let Some(lane) = self.lanes.get_mut(&held.lane) {
            lane.returned();
            if lane.probe == Probe::Out(token) {
                lane.abandon_probe();
            }
            enqueue(&mut self.line, held.lane, lane);
        }
    }

    /// The drain took too long: what is leased goes back and will be delivered after the next start.
    fn give_up(&mut self) {
        for (id, session) in self.sessions.drain() {
            let tokens: Vec<_> = session.held.keys().copied().collect();
            self.parts.queue.abandon(&tokens);
            self.parts.board.disconnected(id);
            session.end();
        }
    }

    /// Shows a breaker's transition.
    fn show(&self, lane: &Lane, opened: Option<bool>) {
        let state = lane.breaker.state(self.origin.elapsed());
        self.parts.board.show(&lane.key, state, lane.gone.is_some());
        let Some(opened) = opened else { return };
        tracing::info!(destination = %lane.key, state = state.label(), "circuit breaker");
        if self.parts.observer.is_watched() {
            self.parts.observer.observe(Observation::Breaker { destination: lane.key.clone(), opened });
        }
    }

    /// The session that would take this lane's next leases: the one in which its share is least used, then the one
    /// with the most room, then the one that waits longest. None when none takes leases.
    fn offer(&mut self, id: u64, destination: &zen_compile::Destination) -> Option<(u64, Offer)> {
        let lane = self.lanes.get_mut(&id)?;
        let now = Divided { epoch: self.epoch, revision: destination.revision };
        if lane.divided != Some(now) {
            lane.divided = Some(now);
            lane.shares = shares(destination, &self.sessions, self.replicas);
        }
        let offers = lane.shares.iter().filter_map(|share| {
            let session = self.sessions.get(&share.session)?;
            let offer = Offer {
                room: session.room(),
                load: session.load_of(id),
                cap: share.slots.saturating_mul(LEASES_PER_SLOT),
            };
            Some((share.session, session.turn, offer))
        });
        let best = offers.min_by_key(|(_, turn, offer)| {
            let filled = offer.load.leases.saturating_mul(1 << 10) / offer.cap.max(1);
            (filled, Reverse(offer.room.leases), *turn)
        });
        best.map(|(session, _, offer)| (session, offer))
    }
}

/// Who may attempt deliveries to a Destination, and how many at one time.
fn shares(destination: &zen_compile::Destination, sessions: &HashMap<u64, Session>, replicas: usize) -> Vec<Share> {
    let concurrency = match destination.mode {
        DeliveryMode::Egress | DeliveryMode::Relay => destination.concurrency,
        // Each replica has events of its own that nobody else can deliver: none goes without a slot.
        DeliveryMode::Direct => (destination.concurrency / replicas).max(1),
    };
    let takers = sessions.iter().filter(|(_, session)| session.carrier.takes(destination) && !session.is_draining());
    divide(&destination.key, concurrency, takers.map(|(id, session)| (*id, session.view.instance.as_str())))
}

/// Puts a lane in line: once, and only with something to do.
fn enqueue(waiting: &mut VecDeque<u64>, id: u64, lane: &mut Lane) {
    if !lane.queued && (lane.due || lane.bury.is_some()) {
        lane.queued = true;
        waiting.push_back(id);
    }
}

/// Has a lane looked at again; one timer for each, however often it is asked for.
fn look_again(timers: &mut BTreeSet<(Instant, u64)>, id: u64, lane: &mut Lane, at: Instant) {
    if let Some(timer) = lane.timer {
        if timer <= at {
            return;
        }
        timers.remove(&(timer, id));
    }
    lane.timer = Some(at);
    timers.insert((at, id));
}

/// Whether a Destination takes events of this namespace.
fn consents(destination: &zen_compile::Destination, namespace: &str) -> bool {
    destination.key.namespace.as_str() == namespace
        || destination.allow_from.iter().any(|allowed| allowed.as_str() == namespace)
}

/// What a breaker makes of an attempt (D-11): a target that answers is alive, whatever it says; our faults are ours.
fn judge(class: zen_model::settle::Class) -> Option<bool> {
    use zen_model::settle::Class;
    match class {
        Class::Delivered | Class::Rejected | Class::Gone => Some(true),
        Class::Transient | Class::Throttled | Class::Ambiguous => Some(false),
        Class::Refused | Class::OurFault => None,
    }
}
