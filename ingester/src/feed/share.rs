//! How the slots of one Destination are divided among the egress sessions that may attempt its deliveries.
//!
//! `concurrency` is a promise to the target, whatever number of egress replicas there are (DESIGN 2). Every ingester
//! divides by the names of the egress processes alone, so that all of them come to the same numbers without talking to
//! each other, and each egress keeps to its number over all its sessions.

use aws_lc_rs::digest::{Context, SHA256};
use zen_model::ObjectKey;

/// One session's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) session: u64,
    /// Attempts at one time; at least one.
    pub(super) slots: usize,
}

/// Divides `concurrency`; its sum is exactly that, unless there is no session. Where there are fewer slots than sessions,
/// some sessions get none: which ones is another choice for each Destination.
pub(super) fn divide<'a>(
    key: &ObjectKey,
    concurrency: usize,
    sessions: impl Iterator<Item = (u64, &'a str)>,
) -> Vec<Share> {
    let mut ranked: Vec<_> = sessions.map(|(session, instance)| (weight(key, instance), session)).collect();
    if ranked.len() > 1 {
        ranked.sort_unstable_by(|a, b| b.cmp(a));
    }
    let concurrency = concurrency.max(1);
    ranked.truncate(concurrency);
    let count = ranked.len();
    let shares = ranked.into_iter().enumerate();
    shares
        .map(|(rank, (_, session))| {
            let slots = concurrency / count + usize::from(rank < concurrency % count);
            Share { session, slots }
        })
        .collect()
}

/// Rendezvous hashing: when an egress comes or goes, only its own slots move.
fn weight(key: &ObjectKey, instance: &str) -> u64 {
    let mut context = Context::new(&SHA256);
    for part in [key.namespace.as_str(), key.name.as_str(), instance] {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut weight = [0; 8];
    weight.copy_from_slice(&context.finish().as_ref()[..8]);
    u64::from_be_bytes(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(concurrency: usize, sessions: &[(u64, &str)]) -> Vec<(u64, usize)> {
        let shares = divide(&ObjectKey::new("team-a", "ci"), concurrency, sessions.iter().copied());
        let mut slots: Vec<_> = shares.into_iter().map(|share| (share.session, share.slots)).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn the_sum_is_the_concurrency() {
        assert_eq!(slots(64, &[(1, "a")]), [(1, 64)]);
        assert_eq!(slots(64, &[(1, "a"), (2, "b")]), [(1, 32), (2, 32)]);
        for concurrency in 1..20 {
            for sessions in 1..6 {
                let sessions: Vec<_> = (0..).zip(["a", "b", "c", "d", "e"]).take(sessions).collect();
                let divided = slots(concurrency, &sessions);
                assert_eq!(divided.iter().map(|(_, slots)| slots).sum::<usize>(), concurrency);
                assert!(divided.iter().all(|(_, slots)| *slots > 0));
            }
        }
        assert_eq!(slots(3, &[]), []);
    }

    /// Two ingesters with sessions of other numbers, made in another order.
    #[test]
    fn all_ingesters_divide_alike() {
        let here = slots(3, &[(1, "egress-a"), (2, "egress-b")]);
        let there = slots(3, &[(7, "egress-b"), (9, "egress-a")]);
        assert_eq!((here[0].1, here[1].1), (there[1].1, there[0].1));
    }

    #[test]
    fn one_slot_goes_to_one_egress_and_not_always_to_the_same() {
        let sessions = [(1, "egress-a"), (2, "egress-b")];
        let chosen = |name: &str| {
            let shares = divide(&ObjectKey::new("team-a", name), 1, sessions.into_iter());
            assert_eq!(shares.len(), 1);
            shares[0].session
        };
        let first = (0..100).filter(|n| chosen(&format!("d{n}")) == 1).count();
        assert!((20..80).contains(&first), "{first} of 100");
    }
}
