//! Tables: what is known → what is said.

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
fn an_inactive_webhook_is_programmed_and_says_what_that_means() {
    let mut case = Case::new(Kind::Webhook);
    case.object.active = false;
    case.verdict = Some(verdict(false, &[]));
    case.replicas = vec![Some(facts(3, false, &[problem(ObjectReason::RefNotFound, "spec.routes[0]")]))];
    let decision = case.decided();
    assert_eq!(
        summary(&decision),
        "Accepted=True Accepted, ResolvedRefs=False RefNotFound, Programmed=True Programmed"
    );
    assert_eq!(message(&decision, ConditionType::Programmed), words::INACTIVE);
}

/// The same words whatever the number of replicas: adding one is no write.
#[test]
fn a_replica_more_changes_nothing() {
    let mut case = Case::new(Kind::Webhook);
    case.compiled = Some(compiled(&[], true));
    let two = case.decided();
    case.replicas.push(Some(facts(3, true, &[])));
    case.settings.ingester_replicas = 3;
    assert_eq!(case.decided(), two);
    assert_eq!(two.status.conditions.len(), 4);
}

fn compiled(hosts: &[&str], remembers: bool) -> zen_compile::Webhook {
    let objects = zen_compile::Objects::default();
    let _ = objects;
    let key = ObjectKey::new("team-a", "x");
    let mut manifest = serde_json::json!({
        "metadata": {"name": "x", "namespace": "team-a"},
        "spec": {"verification": {"provider": "none"}, "hosts": hosts, "path": "/team-a/x"},
    });
    if remembers {
        manifest["spec"]["idempotency"] = serde_json::json!({"key": {"header": "X-Id"}});
    }
    let webhook: zen_crds::Webhook = serde_json::from_value(manifest).expect("a Webhook");
    let webhooks = [(key.clone(), Arc::new(webhook))].into();
    let objects = zen_compile::Objects { webhooks, ..zen_compile::Objects::default() };
    let compiled = zen_compile::compile(&objects, None, zen_compile::Mode::Cluster(zen_compile::Plane::Operator));
    let zen_compile::Snapshot { mut webhooks, cache, routes, .. } = compiled.snapshot;
    drop((cache, routes, compiled.verdicts));
    Arc::into_inner(webhooks.remove(&key).expect("it")).expect("the only one")
}

#[test]
fn per_replica_state_where_keys_are_remembered_and_there_are_several() {
    for (remembers, replicas, accepted, said) in
        [(true, 2, true, true), (true, 1, true, false), (false, 2, true, false), (true, 2, false, false)]
    {
        let mut case = Case { compiled: Some(compiled(&[], remembers)), ..Case::new(Kind::Webhook) };
        case.settings.ingester_replicas = replicas;
        if !accepted {
            case.verdict = Some(verdict(false, &[problem(ObjectReason::Conflicted, "spec.path")]));
        }
        let decision = case.decided();
        let condition = decision.status.condition(ConditionType::PerReplicaState);
        assert_eq!(condition.is_some(), said, "{remembers} {replicas} {accepted}");
        if let Some(condition) = condition {
            assert_eq!((condition.state, &*condition.reason), (State::True, "PerReplicaState"));
            assert!(condition.message.contains("delivered again"));
        }
    }
}

#[test]
fn where_it_is_served() {
    for (hosts, accepted, url) in [
        (&[][..], true, Some("https://zen-ingester.zen-mesh.svc/team-a/x")),
        (&["a.example.com", "b.example.com"], true, Some("https://a.example.com/team-a/x")),
        (&[], false, None),
    ] {
        let mut case = Case { compiled: Some(compiled(hosts, false)), ..Case::new(Kind::Webhook) };
        if !accepted {
            case.verdict = Some(verdict(false, &[problem(ObjectReason::PathNotGranted, "spec.path")]));
        }
        assert_eq!(case.decided().status.url.as_deref(), url);
    }
}

/// W-05: at most every minute, and while nothing but time passes much more rarely.
#[test]
fn which_secret_verified_last() {
    let known =
        |secret: &str, age: i64| Some(LastVerified { secret: secret.into(), time: meta::Time(time(NOW - age)) });
    let reported = |secret: &str, age: i64| {
        let at = zen_model::Timestamp::from_secs(u64::try_from(NOW - age).expect("positive"));
        let last_verified = Some(Box::new(control::LastVerified { secret: secret.to_owned(), at }));
        Facts { last_verified, ..facts(3, true, &[]) }
    };
    let other = Facts { uid: Some("another".into()), ..reported("new/key", 0) };
    for (what, before, reports, expected, again) in [
        ("nothing is known", None, vec![], None, None),
        ("the first", None, vec![reported("a/key", 5)], Some(("a/key", 5)), None),
        ("the newest of two", None, vec![reported("a/key", 9), reported("b/key", 5)], Some(("b/key", 5)), None),
        ("too early for another", known("a/key", 20), vec![reported("b/key", 5)], Some(("a/key", 20)), Some(40)),
        ("another", known("a/key", 70), vec![reported("b/key", 5)], Some(("b/key", 5)), None),
        ("the same, too early", known("a/key", 70), vec![reported("a/key", 5)], Some(("a/key", 70)), Some(530)),
        ("the same, due", known("a/key", 700), vec![reported("a/key", 5)], Some(("a/key", 5)), None),
        ("older than known", known("a/key", 70), vec![reported("b/key", 80)], Some(("a/key", 70)), None),
        ("pods that started anew", known("a/key", 700), vec![], Some(("a/key", 700)), None),
        ("another object's", None, vec![other], None, None),
    ] {
        let mut case = Case { everywhere: reports, refresh: Duration::from_mins(10), ..Case::new(Kind::Webhook) };
        case.object.status.last_verified = before;
        let decision = case.decided();
        let expected = expected.and_then(|(secret, age)| known(secret, age));
        assert_eq!(decision.status.last_verified, expected, "{what}");
        assert_eq!(decision.again.map(|after| after.as_secs()), again, "{what}");
    }
}

/// D-11: the worst breaker of all replicas; a pod that started anew knows nothing.
#[test]
fn health_and_breaker_of_a_destination() {
    use control::BreakerState as B;
    let at = |seconds: i64| zen_model::Timestamp::from_secs(u64::try_from(seconds).expect("positive"));
    let breaker =
        |state, since| Facts { breaker: Some(control::Breaker { state, since: at(since) }), ..facts(3, true, &[]) };
    let known = |state, since| Some(BreakerStatus { state, since: meta::Time(time(since)) });
    let quiet = || facts(3, true, &[]);
    for (what, before, reports, health, expected, patience) in [
        ("nothing was attempted", (None, None), vec![quiet()], Health::Unknown, None, 0),
        (
            "all closed",
            (None, None),
            vec![breaker(B::Closed, 7), breaker(B::Closed, 5)],
            Health::Healthy,
            known(BreakerState::Closed, 5),
            0,
        ),
        (
            "one open",
            (None, None),
            vec![breaker(B::Closed, 5), breaker(B::Open, 9)],
            Health::Degraded,
            known(BreakerState::Open, 9),
            0,
        ),
        (
            "all open",
            (None, None),
            vec![breaker(B::Open, 8), breaker(B::Open, 9), quiet()],
            Health::Unhealthy,
            known(BreakerState::Open, 8),
            0,
        ),
        (
            "open still, after a probe",
            (Some(Health::Unhealthy), known(BreakerState::Open, 8)),
            vec![breaker(B::Open, 70)],
            Health::Unhealthy,
            known(BreakerState::Open, 8),
            0,
        ),
        (
            "a probe",
            (Some(Health::Unhealthy), known(BreakerState::Open, 8)),
            vec![breaker(B::HalfOpen, 70)],
            Health::Degraded,
            known(BreakerState::HalfOpen, 70),
            15,
        ),
        (
            "closed again",
            (Some(Health::Unhealthy), known(BreakerState::Open, 8)),
            vec![breaker(B::Closed, 90)],
            Health::Healthy,
            known(BreakerState::Closed, 90),
            0,
        ),
        (
            "healthy, then started anew",
            (Some(Health::Healthy), known(BreakerState::Closed, 5)),
            vec![quiet()],
            Health::Healthy,
            known(BreakerState::Closed, 5),
            0,
        ),
        (
            "unhealthy, then started anew",
            (Some(Health::Unhealthy), known(BreakerState::Open, 5)),
            vec![quiet()],
            Health::Unknown,
            None,
            0,
        ),
    ] {
        let mut case = Case { everywhere: reports, ..Case::new(Kind::Destination) };
        (case.object.status.health, case.object.status.breaker) = before;
        let decision = case.decided();
        assert_eq!((decision.status.health, decision.status.breaker.clone()), (Some(health), expected), "{what}");
        assert_eq!(decision.patience.as_secs(), patience, "{what}");
        assert_eq!(summary(&decision), FINE, "{what}");
    }
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

/// D-02: at the hub, how the cluster stands that delivers; a line that is cut for a moment is no transition.
#[test]
fn a_destination_of_a_member() {
    let replicas = |serving| vec![Some(facts(3, serving, &[])), Some(facts(3, serving, &[]))];
    for (reason, serving, expected, patience) in [
        (ObjectReason::ClusterAway, true, "ResolvedRefs=True ResolvedRefs, Programmed=False ClusterAway", 30),
        (ObjectReason::ClusterPending, true, "ResolvedRefs=True ResolvedRefs, Programmed=False ClusterPending", 3),
        (ObjectReason::ClusterDisabled, true, "ResolvedRefs=False ClusterDisabled, Programmed=True Programmed", 1),
    ] {
        let mut case = Case { replicas: replicas(serving), ..Case::new(Kind::Destination) };
        case.object.mode = Mode::Relay;
        case.verdict = Some(verdict(reason.is_warning(), &[problem(reason, "spec.cluster")]));
        let decision = case.decided();
        assert_eq!(summary(&decision), format!("Accepted=True Accepted, {expected}"));
        assert_eq!(decision.patience.as_secs(), patience, "{expected}");
        assert_eq!(message(&decision, ConditionType::Accepted), words::ACCEPTED);
    }
    // The enrollment is in order, and one of the ingesters has no stream of its egresses.
    let away = problem(ObjectReason::ClusterAway, "spec.cluster");
    let mut case = Case {
        replicas: vec![Some(facts(3, true, &[])), Some(facts(3, true, std::slice::from_ref(&away)))],
        ..Case::new(Kind::Destination)
    };
    case.object.mode = Mode::Relay;
    let decision = case.decided();
    assert!(summary(&decision).ends_with("ResolvedRefs=True ResolvedRefs, Programmed=False ClusterAway"));
    assert_eq!(decision.patience.as_secs(), 30);
    // What stands in the way at the hub's own pods comes first.
    let mut case = Case { replicas: vec![None], ..Case::new(Kind::Destination) };
    case.object.mode = Mode::Relay;
    case.verdict = Some(verdict(true, &[problem(ObjectReason::ClusterAway, "spec.cluster")]));
    assert!(summary(&case.decided()).ends_with("Programmed=False Pending"));
    case = Case { replicas: vec![], is_member: true, ..case };
    assert!(message(&case.decided(), ConditionType::Programmed).starts_with("No replica of the egress is ready."));
}

/// A Service of the target belongs to what is referred to; a URL to the object.
#[test]
fn a_target_that_is_not_allowed() {
    let reason = ObjectReason::TargetNotAllowed;
    let mut case = Case::new(Kind::Destination);
    case.replicas = vec![Some(facts(3, false, &[problem(reason, "spec.target.service.name")]))];
    assert_eq!(
        summary(&case.decided()),
        "Accepted=True Accepted, ResolvedRefs=False TargetNotAllowed, Programmed=False TargetNotAllowed"
    );
    case.verdict = Some(verdict(false, &[problem(reason, "spec.target.url")]));
    case.replicas = vec![Some(facts(3, false, &[problem(reason, "spec.target.url")]))];
    assert_eq!(
        summary(&case.decided()),
        "Accepted=False TargetNotAllowed, ResolvedRefs=True ResolvedRefs, Programmed=False TargetNotAllowed"
    );
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
