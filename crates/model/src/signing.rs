//! Which versions of the mesh's signing keys count now (W-12, T-06): what stands beside the keys that the planes mount, without
//! a key in it. Made by the operator from how a rotation stands, read by ingesters and egresses.
//!
//! At the link between ingester and egress one version signs and both verify while one comes in the place of the other. A
//! target has until [`Older::until`] to take the newer key: events carry a signature of each version that counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// More versions than this, side by side, help nobody, and each is a signature in every request to a target.
pub const MOST: usize = 4;

/// The versions that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The one in use.
    pub current: u32,
    /// The one that comes in its place, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// Those before, which targets may still verify with; the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Older>,
}

/// A version that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// Which.
    pub version: u32,
    /// Who signs with it at the link.
    #[serde(default)]
    pub signers: Signers,
}

/// Who signs with the next version at the link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signers {
    /// Everybody verifies it, and nobody signs with it.
    #[default]
    Nobody,
    /// Pods of these names.
    Pods(BTreeSet<String>),
    /// Everybody.
    Everybody,
}

/// A version that was in use before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Older {
    /// Which.
    pub version: u32,
    /// Until when events carry a signature of it towards targets.
    pub until: Timestamp,
}

/// It is not what an operator writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the versions of the signing keys are not in the form that the operator writes")]
pub struct Malformed;

/// Version 1 alone: what counts where nothing was ever rotated.
impl Default for Versions {
    fn default() -> Self {
        Self { current: 1, next: None, older: Vec::new() }
    }
}

impl Versions {
    /// What [`Versions::to_json`] wrote.
    ///
    /// # Errors
    /// No JSON of this form, a version 0, versions that do not descend from the newest, or too many.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        let read: Self = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
        let all = read.targets();
        let is_sound = all.len() <= MOST && all.is_sorted_by(|newer, older| newer > older) && !all.contains(&0);
        if is_sound { Ok(read) } else { Err(Malformed) }
    }

    /// The same each time, so that what is stored changes when this does.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// At the link: the version that a pod of this name signs with, then those that it verifies beside it.
    pub fn link(&self, pod: &str) -> Vec<u32> {
        let Some(next) = &self.next else { return vec![self.current] };
        let signs_new = match &next.signers {
            Signers::Nobody => false,
            Signers::Pods(pods) => pods.contains(pod),
            Signers::Everybody => true,
        };
        if signs_new { vec![next.version, self.current] } else { vec![self.current, next.version] }
    }

    /// Towards targets: every event is signed with each of these, the newest first.
    pub fn targets(&self) -> Vec<u32> {
        let next = self.next.iter().map(|next| next.version);
        next.chain([self.current]).chain(self.older.iter().map(|older| older.version)).collect()
    }

    /// Until when a version counts towards targets; none: no end is set.
    pub fn until(&self, version: u32) -> Option<Timestamp> {
        self.older.iter().find(|older| older.version == version).map(|older| older.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn next(version: u32, signers: Signers) -> Next {
        Next { version, signers }
    }

    /// W-12: who signs with what and verifies what, through a rotation.
    #[test]
    fn who_signs_with_what() {
        let older = vec![Older { version: 1, until: Timestamp(9) }];
        let one = || Signers::Pods(BTreeSet::from(["a".to_owned()]));
        for (what, versions, a, b, targets) in [
            ("never rotated", Versions::default(), vec![1], vec![1], vec![1]),
            (
                "both trusted",
                Versions { next: Some(next(2, Signers::Nobody)), ..Versions::default() },
                vec![1, 2],
                vec![1, 2],
                vec![2, 1],
            ),
            (
                "canary",
                Versions { next: Some(next(2, one())), ..Versions::default() },
                vec![2, 1],
                vec![1, 2],
                vec![2, 1],
            ),
            (
                "all",
                Versions { next: Some(next(2, Signers::Everybody)), ..Versions::default() },
                vec![2, 1],
                vec![2, 1],
                vec![2, 1],
            ),
            (
                "over, and targets have time",
                Versions { current: 2, next: None, older: older.clone() },
                vec![2],
                vec![2],
                vec![2, 1],
            ),
            (
                "the next one meanwhile",
                Versions { current: 2, next: Some(next(3, Signers::Nobody)), older },
                vec![2, 3],
                vec![2, 3],
                vec![3, 2, 1],
            ),
        ] {
            assert_eq!((versions.link("a"), versions.link("b"), versions.targets()), (a, b, targets), "{what}");
            assert_eq!(Versions::from_json(versions.to_json().as_bytes()), Ok(versions), "{what}");
        }
    }

    #[test]
    fn what_is_read() {
        let read = |text: &str| Versions::from_json(text.as_bytes());
        assert_eq!(read(r#"{"current": 1, "later": true}"#), Ok(Versions::default()), "of a newer release");
        let signed = r#"{"current": 1, "next": {"version": 2, "signers": {"pods": ["a"]}}}"#;
        assert_eq!(read(signed).expect("sound").link("a"), [2, 1]);
        for bad in [
            "",
            "2",
            "{}",
            r#"{"current": 0}"#,
            r#"{"current": 2, "next": {"version": 2}}"#,
            r#"{"current": 2, "next": {"version": 1}}"#,
            r#"{"current": 1, "older": [{"version": 1, "until": "1970-01-01T00:00:00Z"}]}"#,
            r#"{"current": 1, "next": {"version": 2, "signers": "somebody"}}"#,
        ] {
            assert_eq!(read(bad), Err(Malformed), "{bad}");
        }
        let older = [4, 3, 2, 1].into_iter().map(|version| Older { version, until: Timestamp(0) }).collect();
        let many = Versions { current: 9, next: None, older };
        assert_eq!(read(&many.to_json()), Err(Malformed), "too many");
    }
}
