//! Which deliveries died with the egress that had them (D-04, `Poison`).
//!
//! A line that breaks takes every lease on it along, and says nothing about the events. An event that kills an egress takes the
//! process along: it comes back as another one, or not at all. So a lease that is lost with its session counts against the
//! delivery only for as long as the same process is not heard of again. In memory: an ingester that starts anew counts anew.

use std::collections::HashMap;
use std::num::NonZeroU64;

use zen_queue::{DeliveryId, MAX_LOST_LEASES};

/// So many deliveries may be under suspicion at one time.
const MAX_SUSPECTS: usize = 65_536;

/// An egress process: on whose behalf it speaks, and its own random number. Nobody can speak for the processes of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) scope: String,
    pub(super) incarnation: NonZeroU64,
}

/// What a lost lease comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Due again.
    Again,
    /// Too many died with it.
    Poison,
    /// More are suspect than can be remembered.
    Unknown,
}

/// Processes that had a delivery when they were last heard of.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<DeliveryId, Vec<Process>>);

impl Suspects {
    /// A lease was lost with its session.
    pub(super) fn lost(&mut self, delivery: DeliveryId, with: &Process) -> Verdict {
        if self.0.len() >= MAX_SUSPECTS && !self.0.contains_key(&delivery) {
            return Verdict::Unknown;
        }
        let processes = self.0.entry(delivery).or_default();
        if !processes.contains(with) {
            processes.push(with.clone());
        }
        if processes.len() <= MAX_LOST_LEASES as usize {
            return Verdict::Again;
        }
        self.0.remove(&delivery);
        Verdict::Poison
    }

    /// This process lives: what was lost with a session of it was the session's fault.
    pub(super) fn lives(&mut self, process: &Process) {
        self.0.retain(|_, processes| {
            processes.retain(|other| other != process);
            !processes.is_empty()
        });
    }

    /// An egress has said what became of it.
    pub(super) fn settled(&mut self, delivery: DeliveryId) {
        if !self.0.is_empty() {
            self.0.remove(&delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(scope: &str, incarnation: u64) -> Process {
        Process { scope: scope.to_owned(), incarnation: NonZeroU64::new(incarnation).expect("not zero") }
    }

    fn delivery(seq: u64) -> DeliveryId {
        DeliveryId { seq, destination: 1 }
    }

    /// D-04: who dies with it counts; who comes back, or is of another cluster, does not.
    #[test]
    fn a_delivery_is_poison_when_more_processes_than_allowed_died_with_it() {
        let most = u64::from(MAX_LOST_LEASES);
        let mut suspects = Suspects::default();
        for n in 1..=most {
            assert_eq!(suspects.lost(delivery(1), &process("a", n)), Verdict::Again, "{n}");
        }
        assert_eq!(suspects.lost(delivery(1), &process("a", most)), Verdict::Again, "the same process dies once");
        suspects.lives(&process("b", 1));
        assert_eq!(suspects.lost(delivery(1), &process("a", most + 1)), Verdict::Poison, "another's word is no alibi");
        assert!(suspects.0.is_empty());
    }

    #[test]
    fn a_line_that_breaks_for_ever_poisons_nothing() {
        let mut suspects = Suspects::default();
        for _ in 0..100 {
            assert_eq!(suspects.lost(delivery(1), &process("a", 1)), Verdict::Again);
            suspects.lives(&process("a", 1));
        }
        for n in 1..100 {
            assert_eq!(suspects.lost(delivery(2), &process("a", n)), Verdict::Again, "settled in between");
            suspects.settled(delivery(2));
        }
        assert!(suspects.0.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut suspects = Suspects::default();
        for seq in 0..MAX_SUSPECTS as u64 {
            assert_eq!(suspects.lost(delivery(seq), &process("a", 1)), Verdict::Again);
        }
        assert_eq!(suspects.lost(delivery(u64::MAX), &process("a", 1)), Verdict::Unknown);
        assert_eq!(suspects.lost(delivery(0), &process("a", 2)), Verdict::Again, "one that is known already");
    }
}
