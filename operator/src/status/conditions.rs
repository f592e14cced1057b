//! A status as values that can be compared, and its way from and to the API server.
//!
//! Only what is ours is read: conditions of other writers pass unseen and stay. Whatever cannot be read counts as absent,
//! and is written anew.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};
use zen_crds::{BreakerState, BreakerStatus, DestinationStatus, Health, LastVerified, WebhookStatus};
use zen_model::reason::{ConditionReason, ObjectReason};

use super::object::{Kind, Text};

/// Point in time, whole seconds.
pub type Time = jiff::Timestamp;

/// What is said about an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The generation that it is about.
    pub observed_generation: Option<i64>,
    /// In the order of [`ConditionType`], each type once.
    pub conditions: Vec<Condition>,
    /// Webhook: where it is served.
    pub url: Option<Box<str>>,
    /// Webhook: which secret verified last.
    pub last_verified: Option<LastVerified>,
    /// Destination: whether the target takes deliveries.
    pub health: Option<Health>,
    /// Destination: the circuit breaker.
    pub breaker: Option<BreakerStatus>,
}

/// Types of conditions, in the order in which they are shown: the first that is False is the one to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is valid, and its namespace may have what it asks for.
    Accepted,
    /// What it names is there and may be used.
    ResolvedRefs,
    /// It is in effect at every ready replica.
    Programmed,
    /// Something that it asks for holds within one replica only.
    PerReplicaState,
    /// A `ZenLock` can be opened.
    Decryptable,
}

impl ConditionType {
    const ALL: [Self; 5] =
        [Self::Accepted, Self::ResolvedRefs, Self::Programmed, Self::PerReplicaState, Self::Decryptable];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::PerReplicaState => "PerReplicaState",
            Self::Decryptable => "Decryptable",
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it says something about.
    pub about: ConditionType,
    /// Whether it holds.
    pub state: State,
    /// Stable code.
    pub reason: Text,
    /// For people.
    pub message: Text,
    /// The generation that it is about.
    pub generation: i64,
    /// When `state` last changed.
    pub since: Time,
}

impl Status {
    /// The condition of a type.
    pub fn condition(&self, about: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.about == about)
    }

    /// The first condition that does not hold.
    pub fn problem(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.state == State::False)
    }

    /// Takes the times of transitions over from the status before, where there was none.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for condition in &mut self.conditions {
            if let Some(before) = before.condition(condition.about).filter(|before| before.state == condition.state) {
                condition.since = before.since;
            }
        }
        self
    }

    /// What the API server has.
    pub fn read(kind: Kind, status: &Value) -> Self {
        let conditions = status.get("conditions").and_then(Value::as_array);
        let mut conditions: Vec<_> = conditions.into_iter().flatten().filter_map(Condition::read).collect();
        conditions.sort_by_key(|condition| condition.about);
        let observed_generation = status.get("observedGeneration").and_then(Value::as_i64);
        // Field by field: one that is out of shape must not hide the others.
        let field = |name: &str| status.get(name).cloned();
        let of = |wanted: Kind| kind == wanted;
        Self {
            observed_generation,
            conditions,
            url: status.get("url").and_then(Value::as_str).filter(|_| of(Kind::Webhook)).map(Into::into),
            last_verified: field("lastVerified").filter(|_| of(Kind::Webhook)).and_then(parse),
            health: field("health").filter(|_| of(Kind::Destination)).and_then(parse),
            breaker: field("breaker").filter(|_| of(Kind::Destination)).and_then(parse),
        }
    }

    /// As a server-side apply sends it: the whole of what is ours.
    pub fn write(&self, kind: Kind) -> Value {
        let conditions: Vec<_> = self.conditions.iter().map(Condition::write).collect();
        let observed_generation = self.observed_generation;
        match kind {
            Kind::Webhook => json!(WebhookStatus {
                observed_generation,
                conditions,
                url: self.url.as_deref().map(str::to_owned),
                last_verified: self.last_verified.clone(),
            }),
            Kind::Destination => json!(DestinationStatus {
                observed_generation,
                conditions,
                health: self.health,
                breaker: self.breaker.clone(),
            }),
            Kind::ZenLock => {
                json!({ "observedGeneration": observed_generation, "conditions": conditions })
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

impl Condition {
    fn read(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let about = ConditionType::ALL.into_iter().find(|about| Some(about.name()) == text("type"))?;
        let state =
            [State::True, State::False, State::Unknown].into_iter().find(|s| Some(s.name()) == text("status"))?;
        Some(Self {
            about,
            state,
            reason: shared(text("reason")?),
            message: shared(text("message").unwrap_or_default()),
            generation: value.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default(),
            since: text("lastTransitionTime")?.parse().ok()?,
        })
    }

    fn write(&self) -> meta::Condition {
        meta::Condition {
            type_: self.about.name().to_owned(),
            status: self.state.name().to_owned(),
            reason: self.reason.clone().into_owned(),
            message: self.message.clone().into_owned(),
            observed_generation: Some(self.generation),
            last_transition_time: meta::Time(self.since),
        }
    }
}

/// What conditions say when all is well: the same words for every object and at any number of replicas, so that neither
/// memory nor writes grow with them.
pub mod words {
    /// Accepted.
    pub const ACCEPTED: &str = "The object is valid and its namespace may have what it asks for.";
    /// `ResolvedRefs`.
    pub const RESOLVED: &str = "Everything that the object names exists and may be used.";
    /// Programmed.
    pub const PROGRAMMED: &str = "In effect at every ready replica.";
    /// Programmed, of a Webhook with `active: false`.
    pub const INACTIVE: &str =
        "In effect at every ready replica: with spec.active false, requests are answered with 503.";
    /// Programmed, where the object is not accepted.
    pub const NOT_ACCEPTED: &str = "Not in effect; see the condition Accepted.";
    /// `PerReplicaState`.
    pub const PER_REPLICA: &str = "Idempotency keys are kept by the ingester replica that took the event: a repeat that \
        reaches another replica is delivered again. Let the target recognise repeats by the webhook-id header, or run \
        one ingester.";
    /// `ResolvedRefs`, before a replica looked.
    pub const UNRESOLVED: &str = "No replica has looked at the references of this generation yet.";

    /// Accepted, where ZenLocks are switched off.
    pub const ZENLOCK: &str = "This mesh opens no ZenLocks: the chart's value zenLock.enabled is false. No pod and no other \
        object gets its values.";

    pub(super) const ALL: [&str; 8] =
        [ACCEPTED, RESOLVED, PROGRAMMED, INACTIVE, NOT_ACCEPTED, PER_REPLICA, UNRESOLVED, ZENLOCK];
}

/// The shared copy of a text that many objects have.
pub fn shared(text: &str) -> Text {
    static KNOWN: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
        let object = ObjectReason::all().map(ObjectReason::code);
        let condition = ConditionReason::ALL.iter().map(|reason| reason.code());
        object.chain(condition).chain(words::ALL).collect()
    });
    KNOWN.get(text).map_or_else(|| Text::Owned(text.to_owned()), |known| Text::Borrowed(*known))
}

/// A breaker's state as the status has it.
pub const fn breaker_state(state: zen_identity::control::BreakerState) -> BreakerState {
    match state {
        zen_identity::control::BreakerState::Closed => BreakerState::Closed,
        zen_identity::control::BreakerState::Open => BreakerState::Open,
        zen_identity::control::BreakerState::HalfOpen => BreakerState::HalfOpen,
    }
}

/// Seconds are what the API server's conventions have; finer times would make equal statuses differ.
pub fn whole_seconds(time: Time) -> Time {
    Time::from_second(time.as_second()).unwrap_or(time)
}

/// As [`whole_seconds`], of what a pod reports.
pub fn time_of(time: zen_model::Timestamp) -> Time {
    i64::try_from(time.as_secs()).ok().and_then(|seconds| Time::from_second(seconds).ok()).unwrap_or(Time::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let condition = |about, state, reason: &'static str, message: &'static str| Condition {
            about,
            state,
            reason: reason.into(),
            message: message.into(),
            generation: 4,
            since: time_of(zen_model::Timestamp::from_secs(1_700_000_000)),
        };
        Status {
            observed_generation: Some(4),
            conditions: vec![
                condition(ConditionType::Accepted, State::True, "Accepted", words::ACCEPTED),
                condition(ConditionType::ResolvedRefs, State::False, "RefNotFound", "Secret a/b does not exist"),
                condition(ConditionType::Programmed, State::Unknown, "Pending", "1 of 2 replicas"),
            ],
            ..Status::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let at = meta::Time(time_of(zen_model::Timestamp::from_secs(1_700_000_100)));
        let webhook = Status {
            url: Some("https://h/p".into()),
            last_verified: Some(LastVerified { secret: "s/key".into(), time: at.clone() }),
            ..status()
        };
        assert_eq!(Status::read(Kind::Webhook, &webhook.write(Kind::Webhook)), webhook);
        let destination = Status {
            health: Some(Health::Degraded),
            breaker: Some(BreakerStatus { state: BreakerState::HalfOpen, since: at }),
            ..status()
        };
        assert_eq!(Status::read(Kind::Destination, &destination.write(Kind::Destination)), destination);
        assert_eq!(Status::read(Kind::ZenLock, &status().write(Kind::ZenLock)), status());
    }

    #[test]
    fn foreign_and_broken_parts_count_as_absent() {
        let read = Status::read(
            Kind::Webhook,
            &json!({
                "observedGeneration": "four", "url": 7, "lastVerified": {"secret": 1}, "health": "Healthy",
                "conditions": [
                    {"type": "example.com/Audited", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Accepted", "status": "Perhaps", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Programmed", "status": "True", "reason": "R", "lastTransitionTime": "yesterday"},
                ],
            }),
        );
        assert_eq!(read, Status::default());
        assert_eq!(Status::read(Kind::Webhook, &json!(null)), Status::default());
    }

    #[test]
    fn only_a_transition_changes_its_time() {
        let before = status();
        let mut now = status();
        for condition in &mut now.conditions {
            condition.since = time_of(zen_model::Timestamp::from_secs(1_800_000_000));
            condition.message = "another".into();
        }
        now.conditions[1].state = State::True;
        let now = now.since(&before);
        let changed: Vec<_> = now.conditions.iter().map(|now| now.since != before.conditions[0].since).collect();
        assert_eq!(changed, [false, true, false]);
    }

    #[test]
    fn words_of_many_are_kept_once() {
        for text in ["Accepted", "Conflicted", "Programmed", words::PROGRAMMED, words::PER_REPLICA] {
            assert!(matches!(shared(text), Text::Borrowed(_)), "{text}");
        }
        assert!(matches!(shared("Secret a/b does not exist"), Text::Owned(_)));
    }
}
