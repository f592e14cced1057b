//! What stands in the ConfigMap `zen-mesh-rotation`: what somebody asks for, and how it stands. No key is ever in it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_model::reason::RotationReason;

use crate::signing::{self, Settled};
use crate::{Phase, Plan, Rate, Rotation, Subject};

/// ConfigMap of the release namespace. Who may patch it may start and abort rotations.
pub const CONFIG_MAP: &str = "zen-mesh-rotation";
/// Key of the [`Request`], which people write and the operator reads.
pub const REQUEST: &str = "request.json";
/// Key of the [`State`], which the operator alone writes, before each step.
pub const STATE: &str = "state.json";
/// So many rotations that are over are remembered.
const REMEMBERED: usize = 10;
/// How long the schedule leaves a subject alone whose rotation was taken back.
const AFTER_FAILURE: u64 = 6 * 3600;

/// What somebody asks for: `kubectl zen rotate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Random: a request is answered once.
    pub id: String,
    /// What is wanted.
    pub action: Action,
    /// Of what.
    pub subject: Subject,
    /// How.
    #[serde(default)]
    pub plan: Plan,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Begin.
    Start,
    /// Take back what goes on.
    Abort,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// What goes on; one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// What is over, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ended>,
    /// What became of the last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The versions of the mesh's signing keys; none: they were never rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Settled>,
}

/// A rotation that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// What, and how far.
    pub rotation: Rotation,
    /// Fingerprint of what is exchanged.
    pub old: String,
    /// Fingerprint of what comes in its place, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// The request; none: the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Whether somebody wants it taken back.
    #[serde(default)]
    pub aborted: bool,
    /// How requests fared before it began.
    #[serde(default)]
    pub before: Rate,
    /// What was seen last that keeps it from going on, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A rotation that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// What.
    pub subject: Subject,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How: [`RotationReason::RotationFinished`], or why it was taken back.
    pub reason: RotationReason,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Fingerprint of what was exchanged.
    pub old: String,
    /// Fingerprint of what was to come in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Which.
    pub id: String,
    /// Whether it is done as asked for.
    pub accepted: bool,
    /// In words.
    pub message: String,
}

impl State {
    /// Whether a pod of this name is to have its certificate from the new issuing CA. Follows from the phase that is stored
    /// alone, so that every replica of the operator and every restart answer the same.
    pub fn uses_new(&self, pod: &str) -> bool {
        self.issuing().is_some_and(|active| active.uses_new(pod))
    }

    /// When the serving certificate of the ingester of this name was issued at the earliest, by the phase that is stored; none:
    /// its age makes no difference. Whole seconds, as certificates have them.
    pub fn serving_since(&self, pod: &str) -> Option<Timestamp> {
        let active = self.active.as_ref().filter(|active| active.rotation.subject == Subject::IntakeTls)?;
        active.uses_new(pod).then(|| Timestamp::from_secs(active.rotation.started.as_secs()))
    }

    /// What goes on, where another issuing CA takes part in it.
    pub fn issuing(&self) -> Option<&Active> {
        self.active.as_ref().filter(|active| active.issues())
    }

    /// Takes a request up: what is stored next. `old` names what is to be exchanged, or says in words why that cannot be.
    #[must_use]
    pub fn answered(&self, request: &Request, old: Result<&str, &str>, before: Rate, now: Timestamp) -> Self {
        let mut next = self.clone();
        let (accepted, message) = match (request.action, &mut next.active) {
            (Action::Start, Some(active)) => {
                (false, format!("a rotation of {} goes on already", active.rotation.subject.label()))
            }
            (Action::Start, none) => match old {
                Ok(old) => {
                    *none = Some(Active {
                        rotation: Rotation::new(request.subject.clone(), request.plan, now),
                        old: old.to_owned(),
                        new: None,
                        request: Some(request.id.clone()),
                        aborted: false,
                        before,
                        detail: String::new(),
                    });
                    (true, "it begins".to_owned())
                }
                Err(why) => (false, format!("{} cannot be rotated here: {why}", request.subject.label())),
            },
            (Action::Abort, Some(active)) if active.rotation.subject != request.subject => {
                (false, format!("what goes on is a rotation of {}", active.rotation.subject.label()))
            }
            (Action::Abort, Some(active)) if active.rotation.phase == Phase::Retiring => {
                (false, "the old is no longer trusted: there is no way back".to_owned())
            }
            (Action::Abort, Some(active)) => {
                active.aborted = true;
                (true, "it is taken back".to_owned())
            }
            (Action::Abort, None) => (false, "no rotation goes on".to_owned()),
        };
        next.answer = Some(Answer { id: request.id.clone(), accepted, message });
        next
    }

    /// Begins by itself, where a subject is due and the last try did not fail a moment ago.
    #[must_use]
    pub fn scheduled(&self, subject: &Subject, old: &str, before: Rate, now: Timestamp) -> Option<Self> {
        let failed = |ended: &Ended| {
            ended.subject == *subject
                && ended.reason != RotationReason::RotationFinished
                && now.since(ended.ended).as_secs() < AFTER_FAILURE
        };
        if self.active.is_some() || self.ended.iter().any(failed) {
            return None;
        }
        let active = Active {
            rotation: Rotation::new(subject.clone(), Plan::default(), now),
            old: old.to_owned(),
            new: None,
            request: None,
            aborted: false,
            before,
            detail: String::new(),
        };
        Some(Self { active: Some(active), ..self.clone() })
    }

    /// In another phase; what is over leaves its place.
    #[must_use]
    pub fn entered(&self, phase: Phase, new: Option<&str>, detail: &str, now: Timestamp) -> Self {
        let mut next = self.clone();
        let Some(mut active) = next.active.take() else { return next };
        active.rotation = active.rotation.enter(phase, now);
        if let Some(new) = new {
            active.new = Some(new.to_owned());
        }
        if !detail.is_empty() {
            detail.clone_into(&mut active.detail);
        }
        if active.rotation.is_over() {
            let is_signing = active.rotation.subject == Subject::SigningKeys(None);
            let settled = self.active.as_ref().and_then(|before| signing::settled(self.signing.as_ref(), before));
            if is_signing {
                // Stored also where it was taken back: what the planes have of the try is to go.
                next.signing = Some(settled.or(next.signing).unwrap_or_default());
            }
            let Active { rotation, old, new, detail, .. } = active;
            let reason = rotation.reason();
            let Rotation { subject, started, .. } = rotation;
            next.ended.insert(0, Ended { subject, started, ended: now, reason, detail, old, new });
            next.ended.truncate(REMEMBERED);
        } else {
            next.active = Some(active);
        }
        next
    }
}

impl Active {
    /// Whether another issuing CA takes part: then what pods are issued depends on the phase.
    pub const fn issues(&self) -> bool {
        matches!(self.rotation.subject, Subject::IssuingCa(None) | Subject::Root)
    }

    /// Whether a pod of this name is to use the new, by the phase that is stored.
    pub fn uses_new(&self, pod: &str) -> bool {
        match &self.rotation.phase {
            Phase::Canary { pods } | Phase::Probing { pods } => pods.contains(pod),
            _ => self.everybody(),
        }
    }

    /// Whether also who comes now is to use the new.
    pub const fn everybody(&self) -> bool {
        matches!(
            self.rotation.phase,
            Phase::RollingOut | Phase::Verifying | Phase::Overlap | Phase::Retiring | Phase::Finished
        )
    }

    /// Who goes first, while that is of interest.
    pub fn canary(&self) -> Option<&BTreeSet<String>> {
        match &self.rotation.phase {
            Phase::Canary { pods } | Phase::Probing { pods } => Some(pods),
            _ => None,
        }
    }
}

impl Subject {
    /// As commands, metrics and Events call it.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::IssuingCa(_) => "issuer",
            Self::IntakeTls => "intake",
            Self::SigningKeys(_) => "signing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: Subject = Subject::IssuingCa(None);
    const NOTHING: Rate = Rate { requests: 0, failures: 0 };

    fn request(action: Action) -> Request {
        Request { id: "r".to_owned(), action, subject: ISSUER, plan: Plan::default() }
    }

    fn started() -> State {
        State::default().answered(&request(Action::Start), Ok("old"), NOTHING, Timestamp(0))
    }

    fn at(phase: Phase) -> State {
        started().entered(phase, Some("new"), "", Timestamp(1))
    }

    /// T-04: the issuing CA of each pod, by the phase that is stored.
    #[test]
    fn who_is_issued_the_new() {
        let failure = RotationReason::ProbeFailed;
        let pods = || BTreeSet::from(["a".to_owned()]);
        for (phase, canary, other) in [
            (Phase::Planned, false, false),
            (Phase::Trusting, false, false),
            (Phase::Canary { pods: pods() }, true, false),
            (Phase::Probing { pods: pods() }, true, false),
            (Phase::RollingOut, true, true),
            (Phase::Verifying, true, true),
            (Phase::Overlap, true, true),
            (Phase::Retiring, true, true),
            (Phase::RollingBack { failure }, false, false),
            (Phase::Distrusting { failure }, false, false),
        ] {
            let state = at(phase.clone());
            assert_eq!((state.uses_new("a"), state.uses_new("b")), (canary, other), "{phase:?}");
            let text = serde_json::to_string(&state).expect("serializes");
            assert_eq!(serde_json::from_str::<State>(&text).expect("parses"), state);
        }
        assert!(!State::default().uses_new("a"));
    }

    /// T-04: whose serving certificate is exchanged, by the phase that is stored.
    #[test]
    fn whose_serving_certificate_is_exchanged() {
        let failure = RotationReason::ProbeFailed;
        let start = Request { subject: Subject::IntakeTls, ..request(Action::Start) };
        let started = State::default().answered(&start, Ok("old"), NOTHING, Timestamp(1700));
        let pods = || BTreeSet::from(["a".to_owned()]);
        let since = Some(Timestamp(1000));
        for (phase, canary, other) in [
            (Phase::Planned, None, None),
            (Phase::Trusting, None, None),
            (Phase::Canary { pods: pods() }, since, None),
            (Phase::Probing { pods: pods() }, since, None),
            (Phase::RollingOut, since, since),
            (Phase::Verifying, since, since),
            (Phase::RollingBack { failure }, None, None),
        ] {
            let state = started.entered(phase.clone(), Some("new"), "", Timestamp(1800));
            assert_eq!((state.serving_since("a"), state.serving_since("b")), (canary, other), "{phase:?}");
            assert!(!state.uses_new("a"), "of the same issuing CA");
        }
        assert_eq!(at(Phase::RollingOut).serving_since("a"), None, "another rotation");
    }

    #[test]
    fn one_at_a_time_and_each_request_once() {
        let answer = |state: &State| state.answer.clone().expect("an answer").accepted;
        assert!(answer(&started()));
        assert!(!answer(&started().answered(&request(Action::Start), Ok("old"), NOTHING, Timestamp(1))));
        assert!(!answer(&State::default().answered(&request(Action::Start), Err("why"), NOTHING, Timestamp(1))));
        assert!(!answer(&State::default().answered(&request(Action::Abort), Ok("old"), NOTHING, Timestamp(1))));
        let aborted = started().answered(&request(Action::Abort), Ok("old"), NOTHING, Timestamp(1));
        assert!(answer(&aborted) && aborted.active.expect("it goes on").aborted);
        let late = at(Phase::Retiring).answered(&request(Action::Abort), Ok("old"), NOTHING, Timestamp(1));
        assert!(!answer(&late) && !late.active.expect("it goes on").aborted, "no way back");
        let other = Request { subject: Subject::Root, ..request(Action::Abort) };
        assert!(!answer(&started().answered(&other, Ok("old"), NOTHING, Timestamp(1))));
    }

    #[test]
    fn what_is_over_is_remembered_and_the_schedule_waits_after_a_failure() {
        let failure = RotationReason::ProbeFailed;
        let now = Timestamp::from_secs(1000);
        let failed = at(Phase::Trusting).entered(Phase::RolledBack { failure }, None, "why", now);
        assert!(failed.active.is_none());
        assert_eq!((failed.ended[0].reason, failed.ended[0].detail.as_str()), (failure, "why"));
        let later = |seconds| failed.scheduled(&ISSUER, "old", NOTHING, Timestamp::from_secs(1000 + seconds));
        assert!(later(AFTER_FAILURE - 1).is_none());
        assert!(later(AFTER_FAILURE).is_some_and(|state| state.active.is_some()));
        assert!(failed.scheduled(&Subject::Root, "old", NOTHING, now).is_some(), "of something else");
        assert!(started().scheduled(&ISSUER, "old", NOTHING, now).is_none(), "one goes on");
        let done = at(Phase::Retiring).entered(Phase::Finished, None, "", now);
        assert!(done.scheduled(&ISSUER, "new", NOTHING, now).is_some());
    }
}
