//! Nonces that were seen.

use std::collections::{BTreeSet, HashMap};

use zen_model::Timestamp;

use crate::proof::{Proof, SKEW};

/// The nonces of the proofs that are still in time: a proof counts once. Bounded: when it is full nothing new is taken, because
/// to forget one would let it be replayed. Give each key a bound of its own, so that nobody fills it for others.
#[derive(Debug)]
pub struct Replays {
    seen: HashMap<[u8; 16], Timestamp>,
    ends: BTreeSet<(Timestamp, [u8; 16])>,
    most: usize,
}

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// It was never seen; from now on it was.
    New,
    /// It was.
    Seen,
    /// There is no room to remember it.
    Full,
}

impl Replays {
    /// Remembers at most so many.
    pub fn new(most: usize) -> Self {
        Self { seen: HashMap::new(), ends: BTreeSet::new(), most }
    }

    /// Notes the nonce of a proof that was verified and is in time. Before that it must not be asked: anybody could fill it.
    pub fn note(&mut self, proof: &Proof, now: Timestamp) -> Fresh {
        while let Some(&(end, nonce)) = self.ends.first().filter(|(end, _)| *end < now) {
            self.ends.remove(&(end, nonce));
            self.seen.remove(&nonce);
        }
        let nonce = proof.nonce();
        if self.seen.contains_key(&nonce) {
            return Fresh::Seen;
        }
        if self.seen.len() >= self.most {
            return Fresh::Full;
        }
        // Afterwards its time alone refuses it.
        let end = proof.at().plus(SKEW);
        self.seen.insert(nonce, end);
        self.ends.insert((end, nonce));
        Fresh::New
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zen_model::Secret;

    use super::*;
    use crate::proof::Request;

    fn proof(at: Timestamp) -> Proof {
        Proof::sign(&Request { method: "POST", path: "/", body: b"" }, "k", &Secret::new([7; 32]), at)
    }

    #[test]
    fn a_proof_counts_once_for_as_long_as_it_is_in_time() {
        let start = Timestamp::from_secs(1_700_000_000);
        let mut replays = Replays::new(8);
        // From the future as far as is allowed: good for twice the skew.
        let early = proof(start.plus(SKEW));
        assert_eq!(replays.note(&early, start), Fresh::New);
        for seconds in [0, 1, 300, 599, 600] {
            let at = start.plus(Duration::from_secs(seconds));
            assert!(early.is_timely(at));
            assert_eq!(replays.note(&early, at), Fresh::Seen, "after {seconds} s");
        }
        let late = start.plus(Duration::from_secs(601));
        assert!(!early.is_timely(late), "its time refuses it");
        assert_eq!(replays.note(&proof(late), late), Fresh::New);
        assert_eq!(replays.seen.len(), 1, "what its time refuses is forgotten");
    }

    #[test]
    fn nothing_is_forgotten_to_make_room() {
        let start = Timestamp::from_secs(1_700_000_000);
        let mut replays = Replays::new(2);
        let proofs = [proof(start), proof(start), proof(start)];
        let noted = proofs.each_ref().map(|proof| replays.note(proof, start));
        assert_eq!(noted, [Fresh::New, Fresh::New, Fresh::Full]);
        assert_eq!(replays.note(&proofs[0], start), Fresh::Seen);
        let later = start.plus(SKEW + Duration::from_secs(1));
        assert_eq!(replays.note(&proof(later), later), Fresh::New);
    }
}
