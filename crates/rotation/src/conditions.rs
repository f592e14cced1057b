//! How a rotation stands, as conditions that people and tools know from every other object. They lie in `state.json` beside what
//! they are derived from: a ConfigMap has no status.

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_model::reason::RotationReason;

use crate::record::State;

/// One condition, with the fields of the Kubernetes API's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Progressing`: something is exchanged. `TakenBack`: the last exchange goes back, or went.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// A code of the table of reasons.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When it became so.
    pub last_transition_time: Timestamp,
}

/// What is stored.
#[derive(Clone, Debug, Serialize)]
pub struct Stored<'a> {
    #[serde(flatten)]
    state: &'a State,
    conditions: Vec<Condition>,
}

impl State {
    /// With its conditions.
    pub fn stored(&self) -> Stored<'_> {
        Stored { state: self, conditions: self.conditions() }
    }

    /// None before anything was ever exchanged.
    pub fn conditions(&self) -> Vec<Condition> {
        let condition = |kind: &str, is: bool, reason: RotationReason, message: &str, since| Condition {
            kind: kind.to_owned(),
            status: if is { "True" } else { "False" }.to_owned(),
            reason: reason.code().to_owned(),
            message: message.trim_end().to_owned(),
            last_transition_time: since,
        };
        let is_back =
            |reason| !matches!(reason, RotationReason::RotationProgressing | RotationReason::RotationFinished);
        if let Some(active) = &self.active {
            let (rotation, reason) = (&active.rotation, active.rotation.reason());
            let (subject, phase) = (rotation.subject.label(), rotation.phase.label().replace('_', " "));
            let message = format!("{subject}: {phase}. {}", active.detail);
            let since = if is_back(reason) { rotation.since } else { rotation.started };
            return vec![
                condition("Progressing", true, reason, &message, rotation.started),
                condition("TakenBack", is_back(reason), reason, &message, since),
            ];
        }
        let Some(ended) = self.ended.first() else { return Vec::new() };
        let (subject, reason) = (ended.subject.label(), ended.reason);
        let message = format!("{subject}: {}. {}", if is_back(reason) { "taken back" } else { "done" }, ended.detail);
        vec![
            condition("Progressing", false, reason, &message, ended.ended),
            condition("TakenBack", is_back(reason), reason, &message, ended.ended),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Action, Request};
    use crate::{Phase, Plan, Rate, Subject};

    /// T-04: that it goes on, that it goes back, and how it ended.
    #[test]
    fn conditions_say_how_it_stands() {
        let plan = Plan::default();
        let request = Request { id: "r".to_owned(), action: Action::Start, subject: Subject::Root, plan };
        let begun = State::default().answered(&request, Ok("old"), Rate::default(), Timestamp(0));
        let failure = RotationReason::ProbeFailed;
        for (phase, progressing, back, reason) in [
            (Phase::RollingOut, "True", "False", "RotationProgressing"),
            (Phase::RollingBack { failure }, "True", "True", "ProbeFailed"),
            (Phase::RolledBack { failure }, "False", "True", "ProbeFailed"),
            (Phase::Finished, "False", "False", "RotationFinished"),
        ] {
            let state = begun.entered(phase.clone(), None, "why", Timestamp(7));
            let conditions = state.conditions();
            let found = conditions.iter().map(|it| (it.kind.as_str(), it.status.as_str(), it.reason.as_str()));
            let expected = [("Progressing", progressing, reason), ("TakenBack", back, reason)];
            assert_eq!(found.collect::<Vec<_>>(), expected, "{phase:?}");
            assert!(conditions[0].message.starts_with("root: ") && conditions[0].message.ends_with("why"), "{phase:?}");
            let text = serde_json::to_string(&state.stored()).expect("written");
            assert!(text.contains(r#""lastTransitionTime""#), "{text}");
            assert_eq!(serde_json::from_str::<State>(&text).expect("read"), state, "{phase:?}");
        }
        assert!(State::default().conditions().is_empty());
    }
}
