//! `Programmed`: in effect at every ready replica.

use std::fmt::Write as _;
use std::time::Duration;

use zen_identity::control::Plane;
use zen_model::reason::{ConditionReason, ObjectReason};

use super::super::conditions::{State, shared, words};
use super::super::fleet::{Facts, Replica};
use super::super::object::{Kind, Object, Text};
use super::explain::{Found, explain};
use super::{Observation, code, references};

/// A change is in effect everywhere after a fraction of a second: until then it is not said that it is not.
pub(super) const PENDING: Duration = Duration::from_secs(3);
/// A lone replica that restarts is not a transition of every object.
const NO_REPLICAS: Duration = Duration::from_secs(20);
/// A member whose egress restarts, or whose line is cut for a moment, is not a transition of every Destination.
const AWAY: Duration = Duration::from_secs(30);
/// Pods that are named.
const NAMED: usize = 3;

/// The half of the data plane that has to have an object in effect. Of a Destination of mode `Relay` that is who keeps its
/// events at the hub, and who attempts them in the member.
pub fn plane_of(object: &Object, is_member: bool) -> Plane {
    match (object.id.kind, object.mode) {
        (Kind::Destination, zen_crds::Mode::Egress) => Plane::Egress,
        (Kind::Destination, zen_crds::Mode::Relay) if is_member => Plane::Egress,
        _ => Plane::Ingester,
    }
}

/// Whether it is about the cluster that is to attempt the deliveries: the configuration is in order, and has no effect.
pub(super) const fn is_about_cluster(reason: ObjectReason) -> bool {
    matches!(reason, ObjectReason::ClusterPending | ObjectReason::ClusterAway)
}

/// What one replica says, if it is about this very generation of this very object.
pub(super) struct Seen<'a> {
    name: &'a str,
    pub(super) current: Option<&'a Facts>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(replica: &Replica<'a>, observation: &Observation<'_>, generation: i64) -> Self {
        let current = replica.facts.filter(|facts| {
            facts.generation == Some(generation) && facts.uid.as_deref() == Some(&*observation.object.uid)
        });
        Self { name: replica.name, current }
    }

    /// What keeps it from serving there.
    fn refusal(&self, observation: &Observation<'_>) -> Option<&'a Facts> {
        self.current.filter(|facts| {
            !facts.serving && observation.object.active && facts.problems.iter().any(|problem| !problem.warning)
        })
    }
}

/// The condition, and how long it may still settle.
pub(super) struct Programmed {
    pub(super) state: State,
    pub(super) reason: Text,
    pub(super) message: Text,
    pub(super) patience: Duration,
}

pub(super) fn programmed(observation: &Observation<'_>, reports: &[Seen<'_>]) -> Programmed {
    if reports.is_empty() {
        let half = match observation.plane {
            Plane::Ingester => "ingester",
            Plane::Egress => "egress",
        };
        let row = ConditionReason::NoReplicas.row();
        let message = format!("No replica of the {half} is ready. {}", row.hint);
        return no(code(ConditionReason::NoReplicas), message, NO_REPLICAS);
    }
    let refusing: Vec<_> = reports.iter().filter_map(|seen| Some((seen.name, seen.refusal(observation)?))).collect();
    if let Some((_, facts)) = refusing.first() {
        return refused(facts, &refusing, reports.len());
    }
    let behind: Vec<_> = reports.iter().filter(|seen| seen.current.is_none()).map(|seen| seen.name).collect();
    if !behind.is_empty() {
        let message = format!(
            "{} of {} replicas have this generation in effect; not yet: {}. {}",
            reports.len() - behind.len(),
            reports.len(),
            names(&behind),
            ConditionReason::Pending.row().hint,
        );
        return no(code(ConditionReason::Pending), message, PENDING);
    }
    let problems = observation.verdict.into_iter().flat_map(|verdict| &*verdict.problems);
    if let Some(problem) = problems.clone().find(|problem| is_about_cluster(problem.reason)) {
        let patience = if problem.reason == ObjectReason::ClusterAway { AWAY } else { PENDING };
        return no(shared(problem.reason.code()), explain([problem.into()]), patience);
    }
    // Each replica keeps events of its own, and sees for itself whether anybody takes them.
    let mut told = reports.iter().filter_map(|seen| seen.current).flat_map(|facts| &*facts.problems);
    if let Some(problem) = told.find(|problem| problem.reason == ObjectReason::ClusterAway.code()) {
        return no(shared(ObjectReason::ClusterAway.code()), explain([problem.into()]), AWAY);
    }
    Programmed {
        state: State::True,
        reason: code(ConditionReason::Programmed),
        message: if observation.object.active { words::PROGRAMMED } else { words::INACTIVE }.into(),
        patience: Duration::ZERO,
    }
}

/// Some replicas have it, and cannot do its work.
fn refused(facts: &Facts, refusing: &[(&str, &Facts)], replicas: usize) -> Programmed {
    let problems: Vec<Found<'_>> = facts.problems.iter().filter(|it| !it.warning).map(Found::from).collect();
    let reason = problems.first().map_or_else(Text::default, |problem| shared(problem.reason));
    let whose = if refusing.len() == replicas {
        String::new()
    } else {
        let names: Vec<_> = refusing.iter().map(|(name, _)| *name).collect();
        format!("{} of {replicas} replicas ({}): ", names.len(), self::names(&names))
    };
    let message = if problems.iter().all(references::concerns) {
        format!("{whose}Not served; see the condition ResolvedRefs.")
    } else {
        format!("{whose}Not served. {}", explain(problems.iter().copied()))
    };
    let patience = if problems.iter().all(references::is_pending) { references::GRANT } else { Duration::ZERO };
    no(reason, message, patience)
}

fn no(reason: Text, message: String, patience: Duration) -> Programmed {
    Programmed { state: State::False, reason, message: message.into(), patience }
}

fn names(names: &[&str]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        let _ = write!(text, " and {} more", names.len() - NAMED);
    }
    text
}
