//! What is seen of the mesh while something is exchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;

use crate::Which;

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The wall clock.
    pub now: Timestamp,
    /// Whether the new material was made and verifies by itself.
    pub is_made: bool,
    /// Whoever comes now.
    pub newcomers: Newcomers,
    /// Everybody that trusts or uses it, by name.
    pub members: BTreeMap<String, Member>,
    /// Probes that began after the phase did.
    pub probes: Probes,
    /// Whether requests fail more often than before: [`is_raised`].
    pub errors_raised: bool,
    /// Until when something that was made with the old can be met; none: nothing is left.
    pub old_until: Option<Timestamp>,
    /// Somebody wants it taken back.
    pub aborted: bool,
}

/// Which half of an event's way a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// An ingester.
    Takes,
    /// An egress.
    Delivers,
}

/// A pod, as it reports itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it is for events, if anything.
    pub half: Option<Half>,
    /// Whether it works.
    pub ready: bool,
    /// What it takes from others.
    pub trusts: Which,
    /// Whether what it presents is made with the new.
    pub uses_new: bool,
}

/// What a pod will be that is not there yet: what is published, and what is issued. Where there is nobody, this alone counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newcomers {
    /// What they will trust.
    pub trust: Which,
    /// Whether they will use the new.
    pub use_new: bool,
}

/// Real handshakes, real signed events from end to end, checks of chain and expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Rounds in a row in which all passed.
    pub passed: u32,
    /// Whether one failed.
    pub failed: bool,
}

/// Requests of a span of time, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// All.
    pub requests: u64,
    /// Of these.
    pub failures: u64,
}

/// Fewer requests than this say nothing, unless all fail.
const ENOUGH: u64 = 50;
/// More failures in a thousand requests than before that are put down to chance.
const TOLERANCE: u128 = 5;

/// Whether requests fail more often than before the rotation.
pub fn is_raised(before: Rate, now: Rate) -> bool {
    let per_mille = |rate: Rate| (u128::from(rate.failures) * 1000).checked_div(u128::from(rate.requests)).unwrap_or(0);
    if now.requests < ENOUGH {
        return now.failures > 2 && now.failures == now.requests && per_mille(before) < 500;
    }
    per_mille(now) > per_mille(before) + TOLERANCE
}

impl Observed {
    pub(crate) fn named(&self, matches: impl Fn(&Member) -> bool) -> impl Iterator<Item = &String> {
        self.members.iter().filter(move |(_, member)| matches(member)).map(|(name, _)| name)
    }

    pub(crate) fn all(&self, holds: impl Fn(&Member) -> bool) -> bool {
        self.members.values().all(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_errors_are_raised() {
        let rate = |failures, requests| Rate { requests, failures };
        for (what, before, now, raised) in [
            ("nothing fails", rate(0, 1000), rate(0, 1000), false),
            ("no traffic at all", rate(0, 0), rate(0, 0), false),
            ("as often as before", rate(20, 1000), rate(20, 1000), false),
            ("within chance", rate(0, 1000), rate(5, 1000), false),
            ("beyond chance", rate(0, 1000), rate(6, 1000), true),
            ("beyond what it was", rate(20, 1000), rate(30, 1000), true),
            ("less often than before", rate(500, 1000), rate(100, 1000), false),
            ("few requests, some fail", rate(0, 1000), rate(3, 49), false),
            ("few requests, all fail", rate(0, 1000), rate(3, 3), true),
            ("two that fail", rate(0, 1000), rate(2, 2), false),
            ("all fail as before", rate(1000, 1000), rate(9, 9), false),
            ("huge numbers", rate(0, u64::MAX), rate(u64::MAX, u64::MAX), true),
        ] {
            assert_eq!(is_raised(before, now), raised, "{what}");
        }
    }
}
