//! What is known in memory about one destination: the front of its line, its leases, its counts.
//!
//! The lines themselves lie on disk. Of the first-time deliveries a window is known, everything up to `cursor`; of
//! those in back-off the ones that come due next, everything up to `horizon`. The writer refills both from disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use zen_model::{DeadReason, ObjectKey};

/// Entries that a window holds at most (a release may put a few more back).
pub(crate) const WINDOW: usize = 4096;
/// A window below this is refilled ahead of need.
pub(crate) const LOW: usize = 1024;

/// The fixed facts of a waiting delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub seq: u64,
    /// When its event was accepted.
    pub at: u64,
    /// Of its record.
    pub bytes: u32,
    /// Number of its Webhook.
    pub webhook: u32,
}

/// What attempts have left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    pub attempts: u32,
    pub first: Option<u64>,
    pub lost: u32,
}

/// Which table a leased delivery lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Ready,
    Retry { due: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub number: u64,
    pub expires: u64,
    pub term: u64,
    pub origin: Origin,
    pub waiting: Waiting,
    pub tries: Tries,
    /// A begin is durable, or on its way.
    pub begun: bool,
    /// A begin, a settlement or an expiry is on its way to the writer, who will decide.
    pub busy: bool,
    /// Held for a page of a handover, not granted to an egress.
    pub exported: bool,
    /// Buried meanwhile: anything but an acknowledgement makes it a dead letter for this reason.
    pub doom: Option<DeadReason>,
}

impl Lease {
    pub(crate) fn new(
        number: u64,
        expires: u64,
        term: u64,
        (origin, waiting, tries): (Origin, Waiting, Tries),
    ) -> Self {
        let (begun, busy, exported, doom) = (false, false, false, None);
        Self { number, expires, term, origin, waiting, tries, begun, busy, exported, doom }
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub number: u32,
    pub key: ObjectKey,
    /// Bytes of its records, waiting or dead.
    pub account: Arc<AtomicU64>,
    pub window: VecDeque<Waiting>,
    pub cursor: u64,
    /// The highest sequence number that was ever ready.
    pub last: u64,
    pub retries: BTreeMap<(u64, u64), (Waiting, Tries)>,
    pub horizon: (u64, u64),
    /// Rows in back-off beyond the horizon, on disk only.
    pub beyond: u64,
    pub leased: HashMap<u64, Lease>,
    /// A burial is under way: grants wait, the windows stay empty.
    pub burying: bool,
    pub refilling: bool,
    pub ready_rows: u64,
    pub retry_rows: u64,
    pub dead_rows: u64,
}

impl Lane {
    pub(crate) fn new(number: u32, key: ObjectKey, account: Arc<AtomicU64>) -> Self {
        Self {
            number,
            key,
            account,
            window: VecDeque::new(),
            cursor: 0,
            last: 0,
            retries: BTreeMap::new(),
            horizon: (0, 0),
            beyond: 0,
            leased: HashMap::new(),
            burying: false,
            refilling: false,
            ready_rows: 0,
            retry_rows: 0,
            dead_rows: 0,
        }
    }

    /// Whether something could be leased at `now`.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let retry = self.retries.first_key_value().map_or(self.beyond > 0, |(&(due, _), _)| due <= now);
        !self.burying && (retry || !self.window.is_empty() || self.cursor < self.last)
    }

    /// When the next one in back-off becomes due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.retries.first_key_value().map(|(&(due, _), _)| due)
    }

    /// Whether disk holds more of what runs short here.
    pub(crate) fn wants_refill(&self) -> bool {
        !self.burying && (self.wants_ready() || self.wants_retries())
    }

    pub(crate) fn wants_ready(&self) -> bool {
        self.window.len() < LOW && self.cursor < self.last
    }

    pub(crate) fn wants_retries(&self) -> bool {
        self.retries.len() < LOW && self.beyond > 0
    }

    /// The next delivery to lease: one in back-off that came due, or the front of the line.
    pub(crate) fn pop(&mut self, now: u64) -> Option<(Origin, Waiting, Tries)> {
        if self.burying {
            return None;
        }
        if self.next_due().is_some_and(|due| due <= now) {
            let ((due, _), (waiting, tries)) = self.retries.pop_first()?;
            return Some((Origin::Retry { due }, waiting, tries));
        }
        self.window.pop_front().map(|waiting| (Origin::Ready, waiting, Tries::default()))
    }

    /// Puts back what was popped or leased and is on disk where it was.
    pub(crate) fn put_back(&mut self, origin: Origin, waiting: Waiting, tries: Tries) {
        match origin {
            _ if self.burying => {}
            // The window has not come so far: it is read from disk when its turn comes.
            Origin::Ready if waiting.seq > self.cursor => {}
            Origin::Ready => {
                let at = self.window.partition_point(|other| other.seq < waiting.seq);
                self.window.insert(at, waiting);
            }
            Origin::Retry { due } => self.know_retry(due, waiting, tries),
        }
    }

    /// Takes what is on disk out of the windows, to be held beside them.
    pub(crate) fn withdraw(&mut self, seq: u64, origin: Origin) {
        match origin {
            Origin::Ready => {
                if let Ok(at) = self.window.binary_search_by_key(&seq, |waiting| waiting.seq) {
                    self.window.remove(at);
                }
            }
            Origin::Retry { due } => {
                if self.retries.remove(&(due, seq)).is_none() {
                    self.beyond = self.beyond.saturating_sub(1);
                }
            }
        }
    }

    /// Deliveries that an egress has under lease.
    pub(crate) fn granted(&self) -> u64 {
        self.leased.values().filter(|lease| !lease.exported).count() as u64
    }

    /// A first-time delivery was committed.
    pub(crate) fn append(&mut self, waiting: Waiting) {
        self.ready_rows += 1;
        if !self.burying && self.cursor == self.last && self.window.len() < WINDOW {
            self.window.push_back(waiting);
            self.cursor = waiting.seq;
        }
        self.last = waiting.seq;
    }

    /// A delivery went into back-off.
    pub(crate) fn add_retry(&mut self, due: u64, waiting: Waiting, tries: Tries) {
        self.retry_rows += 1;
        self.know_retry(due, waiting, tries);
    }

    fn know_retry(&mut self, due: u64, waiting: Waiting, tries: Tries) {
        if self.burying || (self.beyond > 0 && (due, waiting.seq) > self.horizon) {
            self.beyond += 1;
            return;
        }
        self.retries.insert((due, waiting.seq), (waiting, tries));
        if self.retries.len() > 2 * WINDOW {
            while self.retries.len() > WINDOW && self.retries.pop_last().is_some() {
                self.beyond += 1;
            }
            self.horizon = self.retries.last_key_value().map_or((0, 0), |(&key, _)| key);
        }
    }

    /// Takes rows that the writer read behind the cursor. `whole`: there were no more.
    pub(crate) fn refill_ready(&mut self, rows: &[Waiting], whole: bool) {
        for row in rows {
            self.cursor = row.seq;
            if !self.leased.contains_key(&row.seq) {
                self.window.push_back(*row);
            }
        }
        if whole {
            self.cursor = self.last;
        }
    }

    /// Takes rows that the writer read behind the horizon. `whole`: there were no more.
    pub(crate) fn refill_retries(&mut self, rows: &[(u64, Waiting, Tries)], whole: bool) {
        for (due, waiting, tries) in rows {
            self.horizon = (*due, waiting.seq);
            if !self.leased.contains_key(&waiting.seq) {
                self.retries.insert((*due, waiting.seq), (*waiting, *tries));
                self.beyond = self.beyond.saturating_sub(1);
            }
        }
        if whole {
            self.beyond = 0;
        }
    }

    /// Forgets the windows: they are read from disk again. Leases stay.
    pub(crate) fn reset(&mut self) {
        self.window.clear();
        self.retries.clear();
        let leased = self.leased.values().filter(|lease| matches!(lease.origin, Origin::Retry { .. })).count() as u64;
        let leased_ready = self.leased.len() as u64 - leased;
        // With nothing on disk there is nothing to read: a line that seems to be due until it has been read would be
        // buried again, and again.
        self.cursor = if self.ready_rows > leased_ready { 0 } else { self.last };
        self.horizon = (0, 0);
        self.beyond = self.retry_rows.saturating_sub(leased);
    }

    /// The delivery left the line, from wherever it stands. `origin` is where its row was.
    pub(crate) fn remove(&mut self, seq: u64, origin: Origin) {
        self.leased.remove(&seq);
        match origin {
            Origin::Ready => {
                self.ready_rows = self.ready_rows.saturating_sub(1);
                if let Ok(at) = self.window.binary_search_by_key(&seq, |waiting| waiting.seq) {
                    self.window.remove(at);
                }
            }
            Origin::Retry { due } => {
                self.retry_rows = self.retry_rows.saturating_sub(1);
                self.retries.remove(&(due, seq));
            }
        }
    }

    /// When the oldest event was accepted that waits here, as far as memory knows.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let window = self.window.front().map(|waiting| waiting.at);
        let retries = self.retries.values().map(|(waiting, _)| waiting.at).min();
        let leased = self.leased.values().map(|lease| lease.waiting.at).min();
        [window, retries, leased].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::new(1, ObjectKey::new("a", "b"), Arc::default())
    }

    fn waiting(seq: u64) -> Waiting {
        Waiting { seq, at: seq, bytes: 1, webhook: 1 }
    }

    #[test]
    fn a_long_line_stays_on_disk() {
        let mut lane = lane();
        for seq in 1..=10_000 {
            lane.append(waiting(seq));
        }
        assert_eq!((lane.window.len(), lane.cursor, lane.last), (WINDOW, WINDOW as u64, 10_000));
        for seq in 1..=4000 {
            assert_eq!(lane.pop(0).map(|(_, waiting, _)| waiting.seq), Some(seq));
        }
        assert!(lane.wants_refill());
        let rows: Vec<_> = (4097..=10_000).map(waiting).collect();
        lane.refill_ready(&rows, true);
        for seq in 4001..=10_000 {
            assert_eq!(lane.pop(0).map(|(_, waiting, _)| waiting.seq), Some(seq));
        }
        assert!(!lane.is_due(u64::MAX));
    }

    #[test]
    fn back_off_beyond_the_horizon_is_counted_and_refilled_in_order() {
        let mut lane = lane();
        let all: Vec<_> = (1..=20_000_u64).map(|seq| (20_001 - seq, waiting(seq), Tries::default())).collect();
        for (due, waiting, tries) in &all {
            lane.add_retry(*due, *waiting, *tries);
        }
        assert_eq!(lane.retries.len() as u64 + lane.beyond, 20_000);
        let mut sorted = all.clone();
        sorted.sort_by_key(|(due, waiting, _)| (*due, waiting.seq));
        for expected in 1..=20_000 {
            if lane.wants_retries() {
                let horizon = lane.horizon;
                let rows: Vec<_> =
                    sorted.iter().filter(|(due, w, _)| (*due, w.seq) > horizon).take(WINDOW).copied().collect();
                lane.refill_retries(&rows, rows.len() < WINDOW);
            }
            let (origin, _, _) = lane.pop(u64::MAX).expect("due");
            assert_eq!(origin, Origin::Retry { due: expected });
        }
        assert_eq!((lane.beyond, lane.pop(u64::MAX)), (0, None));
    }

    #[test]
    fn a_line_that_holds_nothing_else_than_leases_is_not_due() {
        let mut lane = lane();
        (1..=2).for_each(|seq| lane.append(waiting(seq)));
        lane.reset();
        assert!(lane.is_due(0) && lane.wants_refill());
        lane.refill_ready(&[waiting(1), waiting(2)], true);
        let (origin, first, tries) = lane.pop(0).expect("first");
        lane.leased.insert(1, Lease::new(1, 9, 9, (origin, first, tries)));
        lane.remove(2, Origin::Ready);
        lane.reset();
        assert!(!lane.is_due(0) && !lane.wants_refill());
        lane.remove(1, Origin::Ready);
        lane.reset();
        assert!(!lane.is_due(0));
        lane.append(waiting(3));
        assert!(lane.is_due(0));
    }

    #[test]
    fn what_is_put_back_keeps_its_place() {
        let mut lane = lane();
        (1..=3).for_each(|seq| lane.append(waiting(seq)));
        let (origin, first, tries) = lane.pop(0).expect("first");
        lane.pop(0).expect("second");
        lane.put_back(origin, first, tries);
        assert_eq!(lane.pop(0).map(|(_, waiting, _)| waiting.seq), Some(1));
        assert_eq!(lane.pop(0).map(|(_, waiting, _)| waiting.seq), Some(3));
    }
}
