//! Where a Webhook is served, and what is said of its sources.

use super::*;

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
