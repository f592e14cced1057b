//! One connected egress: its window, and what it holds.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zen_link::FrameCutter;
use zen_link::frame::{self, FromIngester, Hello, Lease};
use zen_queue::LeaseToken;

use super::Carrier;
use super::board::SessionView;
use super::lane::Room;
use super::suspects::Process;

/// An egress may not ask for more than this to be kept ready for it.
const MAX_WINDOW_LEASES: u32 = 65_536;
const MAX_WINDOW_BYTES: u64 = 256 * 1024 * 1024;

/// Beside leases: answers to begins of leases that have ended.
const ANSWERS: usize = 4096;

/// Frames on their way to the peer, however slowly it reads: the dispatcher waits for nobody.
pub(super) struct Outgoing {
    frames: mpsc::UnboundedSender<FromIngester>,
    unsent: Arc<AtomicUsize>,
}

impl Outgoing {
    /// Sends on a task of its own, which ends with either side.
    pub(super) fn to(outgoing: mpsc::Sender<FromIngester>) -> Self {
        let (frames, mut waiting) = mpsc::unbounded_channel();
        let unsent = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&unsent);
        tokio::spawn(async move {
            while let Some(frame) = waiting.recv().await {
                let weight = weight(&frame);
                if outgoing.send(frame).await.is_err() {
                    return;
                }
                counted.fetch_sub(weight, Relaxed);
            }
        });
        Self { frames, unsent }
    }

    fn send(&self, frame: FromIngester) {
        self.unsent.fetch_add(weight(&frame), Relaxed);
        let _ = self.frames.send(frame);
    }

    fn unsent(&self) -> usize {
        self.unsent.load(Relaxed)
    }
}

/// What a frame counts: each thing in it, and itself.
fn weight(frame: &FromIngester) -> usize {
    1 + frame.leases.len() + frame.proceed.len() + frame.refused.len()
}

/// A lease that the session holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lane: u64,
    pub(super) bytes: usize,
    pub(super) expires: Instant,
    pub(super) term: Duration,
    /// The egress has asked for the begin.
    pub(super) begun: bool,
}

pub(super) struct Session {
    pub(super) carrier: Carrier,
    /// Where the peer says which it is.
    pub(super) process: Option<Process>,
    /// Bounded by [`Session::is_overrun`].
    outgoing: Outgoing,
    pub(super) held: HashMap<LeaseToken, Held>,
    /// Leases that ended here by their term: what the egress still says of them may count.
    late: HashSet<LeaseToken>,
    /// Of those, by lane.
    by_lane: HashMap<u64, Load>,
    pub(super) view: Arc<SessionView>,
    /// Reads the peer's frames; stopped with the session, so that a peer that is not listened to is not read either.
    reader: AbortHandle,
    /// Told when the session's leases are given back.
    ended: Option<oneshot::Sender<()>>,
    max_leases: usize,
    max_bytes: usize,
    /// The largest window that it ever had.
    most: usize,
    bytes: usize,
    /// Leases that were asked of the queue for it.
    pub(super) asked: usize,
    /// When it was last given leases, as a number that rises: among equals the one that waits longest is next.
    pub(super) turn: u64,
}

/// What a lane has in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) leases: usize,
    pub(super) bytes: usize,
}

impl Session {
    pub(super) fn new(
        carrier: Carrier,
        hello: &Hello,
        outgoing: Outgoing,
        reader: AbortHandle,
        view: Arc<SessionView>,
        ended: oneshot::Sender<()>,
    ) -> Self {
        let window = frame::Window { max_leases: hello.max_leases, max_bytes: hello.max_bytes };
        let scope = match &carrier {
            Carrier::Relay(admitted) => admitted.cluster.to_string(),
            Carrier::Link | Carrier::InProcess => view.peer.clone(),
        };
        let process = NonZeroU64::new(hello.incarnation).map(|incarnation| Process { scope, incarnation });
        let mut session = Self {
            process,
            outgoing,
            reader,
            carrier,
            held: HashMap::new(),
            late: HashSet::new(),
            by_lane: HashMap::new(),
            view,
            ended: Some(ended),
            max_leases: 0,
            max_bytes: 0,
            most: 0,
            bytes: 0,
            asked: 0,
            turn: 0,
        };
        session.resize(window);
        session
    }

    /// The window is this one from now on. What is out already stays out.
    pub(super) fn resize(&mut self, window: frame::Window) {
        self.max_leases = window.max_leases.clamp(1, MAX_WINDOW_LEASES) as usize;
        self.max_bytes = usize::try_from(window.max_bytes.clamp(1, MAX_WINDOW_BYTES)).unwrap_or(usize::MAX);
        self.most = self.most.max(self.max_leases);
    }

    /// More waits for the peer than its window and our answers to it can come to: it asks, and does not read.
    pub(super) fn is_overrun(&self) -> bool {
        self.outgoing.unsent() > 2 * self.most + ANSWERS
    }

    /// Something waits for the peer to read it.
    pub(super) fn is_behind(&self) -> bool {
        self.outgoing.unsent() > 0
    }

    /// Whether what the peer says of this lease, which it does not hold any more, may count: it held it, and its term was
    /// over here before the word arrived. Asked once.
    pub(super) fn was_late(&mut self, token: &LeaseToken) -> bool {
        self.late.remove(token)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.view.draining.load(Relaxed)
    }

    /// What is left of the window.
    pub(super) fn room(&self) -> Room {
        Room {
            leases: self.max_leases.saturating_sub(self.held.len() + self.asked),
            bytes: self.max_bytes.saturating_sub(self.bytes),
        }
    }

    /// What this lane has here.
    pub(super) fn load_of(&self, lane: u64) -> Load {
        self.by_lane.get(&lane).copied().unwrap_or_default()
    }

    /// Notes a lease.
    pub(super) fn hold(&mut self, token: LeaseToken, held: Held) {
        self.bytes += held.bytes;
        let load = self.by_lane.entry(held.lane).or_default();
        load.leases += 1;
        load.bytes += held.bytes;
        self.held.insert(token, held);
    }

    /// Ends a lease.
    pub(super) fn release(&mut self, token: &LeaseToken) -> Option<Held> {
        let held = self.held.remove(token)?;
        self.bytes = self.bytes.saturating_sub(held.bytes);
        if let Some(load) = self.by_lane.get_mut(&held.lane) {
            load.leases = load.leases.saturating_sub(1);
            load.bytes = load.bytes.saturating_sub(held.bytes);
            if load.leases == 0 {
                self.by_lane.remove(&held.lane);
            }
        }
        Some(held)
    }

    /// Ends the leases that expired: the queue has made them due again by itself.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(LeaseToken, Held)> {
        let expired: Vec<_> = self.held.iter().filter(|(_, held)| held.expires <= now).map(|(t, h)| (*t, *h)).collect();
        for (token, _) in &expired {
            self.release(token);
        }
        if self.late.len() + expired.len() > self.most {
            self.late.clear();
        }
        self.late.extend(expired.iter().take(self.most).map(|(token, _)| *token));
        expired
    }

    /// Writes the load where status can see it.
    pub(super) fn show(&self) {
        self.view.load(self.held.len(), self.bytes);
    }

    /// Sends leases, cut into frames. Returns how many frames.
    pub(super) fn send_leases(&self, leases: Vec<Lease>) -> u64 {
        FrameCutter::cut(leases).map(|frame| self.send(frame)).count() as u64
    }

    /// Sends a frame. A session that is ending takes it and loses it: its leases are given back.
    pub(super) fn send(&self, frame: FromIngester) {
        self.outgoing.send(frame);
    }

    /// Stops reading and tells who waits for the end.
    pub(super) fn end(mut self) {
        self.reader.abort();
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }
}
