//! Events on transitions: when an object stops being all right, when the reason changes, and when it is all right again.
//!
//! What concerns the data plane as a whole (no replica is ready) is not said on each object. The writer of Events bounds
//! what is said about one object; [`Budget`] bounds all of them together. What is not said stands in the conditions.

use std::time::Duration;

use tokio::time::Instant;
use zen_crds::BreakerState;
use zen_model::reason::ConditionReason;

use super::conditions::{Condition, Status};
use super::object::Text;

/// An Event.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Something is not as it should be.
    pub warning: bool,
    /// Stable code.
    pub reason: Text,
    /// For people.
    pub note: Text,
}

/// What is to be said about going from one status to another.
pub fn announcement(before: &Status, after: &Status) -> Option<Announcement> {
    match (worth_telling(before), worth_telling(after)) {
        (was, Some(is)) if was.is_none_or(|was| (was.about, &was.reason) != (is.about, &is.reason)) => {
            Some(Announcement { warning: true, reason: is.reason.clone(), note: is.message.clone() })
        }
        (Some(_), None) if after.problem().is_none() => {
            let reason = ConditionReason::Programmed.code().into();
            Some(Announcement { warning: false, reason, note: "In effect again at every ready replica.".into() })
        }
        _ => breaker(before, after),
    }
}

fn worth_telling(status: &Status) -> Option<&Condition> {
    let of_the_mesh = |condition: &Condition| {
        [ConditionReason::NoReplicas, ConditionReason::Pending].iter().any(|reason| condition.reason == reason.code())
    };
    status.problem().filter(|condition| !of_the_mesh(condition))
}

fn breaker(before: &Status, after: &Status) -> Option<Announcement> {
    let state = |status: &Status| status.breaker.as_ref().map(|breaker| breaker.state);
    let (warning, reason) = match (state(before), state(after)) {
        (Some(BreakerState::Open | BreakerState::HalfOpen), Some(BreakerState::Open)) => return None,
        (_, Some(BreakerState::Open)) => (true, ConditionReason::BreakerOpen),
        (Some(BreakerState::Open | BreakerState::HalfOpen), Some(BreakerState::Closed)) => {
            (false, ConditionReason::BreakerClosed)
        }
        _ => return None,
    };
    let row = reason.row();
    let note = if warning { format!("{} {}", row.meaning, row.hint).into() } else { row.meaning.into() };
    Some(Announcement { warning, reason: row.code.into(), note })
}

/// So many Events for all objects together.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    refilled: Instant,
}

const BURST: u32 = 200;
const EACH: Duration = Duration::from_millis(100);

impl Budget {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    /// Whether one more is in it.
    pub fn take(&mut self, now: Instant) -> bool {
        let refill = u32::try_from(now.duration_since(self.refilled).as_millis() / EACH.as_millis()).unwrap_or(BURST);
        if refill > 0 {
            self.left = self.left.saturating_add(refill).min(BURST);
            self.refilled = now;
        }
        let one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        one
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use zen_crds::BreakerStatus;

    use super::super::conditions::{ConditionType, State};
    use super::*;

    fn status(conditions: &[(ConditionType, State, &'static str)]) -> Status {
        let conditions = conditions.iter().map(|(about, state, reason)| Condition {
            about: *about,
            state: *state,
            reason: (*reason).into(),
            message: "words".into(),
            generation: 1,
            since: jiff::Timestamp::UNIX_EPOCH,
        });
        Status { conditions: conditions.collect(), ..Status::default() }
    }

    fn with_breaker(state: Option<BreakerState>) -> Status {
        let breaker = state.map(|state| BreakerStatus { state, since: Time(jiff::Timestamp::UNIX_EPOCH) });
        Status { breaker, ..status(&[]) }
    }

    #[test]
    fn transitions_and_nothing_else() {
        use ConditionType::{Accepted, Programmed, ResolvedRefs};
        use State::{False, True};
        let fine = || status(&[(Accepted, True, "Accepted"), (Programmed, True, "Programmed")]);
        let missing = || status(&[(Accepted, True, "Accepted"), (ResolvedRefs, False, "RefNotFound")]);
        let conflict = || status(&[(Accepted, False, "Conflicted"), (ResolvedRefs, False, "RefNotFound")]);
        let down = || status(&[(Accepted, True, "Accepted"), (Programmed, False, "NoReplicas")]);
        let lagging = || status(&[(Accepted, True, "Accepted"), (Programmed, False, "Pending")]);
        for (before, after, said) in [
            (status(&[]), fine(), None),
            (status(&[]), missing(), Some((true, "RefNotFound"))),
            (fine(), missing(), Some((true, "RefNotFound"))),
            (missing(), missing(), None),
            (missing(), conflict(), Some((true, "Conflicted"))),
            (conflict(), fine(), Some((false, "Programmed"))),
            (conflict(), lagging(), None),
            (fine(), down(), None),
            (down(), fine(), None),
            (with_breaker(None), with_breaker(Some(BreakerState::Closed)), None),
            (with_breaker(None), with_breaker(Some(BreakerState::Open)), Some((true, "BreakerOpen"))),
            (
                with_breaker(Some(BreakerState::Closed)),
                with_breaker(Some(BreakerState::Open)),
                Some((true, "BreakerOpen")),
            ),
            (with_breaker(Some(BreakerState::Open)), with_breaker(Some(BreakerState::HalfOpen)), None),
            (with_breaker(Some(BreakerState::HalfOpen)), with_breaker(Some(BreakerState::Open)), None),
            (
                with_breaker(Some(BreakerState::Open)),
                with_breaker(Some(BreakerState::Closed)),
                Some((false, "BreakerClosed")),
            ),
            (with_breaker(Some(BreakerState::Open)), with_breaker(None), None),
        ] {
            let found = announcement(&before, &after);
            let found = found.as_ref().map(|said| (said.warning, &*said.reason));
            assert_eq!(found, said, "{before:?} → {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_are_bounded() {
        let mut budget = Budget::new(Instant::now());
        let mut said = |number: u32| (0..number).filter(|_| budget.take(Instant::now())).count();
        assert_eq!(said(10_000), 200);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(said(10_000), 10);
    }
}
