//! What is known about one object → its status. Pure: a table of inputs and outputs, see the tests.

mod destination;
mod explain;
mod programmed;
mod references;
mod webhook;

use std::time::Duration;

use zen_compile::{Problem, Verdict};
use zen_identity::control::Plane;
use zen_model::reason::{ConditionReason, ObjectReason};

use super::conditions::{Condition, ConditionType, State, Status, Time, words};
use super::fleet::{Facts, Replica};
use super::object::{Kind, Object, Text};
use explain::explain;
pub use programmed::plane_of;

/// How the mesh is set up, as far as a status says something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Replicas of the ingester that are wanted, not those that happen to run.
    pub ingester_replicas: u32,
    /// Host (and port, unless 443) of the intake for Webhooks that name no host.
    pub intake: String,
    /// Whether ZenLocks are opened: who has the keys says then whether they fit.
    pub opens_zen_locks: bool,
}

/// What is known about one object.
#[derive(Debug)]
pub struct Observation<'a> {
    /// As the API server has it.
    pub object: &'a Object,
    /// What the compiler says about this generation of it; none: nothing yet.
    pub verdict: Option<&'a Verdict>,
    /// Webhook: as compiled.
    pub compiled: Option<&'a zen_compile::Webhook>,
    /// Which half of the data plane is to have it in effect: [`plane_of`].
    pub plane: Plane,
    /// Its pods.
    pub replicas: Vec<Replica<'a>>,
    /// What every pod says about it, of either half.
    pub everywhere: Vec<&'a Facts>,
    /// How the mesh is set up.
    pub settings: &'a Settings,
    /// How old `lastVerified` may become while one secret goes on to verify.
    pub refresh: Duration,
    /// The time.
    pub now: Time,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status.
    pub status: Status,
    /// How long this may turn out to be a passing state. It is not written before: one change of an object is to be one
    /// write, and a rolling update none.
    pub patience: Duration,
    /// Look again after this time, although nothing changes.
    pub again: Option<Duration>,
}

/// Decides. None: there is nothing to say yet.
pub fn decide(observation: &Observation<'_>) -> Option<Decision> {
    match observation.object.id.kind {
        Kind::Webhook => webhook::decide(observation),
        Kind::Destination => destination::decide(observation),
        // The ZenLock webhook has the keys, and writes this status itself.
        Kind::ZenLock if observation.settings.opens_zen_locks => None,
        Kind::ZenLock => Some(not_built(observation, words::ZENLOCK)),
    }
}

/// A kind that nothing acts on, here or in this release: said, instead of silence that looks like a fault.
fn not_built(observation: &Observation<'_>, message: &'static str) -> Decision {
    let reason = ObjectReason::NotSupported.code();
    let mut conditions = Conditions::new(observation, observation.object.generation);
    conditions.push(ConditionType::Accepted, State::False, reason, message);
    if observation.object.id.kind == Kind::ZenLock {
        conditions.push(ConditionType::Decryptable, State::Unknown, reason, message);
    }
    conditions.decision()
}

/// Conditions of one object, being collected.
struct Conditions<'a> {
    observation: &'a Observation<'a>,
    generation: i64,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    fn new(observation: &'a Observation<'a>, generation: i64) -> Self {
        Self { observation, generation, list: Vec::with_capacity(4) }
    }

    fn push(&mut self, about: ConditionType, state: State, reason: impl Into<Text>, message: impl Into<Text>) {
        let (reason, message) = (reason.into(), message.into());
        let since = self.observation.now;
        self.list.push(Condition { about, state, reason, message, generation: self.generation, since });
    }

    /// Whether the object is valid and may have what it asks for.
    fn accepted(&mut self, verdict: &Verdict) -> bool {
        let own = verdict.problems.iter().filter(|problem| !references::is_about(problem.reason));
        let blocking: Vec<&Problem> = own.clone().filter(|problem| !problem.reason.is_warning()).collect();
        if !blocking.is_empty() && !verdict.serving {
            let reason = blocking[0].reason.code();
            self.push(ConditionType::Accepted, State::False, reason, explain(blocking.into_iter().map(Into::into)));
            return false;
        }
        let remarks: Vec<&Problem> = own.filter(|problem| !programmed::is_about_cluster(problem.reason)).collect();
        let message = if remarks.is_empty() {
            Text::Borrowed(words::ACCEPTED)
        } else {
            format!("{} Worth a look: {}", words::ACCEPTED, explain::remarks(remarks.into_iter().map(Into::into)))
                .into()
        };
        self.push(ConditionType::Accepted, State::True, ObjectReason::Accepted.code(), message);
        true
    }

    /// The three conditions of what the data plane serves; how long they may still settle.
    fn serving(&mut self, verdict: &Verdict) -> (bool, Duration) {
        let replicas = &self.observation.replicas;
        let accepted = self.accepted(verdict);
        let reports: Vec<_> =
            replicas.iter().map(|it| programmed::Seen::of(it, self.observation, self.generation)).collect();
        let resolved = references::resolved(verdict, &reports);
        self.push(ConditionType::ResolvedRefs, resolved.state, resolved.reason, resolved.message);
        if !accepted {
            let reason = self.list[0].reason.clone();
            self.push(ConditionType::Programmed, State::False, reason, words::NOT_ACCEPTED);
            return (false, resolved.patience);
        }
        let programmed = programmed::programmed(self.observation, &reports);
        self.push(ConditionType::Programmed, programmed.state, programmed.reason, programmed.message);
        (true, programmed.patience.max(resolved.patience))
    }

    fn decision(self) -> Decision {
        let before = &self.observation.object.status;
        let status = Status { observed_generation: Some(self.generation), conditions: self.list, ..Status::default() };
        Decision { status: status.since(before), patience: Duration::ZERO, again: None }
    }
}

/// The code of a reason of this module.
const fn code(reason: ConditionReason) -> Text {
    Text::Borrowed(reason.code())
}

#[cfg(test)]
mod tests;
