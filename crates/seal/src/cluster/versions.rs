//! Which versions of a cluster's keys count, as it is stored with its enrollment.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;

/// More versions side by side than this help nobody: somebody rotates faster than the overlap ends.
const MOST: usize = 4;

/// The newest version, and those before it that are still accepted. Nothing is changed in place: each step gives the state
/// to be stored before it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Versions {
    newest: u32,
    since: Timestamp,
    older: Vec<Older>,
}

/// A version that is no longer signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Older {
    /// Which.
    pub version: u32,
    /// Until when it is accepted.
    pub until: Timestamp,
}

/// So many versions are accepted already that another would only add to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} versions of the keys are accepted already, the oldest until {0}; wait for its end")]
pub struct TooMany(pub Timestamp);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    newest: u32,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<Older>,
}

impl Versions {
    /// Of a cluster that was just enrolled.
    pub const fn first(now: Timestamp) -> Self {
        Self { newest: 1, since: now, older: Vec::new() }
    }

    /// A new version; the one before is accepted for `overlap` more.
    pub fn rotate(&self, now: Timestamp, overlap: Duration) -> Result<Self, TooMany> {
        let mut older = self.settle(now).older;
        if older.len() + 1 >= MOST {
            return Err(TooMany(older.iter().map(|older| older.until).min().unwrap_or(now)));
        }
        older.insert(0, Older { version: self.newest, until: now.plus(overlap) });
        Ok(Self { newest: self.newest.saturating_add(1), since: now, older })
    }

    /// A new version, and none before it is accepted any more: the keys leaked, or the cluster is enrolled anew.
    #[must_use]
    pub fn replace(&self, now: Timestamp) -> Self {
        Self { newest: self.newest.saturating_add(1), since: now, older: Vec::new() }
    }

    /// Without those whose overlap is over.
    #[must_use]
    pub fn settle(&self, now: Timestamp) -> Self {
        let older = self.older.iter().filter(|older| now < older.until).copied().collect();
        Self { newest: self.newest, since: self.since, older }
    }

    /// The version that is signed with.
    pub const fn newest(&self) -> u32 {
        self.newest
    }

    /// Since when.
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Those that are accepted, the newest first.
    pub fn accepted(&self, now: Timestamp) -> impl Iterator<Item = u32> + '_ {
        let older = self.older.iter().filter(move |older| now < older.until).map(|older| older.version);
        std::iter::once(self.newest).chain(older)
    }

    /// When the next overlap ends.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.older.iter().map(|older| older.until).min()
    }
}

impl TryFrom<Stored> for Versions {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let versions = std::iter::once(stored.newest).chain(stored.older.iter().map(|older| older.version));
        if !versions.clone().is_sorted_by(|newer, older| newer > older) || versions.min() == Some(0) {
            return Err("the versions of a cluster's keys do not descend from the newest");
        }
        Ok(Self { newest: stored.newest, since: stored.since, older: stored.older })
    }
}

impl From<Versions> for Stored {
    fn from(versions: Versions) -> Self {
        Self { newest: versions.newest, since: versions.since, older: versions.older }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_version_is_stored_and_read_again() {
        let start = Timestamp::from_secs(0);
        let versions = Versions::first(start).rotate(start.plus(HOUR), HOUR).expect("rotated");
        let text = serde_json::to_string(&versions).expect("written");
        assert_eq!(
            text,
            r#"{"newest":2,"since":"1970-01-01T01:00:00.000Z","older":[{"version":1,"until":"1970-01-01T02:00:00.000Z"}]}"#
        );
        assert_eq!(serde_json::from_str::<Versions>(&text).expect("read"), versions);
        for wrong in [
            r#"{"newest":0,"since":"1970-01-01T01:00:00Z"}"#,
            r#"{"newest":1,"since":"1970-01-01T01:00:00Z","older":[{"version":1,"until":"1970-01-01T02:00:00Z"}]}"#,
            r#"{"newest":1,"since":"1970-01-01T01:00:00Z","older":[{"version":2,"until":"1970-01-01T02:00:00Z"}]}"#,
            r#"{"newest":1,"since":"1970-01-01T01:00:00Z","older":[{"version":0,"until":"1970-01-01T02:00:00Z"}]}"#,
        ] {
            assert!(serde_json::from_str::<Versions>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rotating_faster_than_overlaps_end_is_refused() {
        let start = Timestamp::from_secs(0);
        let mut versions = Versions::first(start);
        for _ in 0..3 {
            versions = versions.rotate(start, HOUR).expect("rotated");
        }
        assert_eq!(versions.rotate(start, HOUR), Err(TooMany(start.plus(HOUR))));
        assert_eq!(versions.next_end(), Some(start.plus(HOUR)));
        let later = versions.rotate(start.plus(HOUR), HOUR).expect("the overlaps are over");
        assert_eq!(later.accepted(start.plus(HOUR)).collect::<Vec<_>>(), [5, 4]);
        let replaced = versions.replace(start);
        assert_eq!(replaced.accepted(start).collect::<Vec<_>>(), [5]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Rotate(u64),
        Replace,
        Settle,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..9_000_u64).prop_map(Step::Rotate),
            Just(Step::Replace),
            Just(Step::Settle),
            (0..9_000_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever is done: versions only rise, none that was dropped comes back, and what is stored can be read.
        #[test]
        fn no_version_comes_back(steps in prop::collection::vec(step(), 0..30)) {
            let (mut now, mut versions) = (Timestamp::from_secs(0), Versions::first(Timestamp::from_secs(0)));
            let mut seen = Vec::new();
            for step in steps {
                let before: Vec<_> = versions.accepted(now).collect();
                match step {
                    Step::Rotate(overlap) => {
                        versions = versions.rotate(now, Duration::from_secs(overlap)).unwrap_or(versions);
                    }
                    Step::Replace => versions = versions.replace(now),
                    Step::Settle => {
                        let settled = versions.settle(now);
                        prop_assert!(settled.accepted(now).eq(versions.accepted(now)));
                        versions = settled;
                    }
                    Step::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                }
                let accepted: Vec<_> = versions.accepted(now).collect();
                prop_assert!(accepted.is_sorted_by(|newer, older| newer > older) && accepted.len() <= MOST);
                seen.extend(before.iter().filter(|version| !accepted.contains(version)).copied());
                prop_assert!(accepted.iter().all(|version| !seen.contains(version)));
                let text = serde_json::to_string(&versions).expect("written");
                prop_assert_eq!(&serde_json::from_str::<Versions>(&text).expect("read"), &versions);
            }
        }
    }
}
