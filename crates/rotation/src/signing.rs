//! Which versions of the mesh's signing keys count, by what is stored of rotations (W-12, T-06).
//!
//! What the planes mount follows from this alone, so that a leader which is killed at any step changes nothing. Once a rotation is
//! over, events go on to carry a signature of the version before towards targets, for days: their owners have to be asked. That
//! keeps nothing else from being rotated meanwhile.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_model::signing::{MOST, Next, Older, Signers, Versions};

use crate::record::{Active, State};
use crate::{Phase, Subject};

/// How long targets may verify with the version before, unless a request says otherwise.
pub const OVERLAP: Duration = Duration::from_hours(7 * 24);
/// What was signed at the link with the version before is verified for so long once nobody signs with it: no signature there is
/// taken when it is older.
const LINK: Duration = Duration::from_mins(5);

/// The versions while no rotation of them goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The one in use.
    pub version: u32,
    /// Those before, which targets may still verify with; the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Older>,
}

/// Version 1 alone.
impl Default for Settled {
    fn default() -> Self {
        Self { version: 1, older: Vec::new() }
    }
}

impl Settled {
    /// What the planes have, where nothing is stored of it: what was stored was deleted.
    pub fn of(versions: &Versions) -> Self {
        Self { version: versions.current, older: versions.older.clone() }
    }

    /// The version to be exchanged; in words why it cannot be.
    pub fn old(&self) -> Result<u32, String> {
        // The one that comes, the one in use, and one that it will have been.
        if self.older.len() + 2 > MOST {
            let until = self.older.iter().map(|older| older.until).min().unwrap_or_default();
            return Err(format!(
                "targets may verify with {} versions already, the oldest until {until}",
                self.older.len() + 1
            ));
        }
        Ok(self.version)
    }

    fn versions(&self, next: Option<Next>) -> Versions {
        Versions { current: self.version, next, older: self.older.clone() }
    }

    /// With another in the place of the one in use, which targets may verify with for `overlap` more, and those before it for no
    /// longer than that.
    fn after(&self, version: u32, overlap: Duration, now: Timestamp) -> Self {
        let until = now.plus(overlap);
        let before = self.older.iter().map(|older| Older { until: older.until.min(until), ..*older });
        let older = [Older { version: self.version, until }].into_iter().chain(before);
        Self { version, older: older.filter(|older| now < older.until).collect() }
    }
}

impl State {
    /// The versions that count; none where nothing is stored of them.
    pub fn signing_versions(&self) -> Option<Versions> {
        let settled = self.signing.clone();
        let Some((active, new)) = self.active.as_ref().and_then(|active| Some((active, version(active)?))) else {
            return Some(settled?.versions(None));
        };
        let settled = settled.unwrap_or_default();
        let signers = match &active.rotation.phase {
            // Not shown to anybody yet, or nobody's any more.
            Phase::Planned | Phase::Distrusting { .. } | Phase::RolledBack { .. } => {
                return Some(settled.versions(None));
            }
            Phase::Trusting | Phase::RollingBack { .. } => Signers::Nobody,
            Phase::Canary { pods } | Phase::Probing { pods } => Signers::Pods(pods.clone()),
            Phase::RollingOut | Phase::Verifying | Phase::Overlap => Signers::Everybody,
            Phase::Retiring | Phase::Finished => return Some(replaced(&settled, active, new).versions(None)),
        };
        Some(settled.versions(Some(Next { version: new, signers })))
    }

    /// When the time of a version before is over next.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.signing.as_ref()?.older.iter().map(|older| older.until).min()
    }

    /// Without versions whose time is over; none where there are none.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Option<Self> {
        let settled = self.signing.as_ref()?;
        let older: Vec<_> = settled.older.iter().filter(|older| now < older.until).copied().collect();
        (older.len() < settled.older.len())
            .then(|| Self { signing: Some(Settled { version: settled.version, older }), ..self.clone() })
    }
}

/// What counts once a rotation is over.
pub(crate) fn settled(before: Option<&Settled>, active: &Active) -> Option<Settled> {
    let (before, new) = (before.cloned().unwrap_or_default(), version(active)?);
    (active.rotation.phase == Phase::Retiring).then(|| replaced(&before, active, new))
}

/// Until when the version before is verified at the link.
pub fn link_until(active: &Active) -> Option<Timestamp> {
    let overlap = active.rotation.plan.overlap().unwrap_or(OVERLAP);
    (active.rotation.phase == Phase::Overlap).then(|| active.rotation.since.plus(overlap.min(LINK)))
}

fn replaced(settled: &Settled, active: &Active, new: u32) -> Settled {
    settled.after(new, active.rotation.plan.overlap().unwrap_or(OVERLAP), active.rotation.since)
}

/// The version that comes, where it is the mesh's own keys that are rotated.
fn version(active: &Active) -> Option<u32> {
    if active.rotation.subject != Subject::SigningKeys(None) {
        return None;
    }
    active.new.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zen_model::reason::RotationReason;

    use super::*;
    use crate::record::{Action, Request};
    use crate::{Plan, Rate};

    const DAY: Duration = Duration::from_hours(24);

    fn started(settled: Option<Settled>, overlap_seconds: Option<u32>) -> State {
        let plan = Plan { overlap_seconds, ..Plan::default() };
        let subject = Subject::SigningKeys(None);
        let request = Request { id: "r".to_owned(), action: Action::Start, subject, plan };
        let state = State { signing: settled, ..State::default() };
        state.answered(&request, Ok("1"), Rate::default(), Timestamp(0))
    }

    /// W-12: who is told what, by the phase that is stored alone.
    #[test]
    fn what_the_planes_have_by_the_phase() {
        let pods = || BTreeSet::from(["a".to_owned()]);
        let failure = RotationReason::ProbeFailed;
        let next = |signers| Versions { next: Some(Next { version: 2, signers }), ..Versions::default() };
        let over =
            Versions { current: 2, next: None, older: vec![Older { version: 1, until: Timestamp(5).plus(OVERLAP) }] };
        assert_eq!(State::default().signing_versions(), None, "nothing is stored, nothing is said");
        assert_eq!(started(None, None).signing_versions(), None, "nor before the next is known");
        for (phase, expected) in [
            (Phase::Trusting, next(Signers::Nobody)),
            (Phase::Canary { pods: pods() }, next(Signers::Pods(pods()))),
            (Phase::Probing { pods: pods() }, next(Signers::Pods(pods()))),
            (Phase::RollingOut, next(Signers::Everybody)),
            (Phase::Verifying, next(Signers::Everybody)),
            (Phase::Overlap, next(Signers::Everybody)),
            (Phase::Retiring, over.clone()),
            (Phase::RollingBack { failure }, next(Signers::Nobody)),
            (Phase::Distrusting { failure }, Versions::default()),
        ] {
            let state = started(None, None).entered(phase.clone(), Some("2"), "", Timestamp(5));
            assert_eq!(state.signing_versions(), Some(expected), "{phase:?}");
            let text = serde_json::to_string(&state).expect("serializes");
            assert_eq!(serde_json::from_str::<State>(&text).expect("parses"), state);
        }
        // When it is over, what counted last goes on to count.
        let retiring = started(None, None).entered(Phase::Retiring, Some("2"), "", Timestamp(5));
        let finished = retiring.entered(Phase::Finished, None, "", Timestamp(99));
        assert!(finished.active.is_none());
        assert_eq!(finished.signing_versions(), Some(over));
        let distrusting = started(None, None).entered(Phase::Distrusting { failure }, Some("2"), "", Timestamp(5));
        let back = distrusting.entered(Phase::RolledBack { failure }, None, "", Timestamp(99));
        assert_eq!(
            (back.signing.clone(), back.signing_versions()),
            (Some(Settled::default()), Some(Versions::default()))
        );
    }

    /// D-09: owners of targets have days, or as long as was asked for; nobody is left behind by a second rotation.
    #[test]
    fn targets_have_their_time() {
        let first = Older { version: 1, until: Timestamp(0).plus(2 * DAY) };
        let second = Settled { version: 2, older: vec![first] };
        let over = |overlap| {
            let state = started(Some(second.clone()), overlap).entered(Phase::Retiring, Some("3"), "", Timestamp(0));
            state.entered(Phase::Finished, None, "", Timestamp(9))
        };
        let older = |state: &State| state.signing.clone().expect("stored").older;
        let week = Older { version: 2, until: Timestamp(0).plus(OVERLAP) };
        assert_eq!(older(&over(None)), [week, first], "the one before as long as it was promised");
        let hour = Timestamp::from_secs(3600);
        let both = [Older { version: 2, until: hour }, Older { version: 1, until: hour }];
        assert_eq!(older(&over(Some(3600))), both, "a key that leaked ends everything before it");
        assert_eq!(older(&over(Some(0))), []);

        let state = over(None);
        assert_eq!(state.expired(Timestamp(0).plus(DAY)), None);
        assert_eq!(older(&state.expired(first.until).expect("one")), [week]);
        assert_eq!(older(&state.expired(week.until).expect("both")), []);
        let settled = |versions: u32| {
            let older = (1..versions).rev().map(|version| Older { version, until: Timestamp(9) });
            Settled { version: versions, older: older.collect() }.old().is_ok()
        };
        assert_eq!([1, 2, 3, 4].map(settled), [true, true, true, false], "so many signatures are enough");
    }

    #[test]
    fn the_link_waits_for_what_is_on_its_way() {
        let active = |overlap, phase| {
            started(None, overlap).entered(phase, Some("2"), "", Timestamp(5)).active.expect("it goes on")
        };
        assert_eq!(link_until(&active(None, Phase::Overlap)), Some(Timestamp(5).plus(LINK)), "not for a week");
        assert_eq!(link_until(&active(Some(2), Phase::Overlap)), Some(Timestamp(2005)));
        assert_eq!(link_until(&active(None, Phase::Verifying)), None);
    }
}
