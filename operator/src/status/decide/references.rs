//! `ResolvedRefs`: what the object names is there and may be used. The compiler of the operator knows Destinations and
//! consent; Secrets, ConfigMaps, Services and certificates only the pods see.

use std::time::Duration;

use zen_compile::Verdict;
use zen_model::reason::{ConditionReason, ObjectReason};

use super::super::conditions::{State, shared, words};
use super::super::object::Text;
use super::code;
use super::explain::{Found, explain};
use super::programmed::{PENDING, Seen};

/// Objects that are applied together, in whatever order, are not to be scolded in between.
const SETTLE: Duration = Duration::from_secs(1);
/// A grant is there after a second or two.
pub(super) const GRANT: Duration = Duration::from_secs(10);

/// Whether a problem is about something that the object names, rather than about the object.
pub(super) const fn is_about(reason: ObjectReason) -> bool {
    use ObjectReason as R;
    matches!(
        reason,
        R::RefNotFound
            | R::RefPending
            | R::KeyNotFound
            | R::EmptySecret
            | R::BadSecret
            | R::RefNotPermitted
            | R::BadCertificate
            | R::ClusterNotFound
            | R::ClusterDisabled
            | R::Lock(_)
    )
}

/// As [`is_about`], of what a pod found: it also looks at the Services themselves.
pub(super) fn concerns(problem: &Found<'_>) -> bool {
    let known = ObjectReason::all().find(|reason| reason.code() == problem.reason);
    known.is_some_and(is_about)
        || (known == Some(ObjectReason::TargetNotAllowed) && problem.field.starts_with("spec.target.service"))
}

/// The condition, and how long it may still settle.
pub(super) struct Resolved {
    pub(super) state: State,
    pub(super) reason: Text,
    pub(super) message: Text,
    pub(super) patience: Duration,
}

pub(super) fn resolved(verdict: &Verdict, reports: &[Seen<'_>]) -> Resolved {
    let own = verdict.problems.iter().filter(|problem| is_about(problem.reason)).map(Found::from);
    let theirs = reports.iter().filter_map(|seen| seen.current).flat_map(|facts| &facts.problems);
    let theirs = theirs.filter(|problem| !problem.warning).map(Found::from).filter(concerns);
    let mut problems: Vec<Found<'_>> = Vec::new();
    for problem in own.chain(theirs) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    // What is only not known yet comes last, whoever said it.
    problems.sort_by_key(is_pending);
    if let Some(first) = problems.first() {
        let pending = is_pending(first);
        return Resolved {
            state: if pending { State::Unknown } else { State::False },
            reason: shared(first.reason),
            patience: if pending { GRANT } else { SETTLE },
            message: explain(problems).into(),
        };
    }
    if reports.iter().any(|seen| seen.current.is_some()) {
        let (reason, message) = (code(ConditionReason::ResolvedRefs), words::RESOLVED.into());
        return Resolved { state: State::True, reason, message, patience: Duration::ZERO };
    }
    let (reason, message) = (code(ConditionReason::Pending), words::UNRESOLVED.into());
    Resolved { state: State::Unknown, reason, message, patience: PENDING }
}

/// A grant that the operator is about to make, or a watch that is about to begin.
pub(super) fn is_pending(problem: &Found<'_>) -> bool {
    problem.reason == ObjectReason::RefPending.code()
}
