//! One connected egress: its window, and what it holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zen_link::FrameCutter;
use zen_link::frame::{FromIngester, Hello, Lease};
use zen_queue::LeaseToken;

use super::Carrier;
use super::board::SessionView;
use super::lane::Room;

/// An egress may not ask for more than this to be kept ready for it.
const MAX_WINDOW_LEASES: u32 = 65_536;
const MAX_WINDOW_BYTES: u64 = 256 * 1024 * 1024;

/// A lease that the session holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lane: u64,
    pub(super) bytes: usize,
    pub(super) expires: Instant,
    pub(super) term: Duration,
}

pub(super) struct Session {
    pub(super) carrier: Carrier,
    /// Bounded by the window: what it holds is leased, and leases are counted.
    outgoing: mpsc::UnboundedSender<FromIngester>,
    pub(super) held: HashMap<LeaseToken, Held>,
    /// Of those, by lane.
    by_lane: HashMap<u64, Load>,
    pub(super) view: Arc<SessionView>,
    /// Reads the peer's frames; stopped with the session, so that a peer that is not listened to is not read either.
    reader: AbortHandle,
    /// Told when the session's leases are given back.
    ended: Option<oneshot::Sender<()>>,
    max_leases: usize,
    max_bytes: usize,
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
        outgoing: mpsc::UnboundedSender<FromIngester>,
        reader: AbortHandle,
        view: Arc<SessionView>,
        ended: oneshot::Sender<()>,
    ) -> Self {
        Self {
            outgoing,
            reader,
            carrier,
            held: HashMap::new(),
            by_lane: HashMap::new(),
            view,
            ended: Some(ended),
            max_leases: hello.max_leases.clamp(1, MAX_WINDOW_LEASES) as usize,
            max_bytes: usize::try_from(hello.max_bytes.clamp(1, MAX_WINDOW_BYTES)).unwrap_or(usize::MAX),
            bytes: 0,
            asked: 0,
            turn: 0,
        }
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
        let _ = self.outgoing.send(frame);
    }

    /// Stops reading and tells who waits for the end.
    pub(super) fn end(mut self) {
        self.reader.abort();
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }
}
