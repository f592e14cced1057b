use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use zen_crds::{BreakerState, BreakerStatus, Health};
use zen_identity::control;

use super::super::conditions::{breaker_state, time_of};
use super::{Conditions, Decision, Observation};

/// While a target is down its breaker is half open now and then, for the time of one request. That is no news unless it
/// lasts.
const PROBING: Duration = Duration::from_secs(15);

pub(super) fn decide(observation: &Observation<'_>) -> Option<Decision> {
    let verdict = observation.verdict?;
    let mut conditions = Conditions::new(observation, observation.object.generation);
    let (_, patience) = conditions.serving(verdict);
    let mut decision = conditions.decision();
    let before = &observation.object.status;
    let (health, breaker) = health(observation);
    let probing = breaker.as_ref().is_some_and(|breaker| breaker.state == BreakerState::HalfOpen)
        && before.breaker.as_ref().is_some_and(|breaker| breaker.state == BreakerState::Open);
    decision.patience = if probing { patience.max(PROBING) } else { patience };
    (decision.status.health, decision.status.breaker) = (Some(health), breaker);
    Some(decision)
}

/// Each replica has a breaker of its own: the status shows the worst of them.
fn health(observation: &Observation<'_>) -> (Health, Option<BreakerStatus>) {
    let before = &observation.object.status;
    let own = |facts: &&&super::Facts| facts.uid.as_deref() == Some(&*observation.object.uid);
    let breakers: Vec<_> =
        observation.everywhere.iter().filter(own).filter_map(|facts| facts.breaker.as_ref()).collect();
    let in_state = |state: control::BreakerState| breakers.iter().filter(move |breaker| breaker.state == state);
    let worst = [control::BreakerState::Open, control::BreakerState::HalfOpen, control::BreakerState::Closed]
        .into_iter()
        .find(|state| in_state(*state).next().is_some());
    let Some(worst) = worst else {
        // Pods that started anew have attempted nothing; that the target was well is still the last that is known.
        return match (before.health, &before.breaker) {
            (Some(Health::Healthy), breaker) => (Health::Healthy, breaker.clone()),
            _ => (Health::Unknown, None),
        };
    };
    let state = breaker_state(worst);
    let health = match worst {
        control::BreakerState::Open if in_state(worst).count() == breakers.len() => Health::Unhealthy,
        control::BreakerState::Open | control::BreakerState::HalfOpen => Health::Degraded,
        control::BreakerState::Closed => Health::Healthy,
    };
    let known = before.breaker.as_ref().filter(|breaker| breaker.state == state).map(|breaker| breaker.since.clone());
    let since = known.or_else(|| in_state(worst).map(|breaker| breaker.since).min().map(|at| meta::Time(time_of(at))));
    (health, since.map(|since| BreakerStatus { state, since }))
}
