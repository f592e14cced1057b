//! Problems → the message of a condition: the field, what is wrong, and what to do next. It is about one object and
//! stands in it, so that the object is not named again; whatever else is concerned is.

use std::fmt::Write as _;

use zen_model::reason::{self, Area};

/// Problems that are told in full; of the others only the number.
const TOLD: usize = 5;
/// Bytes of a message. The API server's bound is 32768; a person's is lower.
const LONGEST: usize = 2000;

/// A problem, whoever found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) field: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

impl<'a> From<&'a zen_compile::Problem> for Found<'a> {
    fn from(problem: &'a zen_compile::Problem) -> Self {
        Self { field: &problem.field, reason: problem.reason.code(), message: &problem.message }
    }
}

impl<'a> From<&'a zen_identity::control::Problem> for Found<'a> {
    fn from(problem: &'a zen_identity::control::Problem) -> Self {
        Self { field: &problem.field, reason: &problem.reason, message: &problem.message }
    }
}

/// `FIELD: MESSAGE. HINT`, then the other problems without hint.
pub(super) fn explain<'a>(problems: impl IntoIterator<Item = Found<'a>>) -> String {
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return String::new() };
    let mut text = sentence(&first);
    if let Some(hint) = hint(first.reason) {
        text.push(' ');
        text.push_str(hint);
    }
    let rest: Vec<_> = problems.collect();
    for problem in rest.iter().take(TOLD - 1) {
        text.push_str(" Also ");
        text.push_str(problem.reason);
        text.push_str(": ");
        text.push_str(&sentence(problem));
    }
    if rest.len() >= TOLD {
        let _ = write!(text, " And {} more.", rest.len() + 1 - TOLD);
    }
    cut(text)
}

/// Remarks, which ask for nothing: `FIELD: MESSAGE.` of each.
pub(super) fn remarks<'a>(problems: impl IntoIterator<Item = Found<'a>>) -> String {
    let sentences: Vec<_> = problems.into_iter().take(TOLD).map(|problem| sentence(&problem)).collect();
    cut(sentences.join(" "))
}

fn sentence(problem: &Found<'_>) -> String {
    let message = problem.message.trim_end_matches('.');
    if problem.field.is_empty() || message.starts_with(problem.field) {
        format!("{message}.")
    } else {
        format!("{}: {message}.", problem.field)
    }
}

fn hint(code: &str) -> Option<&'static str> {
    reason::table().into_iter().find(|row| row.area == Area::Object && row.code == code).map(|row| row.hint)
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(field: &'static str, reason: &'static str, message: &'static str) -> Found<'static> {
        Found { field, reason, message }
    }

    #[test]
    fn field_message_and_what_to_do() {
        let conflict = found("spec.path", "Conflicted", "team-b/x is older and has this host and path");
        let own = found("spec.delivery.concurrency", "Invalid", "spec.delivery.concurrency must be at least 1");
        for (problems, text) in [
            (vec![], ""),
            (vec![conflict], "spec.path: team-b/x is older and has this host and path. Choose another path or host."),
            (vec![found("", "NewInALaterRelease", "it is odd.")], "it is odd."),
            (
                vec![own, conflict],
                "spec.delivery.concurrency must be at least 1. Change the value as the message says. Also Conflicted: \
                 spec.path: team-b/x is older and has this host and path.",
            ),
        ] {
            assert_eq!(explain(problems), text);
        }
    }

    #[test]
    fn many_and_long_ones_are_bounded() {
        let many = vec![found("spec.path", "Invalid", "wrong"); 30];
        let text = explain(many);
        assert!(text.ends_with(" And 25 more.") && text.matches("wrong").count() == TOLD, "{text}");
        let long = "ü".repeat(LONGEST);
        let text = explain([Found { field: "spec.path", reason: "Invalid", message: &long }]);
        assert!(text.len() < LONGEST + 8 && text.ends_with('…'));
    }
}
