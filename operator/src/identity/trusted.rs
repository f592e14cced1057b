//! Which roots are trusted while the root is exchanged (T-04). Pure: it follows from the phase that is stored, so that the trust
//! bundle is the same whoever leads.

use std::time::Duration;

use zen_rotation::record::{Active, State};
use zen_rotation::{Phase, Subject};

/// An exchange of the root that goes on.
pub(super) fn exchange(rotation: &State) -> Option<&Active> {
    rotation.active.as_ref().filter(|active| active.rotation.subject == Subject::Root)
}

/// Fingerprint of the root that is trusted beside the one in use.
pub(super) fn beside(rotation: &State) -> Option<&str> {
    let active = exchange(rotation)?;
    let is_trusted = match active.rotation.phase {
        // Before it is stored what it is called, nobody is told of it; and it goes before it is put away.
        Phase::Planned | Phase::Distrusting { .. } | Phase::RolledBack { .. } | Phase::Finished => false,
        // Also in the last: until it lies in the place of the old, that is the one in use.
        Phase::Trusting
        | Phase::Canary { .. }
        | Phase::Probing { .. }
        | Phase::RollingOut
        | Phase::Verifying
        | Phase::Overlap
        | Phase::Retiring
        | Phase::RollingBack { .. } => true,
    };
    active.new.as_deref().filter(|_| is_trusted)
}

/// Fingerprint of the root that comes, where a member's issuing CA is to be beneath it. It stays there once it is; otherwise from when
/// every pod here uses the new, and once `trusts` says of root and time that it has reached the member's pods. In the end nobody
/// is asked.
pub(super) fn of_member(
    rotation: &State,
    has: Option<&str>,
    trusts: impl FnOnce(&str, Duration) -> bool,
) -> Option<String> {
    let active = exchange(rotation)?;
    let new = active.new.as_deref().filter(|_| active.everybody())?;
    let is_late = matches!(active.rotation.phase, Phase::Overlap | Phase::Retiring);
    let is_due = is_late || has == Some(new) || trusts(new, active.rotation.plan.settle());
    is_due.then(|| new.to_owned())
}

/// The roots of the trust bundle, PEM: the one in use, and beside it the one that comes (its certificate and fingerprint) while
/// both count. Where they are the same, the old is gone.
pub(super) fn roots(in_use: (&str, &str), next: Option<(&str, &str)>, rotation: &State) -> String {
    let (pem, fingerprint) = in_use;
    let next = next.filter(|(_, next)| *next != fingerprint && beside(rotation) == Some(*next));
    next.map_or_else(|| pem.to_owned(), |(next, _)| format!("{}\n{next}", pem.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zen_model::Timestamp;
    use zen_model::reason::RotationReason;

    use zen_rotation::record::{Action, Request};
    use zen_rotation::{Plan, Rate};

    use super::*;

    fn at(subject: Subject, phase: Phase) -> State {
        let request = Request { id: "r".to_owned(), action: Action::Start, subject, plan: Plan::default() };
        let state = State::default().answered(&request, Ok("old"), Rate::default(), Timestamp(0));
        state.entered(phase, Some("new"), "", Timestamp(1))
    }

    /// T-04, T-01: a member moves once its pods trust the new, stays there, and goes back with all the others.
    #[test]
    fn beneath_which_root_a_members_issuing_ca_is_to_be() {
        let failure = RotationReason::ErrorsRaised;
        let pods = || BTreeSet::from(["a".to_owned()]);
        // Whether it is to be beneath the new: when nothing is known of it, when its pods trust the new, when it is there already.
        for (phase, unknown, trusting, there) in [
            (Phase::Planned, false, false, false),
            (Phase::Trusting, false, false, false),
            (Phase::Canary { pods: pods() }, false, false, false),
            (Phase::Probing { pods: pods() }, false, false, false),
            (Phase::RollingOut, false, true, true),
            (Phase::Verifying, false, true, true),
            (Phase::Overlap, true, true, true),
            (Phase::Retiring, true, true, true),
            (Phase::RollingBack { failure }, false, false, false),
            (Phase::Distrusting { failure }, false, false, false),
        ] {
            let state = at(Subject::Root, phase.clone());
            let of = |has, trusts: bool| {
                let root = of_member(&state, has, |root, settle| {
                    assert_eq!((root, settle), ("new", Plan::default().settle()));
                    trusts
                });
                root.as_deref() == Some("new")
            };
            let found = (of(Some("old"), false), of(None, true), of(Some("new"), false));
            assert_eq!(found, (unknown, trusting, there), "{phase:?}");
        }
        assert_eq!(of_member(&State::default(), Some("new"), |_, _| true), None);
    }

    /// T-04: nothing new is used before everybody trusts it, and nothing old is distrusted before nobody uses it.
    #[test]
    fn the_bundle_follows_the_phase() {
        let failure = RotationReason::ProbeFailed;
        let pods = || BTreeSet::from(["a".to_owned()]);
        for (phase, both) in [
            (Phase::Planned, false),
            (Phase::Trusting, true),
            (Phase::Canary { pods: pods() }, true),
            (Phase::Probing { pods: pods() }, true),
            (Phase::RollingOut, true),
            (Phase::Verifying, true),
            (Phase::Overlap, true),
            (Phase::Retiring, true),
            (Phase::RollingBack { failure }, true),
            (Phase::Distrusting { failure }, false),
            (Phase::Finished, false),
            (Phase::RolledBack { failure }, false),
        ] {
            let state = at(Subject::Root, phase.clone());
            let trusted = |in_use, next| roots(in_use, next, &state);
            let expected = if both { "OLD\nNEW\n" } else { "OLD\n" };
            assert_eq!(trusted(("OLD\n", "old"), Some(("NEW\n", "new"))), expected, "{phase:?}");
            assert_eq!(trusted(("OLD\n", "old"), None), "OLD\n", "{phase:?}: it is not there");
            assert_eq!(trusted(("OLD\n", "old"), Some(("X\n", "x"))), "OLD\n", "{phase:?}: it is another");
            assert_eq!(trusted(("NEW\n", "new"), Some(("NEW\n", "new"))), "NEW\n", "{phase:?}: it has taken the place");
            let other = at(Subject::IssuingCa(None), phase.clone());
            assert_eq!(roots(("OLD\n", "old"), Some(("NEW\n", "new")), &other), "OLD\n", "{phase:?}");
        }
        assert_eq!(roots(("OLD\n", "old"), Some(("NEW\n", "new")), &State::default()), "OLD\n");
    }
}
