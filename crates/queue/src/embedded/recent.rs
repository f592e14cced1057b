//! Plain records of recent commits, so that the lease that follows at once needs neither a read nor a decryption.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

#[derive(Debug)]
pub(crate) struct Recent {
    /// Record and how many more leases will ask for it.
    records: HashMap<u64, (Bytes, u32)>,
    order: VecDeque<u64>,
    bytes: usize,
    max: usize,
}

impl Recent {
    pub(crate) fn new(max: usize) -> Self {
        Self { records: HashMap::new(), order: VecDeque::new(), bytes: 0, max }
    }

    /// Keeps a record for `uses` leases; the oldest give way.
    pub(crate) fn keep(&mut self, seq: u64, record: Bytes, uses: u32) {
        if uses == 0 || record.len() > self.max / 4 {
            return;
        }
        self.bytes += record.len();
        self.records.insert(seq, (record, uses));
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
    pub(crate) fn take(&mut self, seq: u64) -> Option<Bytes> {
        let (record, uses) = self.records.get_mut(&seq)?;
        *uses -= 1;
        if *uses == 0 { self.remove(seq) } else { Some(record.clone()) }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    fn remove(&mut self, seq: u64) -> Option<Bytes> {
        let (record, _) = self.records.remove(&seq)?;
        self.bytes -= record.len();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_used_up() {
        let mut recent = Recent::new(400);
        for seq in 0..1000 {
            recent.keep(seq, Bytes::from(vec![0; 100]), 2);
        }
        assert_eq!((recent.bytes, recent.records.len(), recent.order.len()), (400, 4, 4));
        assert!(recent.take(995).is_none());
        assert!(recent.take(999).is_some() && recent.take(999).is_some() && recent.take(999).is_none());
        for seq in 1000..2000 {
            recent.keep(seq, Bytes::from(vec![0; 10]), 1);
            recent.take(seq);
        }
        assert!(recent.order.len() < 200, "{}", recent.order.len());
    }
}
