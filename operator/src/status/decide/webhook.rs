use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use zen_crds::LastVerified;
use zen_model::reason::ConditionReason;

use super::super::conditions::{ConditionType, State, Time, time_of, words};
use super::{Conditions, Decision, Observation, code};

/// `lastVerified` changes at most this often.
const MINUTE: Duration = Duration::from_mins(1);
/// The schema's bound.
const LONGEST_URL: usize = 1024;

pub(super) fn decide(observation: &Observation<'_>) -> Option<Decision> {
    let verdict = observation.verdict?;
    let mut conditions = Conditions::new(observation, observation.object.generation);
    let (accepted, patience) = conditions.serving(verdict);
    // The number of replicas is not said: to add one would be a write for each object.
    let remembers = observation.compiled.is_some_and(|webhook| webhook.idempotency.is_some());
    if accepted && remembers && observation.settings.ingester_replicas > 1 {
        let reason = code(ConditionReason::PerReplicaState);
        conditions.push(ConditionType::PerReplicaState, State::True, reason, words::PER_REPLICA);
    }
    let mut decision = conditions.decision();
    decision.patience = patience;
    decision.status.url = if accepted { url(observation) } else { None };
    (decision.status.last_verified, decision.again) = last_verified(observation);
    Some(decision)
}

fn url(observation: &Observation<'_>) -> Option<Box<str>> {
    let webhook = observation.compiled?;
    let host = webhook.hosts.first().map_or(observation.settings.intake.as_str(), String::as_str);
    let url = format!("https://{host}{}", webhook.path);
    (url.len() <= LONGEST_URL).then(|| url.into())
}

/// The newest of all replicas, unless it is too early to say so; then also when it no longer is.
fn last_verified(observation: &Observation<'_>) -> (Option<LastVerified>, Option<Duration>) {
    let known = observation.object.status.last_verified.as_ref();
    let own = |facts: &&&super::Facts| facts.uid.as_deref() == Some(&*observation.object.uid);
    let reported = observation.everywhere.iter().filter(own).filter_map(|facts| facts.last_verified.as_deref());
    let Some(newest) = reported.max_by_key(|verified| verified.at) else { return (known.cloned(), None) };
    let at = time_of(newest.at);
    let new = || LastVerified { secret: newest.secret.as_str().into(), time: meta::Time(at) };
    let Some(known) = known else { return (Some(new()), None) };
    if at <= known.time.0 {
        return (Some(known.clone()), None);
    }
    let due = if *known.secret == *newest.secret { observation.refresh.max(MINUTE) } else { MINUTE };
    let age = since(observation.now, known.time.0);
    match due.checked_sub(age).filter(|left| !left.is_zero()) {
        None => (Some(new()), None),
        early => (Some(known.clone()), early),
    }
}

fn since(now: Time, then: Time) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
