//! Targets, their health, and the clusters that deliver (D-02, D-11).

use super::*;

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
