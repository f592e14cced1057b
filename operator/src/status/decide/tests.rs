//! Tables: what is known → what is said.

mod destinations;
mod webhooks;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use zen_crds::{BreakerState, BreakerStatus, Health, LastVerified, Mode};
use zen_identity::control;
use zen_model::ObjectKey;

use super::*;
use crate::status::object::Id;

const NOW: i64 = 1_800_000_000;

fn time(seconds: i64) -> Time {
    Time::from_second(seconds).expect("a time")
}

fn object(kind: Kind) -> Object {
    Object {
        id: Id::new(kind, ObjectKey::new("team-a", "x")),
        uid: "u".into(),
        generation: 3,
        resource_version: 1,
        active: true,
        mode: Mode::Egress,
        status: Status::default(),
    }
}

fn problem(reason: ObjectReason, field: &str) -> Problem {
    Problem { field: field.to_owned(), reason, message: format!("{} is there", reason.code()) }
}

fn verdict(serving: bool, problems: &[Problem]) -> Verdict {
    Verdict {
        kind: "Webhook",
        key: ObjectKey::new("team-a", "x"),
        serving,
        uid: Some("u".into()),
        observed_generation: Some(3),
        problems: problems.into(),
    }
}

fn facts(generation: i64, serving: bool, problems: &[Problem]) -> Facts {
    let problems = problems.iter().map(|problem| control::Problem {
        field: problem.field.clone(),
        reason: problem.reason.code().to_owned(),
        message: problem.message.clone(),
        warning: problem.reason.is_warning(),
    });
    Facts {
        uid: Some("u".into()),
        generation: Some(generation),
        serving,
        problems: problems.collect(),
        last_verified: None,
        breaker: None,
    }
}

/// One test's inputs, so that a row says only what is special about it.
struct Case {
    object: Object,
    verdict: Option<Verdict>,
    replicas: Vec<Option<Facts>>,
    everywhere: Vec<Facts>,
    compiled: Option<zen_compile::Webhook>,
    settings: Settings,
    refresh: Duration,
    is_member: bool,
}

impl Case {
    fn new(kind: Kind) -> Self {
        let settings =
            Settings { ingester_replicas: 2, intake: "zen-ingester.zen-mesh.svc".to_owned(), opens_zen_locks: false };
        let fine = || Some(facts(3, true, &[]));
        Self {
            object: object(kind),
            verdict: Some(verdict(true, &[])),
            replicas: vec![fine(), fine()],
            everywhere: Vec::new(),
            compiled: None,
            settings,
            refresh: Duration::from_mins(1),
            is_member: false,
        }
    }

    fn decide(&self) -> Option<Decision> {
        let names = ["pod-0", "pod-1", "pod-2", "pod-3", "pod-4"];
        let replicas = names.iter().zip(&self.replicas).map(|(name, facts)| Replica { name, facts: facts.as_ref() });
        decide(&Observation {
            object: &self.object,
            plane: plane_of(&self.object, self.is_member),
            verdict: self.verdict.as_ref(),
            compiled: self.compiled.as_ref(),
            replicas: replicas.collect(),
            everywhere: self.everywhere.iter().collect(),
            settings: &self.settings,
            refresh: self.refresh,
            now: time(NOW),
        })
    }

    fn decided(&self) -> Decision {
        self.decide().expect("there is something to say")
    }
}

/// `Accepted=True Accepted, …`
fn summary(decision: &Decision) -> String {
    let condition = |it: &Condition| format!("{}={:?} {}", it.about.name(), it.state, it.reason);
    decision.status.conditions.iter().map(condition).collect::<Vec<_>>().join(", ")
}

fn message(decision: &Decision, about: ConditionType) -> &str {
    &decision.status.condition(about).expect("the condition").message
}

const FINE: &str = "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed";

#[test]
fn nothing_is_said_without_a_verdict() {
    for kind in [Kind::Webhook, Kind::Destination] {
        assert_eq!(Case { verdict: None, ..Case::new(kind) }.decide(), None);
    }
}

/// Every reason that a compiler can give, in the condition that it belongs to (K-01).
#[test]
fn every_reason_has_its_condition() {
    use ObjectReason as R;
    for reason in ObjectReason::all() {
        let own = [problem(reason, "spec.field")];
        let mut case = Case::new(Kind::Webhook);
        case.verdict = Some(verdict(reason.is_warning(), &own));
        let code = reason.code();
        let expected = match reason {
            R::Accepted | R::AmbiguousYaml | R::NoEffect => FINE.to_owned(),
            R::RefPending => {
                "Accepted=True Accepted, ResolvedRefs=Unknown RefPending, Programmed=True Programmed".to_owned()
            }
            R::RefNotFound
            | R::KeyNotFound
            | R::EmptySecret
            | R::BadSecret
            | R::RefNotPermitted
            | R::BadCertificate
            | R::ClusterNotFound
            | R::ClusterDisabled
            | R::Lock(_) => {
                format!("Accepted=True Accepted, ResolvedRefs=False {code}, Programmed=True Programmed")
            }
            R::ClusterPending | R::ClusterAway => {
                format!("Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=False {code}")
            }
            _ => format!("Accepted=False {code}, ResolvedRefs=True ResolvedRefs, Programmed=False {code}"),
        };
        let decision = case.decided();
        assert_eq!(summary(&decision), expected);
        // What is wrong, where, and what to do next.
        if let Some(problem) = decision.status.problem() {
            let text = format!("spec.field: {code} is there. {}", reason.row().hint);
            assert_eq!(problem.message, text);
        }
    }
}

#[test]
fn a_warning_is_said_and_harms_nothing() {
    let mut case = Case::new(Kind::Webhook);
    case.verdict = Some(verdict(true, &[problem(ObjectReason::NoEffect, "spec.routes")]));
    let decision = case.decided();
    assert_eq!(summary(&decision), FINE);
    assert!(message(&decision, ConditionType::Accepted).contains("Worth a look: spec.routes: NoEffect is there."));
}

/// What the pods say (K-04): replicas that are behind, that refuse, that are not there.
#[test]
fn replicas_decide_about_programmed() {
    use ObjectReason as R;
    let fine = || Some(facts(3, true, &[]));
    let without = |reason: R, field: &str| Some(facts(3, false, &[problem(reason, field)]));
    let other = || Some(Facts { uid: Some("another".into()), ..facts(3, true, &[]) });
    let secret = "spec.verification.secrets[0].secretRef.name";
    let accepted = "Accepted=True Accepted, ";
    for (what, replicas, expected, patience) in [
        ("all", vec![fine(), fine()], "ResolvedRefs=True ResolvedRefs, Programmed=True Programmed", 0),
        ("none is there", vec![], "ResolvedRefs=Unknown Pending, Programmed=False NoReplicas", 20),
        (
            "one is behind",
            vec![fine(), Some(facts(2, true, &[]))],
            "ResolvedRefs=True ResolvedRefs, Programmed=False Pending",
            3,
        ),
        ("one has not heard of it", vec![fine(), None], "ResolvedRefs=True ResolvedRefs, Programmed=False Pending", 3),
        (
            "one knows its predecessor",
            vec![fine(), other()],
            "ResolvedRefs=True ResolvedRefs, Programmed=False Pending",
            3,
        ),
        ("nobody knows it", vec![None, None], "ResolvedRefs=Unknown Pending, Programmed=False Pending", 3),
        (
            "a Secret is missing",
            vec![without(R::RefNotFound, secret), without(R::RefNotFound, secret)],
            "ResolvedRefs=False RefNotFound, Programmed=False RefNotFound",
            1,
        ),
        (
            "a grant is on its way",
            vec![without(R::RefPending, secret), without(R::RefPending, secret)],
            "ResolvedRefs=Unknown RefPending, Programmed=False RefPending",
            10,
        ),
        (
            "one sees a bad secret",
            vec![fine(), without(R::BadSecret, secret)],
            "ResolvedRefs=False BadSecret, Programmed=False BadSecret",
            1,
        ),
        (
            "an older pod",
            vec![without(R::NotSupported, "spec.new"), fine()],
            "ResolvedRefs=True ResolvedRefs, Programmed=False NotSupported",
            0,
        ),
        (
            "a remark",
            vec![Some(facts(3, true, &[problem(R::RefNotFound, "spec.routes[0]")])), fine()],
            "ResolvedRefs=False RefNotFound, Programmed=True Programmed",
            1,
        ),
        (
            "a warning",
            vec![Some(facts(3, true, &[problem(R::NoEffect, "spec.routes")])), fine()],
            "ResolvedRefs=True ResolvedRefs, Programmed=True Programmed",
            0,
        ),
    ] {
        let decision = Case { replicas, ..Case::new(Kind::Webhook) }.decided();
        assert_eq!(summary(&decision), format!("{accepted}{expected}"), "{what}");
        assert_eq!(decision.patience.as_secs(), patience, "{what}");
    }
}

#[test]
fn the_message_names_the_replicas_that_are_behind() {
    let mut case = Case { replicas: vec![Some(facts(3, true, &[])), None, None], ..Case::new(Kind::Webhook) };
    let text = |case: &Case| message(&case.decided(), ConditionType::Programmed).to_owned();
    assert!(text(&case).starts_with("1 of 3 replicas have this generation in effect; not yet: pod-1, pod-2. Wait"));
    case.replicas = vec![None, None, None, None, None];
    assert!(text(&case).contains("not yet: pod-0, pod-1, pod-2 and 2 more."), "{}", text(&case));
    let old = facts(3, false, &[problem(ObjectReason::UnknownField, "spec.new")]);
    case.replicas = vec![Some(facts(3, true, &[])), Some(old)];
    assert!(text(&case).starts_with("1 of 2 replicas (pod-1): Not served. spec.new: UnknownField is there."));
}

#[test]
fn who_serves_what() {
    for (kind, mode, plane) in [
        (Kind::Webhook, Mode::Egress, [Plane::Ingester; 2]),
        (Kind::Destination, Mode::Egress, [Plane::Egress; 2]),
        (Kind::Destination, Mode::Direct, [Plane::Ingester; 2]),
        // The hub keeps the events, the member attempts them.
        (Kind::Destination, Mode::Relay, [Plane::Ingester, Plane::Egress]),
    ] {
        let object = Object { mode, ..object(kind) };
        assert_eq!([false, true].map(|is_member| plane_of(&object, is_member)), plane);
    }
    let egress = Case { replicas: vec![], ..Case::new(Kind::Destination) }.decided();
    assert!(message(&egress, ConditionType::Programmed).starts_with("No replica of the egress is ready."));
}

#[test]
fn kinds_that_are_not_built_say_so() {
    let lock = Case { verdict: None, ..Case::new(Kind::ZenLock) }.decided();
    assert_eq!(summary(&lock), "Accepted=False NotSupported, Decryptable=Unknown NotSupported");
    assert_eq!(lock.status.observed_generation, Some(3));
    let mut opened = Case::new(Kind::ZenLock);
    opened.settings.opens_zen_locks = true;
    assert!(opened.decide().is_none(), "the webhook has the keys, and the say");
}

#[test]
fn times_change_with_transitions_only() {
    let mut case = Case::new(Kind::Webhook);
    let first = case.decided();
    assert!(first.status.conditions.iter().all(|condition| condition.since == time(NOW)));
    case.object.status = first.status.clone();
    for condition in &mut case.object.status.conditions {
        condition.since = time(NOW - 100);
    }
    assert_eq!(case.decided().status, case.object.status, "nothing changed: the same to the byte");
    case.verdict = Some(verdict(true, &[problem(ObjectReason::RefNotFound, "spec.routes[0].destinations[0]")]));
    let since: Vec<_> = case.decided().status.conditions.iter().map(|it| it.since.as_second() - NOW).collect();
    assert_eq!(since, [-100, 0, -100]);
}
