//! Plain records of recent commits and their events, so that the lease that follows at once needs no read, no decryption
//! and no decoding.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use zen_model::Event;

use super::state::ByNumber;

/// A record, and the event in it.
type Plain = (Bytes, Event);

/// About what an event's texts need beside the record.
const TEXTS: usize = 768;

#[derive(Debug)]
pub(crate) struct Recent {
    /// Record and how many more leases will ask for it.
    records: HashMap<u64, (Plain, u32), BuildHasherDefault<ByNumber>>,
    order: VecDeque<u64>,
    bytes: usize,
    max: usize,
}

impl Recent {
    pub(crate) fn new(max: usize) -> Self {
        Self { records: HashMap::default(), order: VecDeque::new(), bytes: 0, max }
    }

    /// Keeps a record for `uses` leases; the oldest give way.
    pub(crate) fn keep(&mut self, seq: u64, plain: Plain, uses: u32) {
        let weight = weight(&plain);
        if uses == 0 || weight > self.max / 4 {
            return;
        }
        self.bytes += weight;
        self.records.insert(seq, (plain, uses));
        self.order.push_back(seq);
        while self.bytes > self.max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
        // Sequence numbers of records that were used up are left behind; sweep when they are the most.
        if self.order.len() > 64 && self.order.len() > 2 * self.records.len() {
            self.order.retain(|seq| self.records.contains_key(seq));
        }
    }

    /// The record, for one lease.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Plain> {
        let (plain, uses) = self.records.get_mut(&seq)?;
        *uses -= 1;
        if *uses == 0 { self.remove(seq) } else { Some(plain.clone()) }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    fn remove(&mut self, seq: u64) -> Option<Plain> {
        let (plain, _) = self.records.remove(&seq)?;
        self.bytes -= weight(&plain);
        Some(plain)
    }
}

fn weight((record, _): &Plain) -> usize {
    record.len() + TEXTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_used_up() {
        let plain = |bytes: usize| (Bytes::from(vec![0; bytes]), Event::default());
        let mut recent = Recent::new(4 * (100 + TEXTS));
        for seq in 0..1000 {
            recent.keep(seq, plain(100), 2);
        }
        assert_eq!((recent.bytes, recent.records.len(), recent.order.len()), (4 * (100 + TEXTS), 4, 4));
        assert!(recent.take(995).is_none());
        assert!(recent.take(999).is_some() && recent.take(999).is_some() && recent.take(999).is_none());
        for seq in 1000..2000 {
            recent.keep(seq, plain(10), 1);
            recent.take(seq);
        }
        assert!(recent.order.len() < 200, "{}", recent.order.len());
    }
}
