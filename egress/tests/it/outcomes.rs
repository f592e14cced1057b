//! From an answer to a settlement (D-04).

use std::time::Duration;

use zen_compile::{Destination, Target};
use zen_link::frame::Lease;
use zen_model::observe::Observation;
use zen_model::settle::{Class, ReleaseReason};
use zen_model::{DeadReason, Settlement};
use zen_testkit::{Answer, Upstream};

use crate::fixture::{Bench, destination, lease, leases, snapshot};

#[tokio::test]
async fn answers_become_settlements_attempts_observations_and_metrics() {
    let upstream = Upstream::http().await;
    let mut bench = Bench::new(vec![Destination { concurrency: 1, ..destination("ci", &upstream) }]);
    for status in [200, 500, 404, 410, 429] {
        upstream.then(Answer::status(status).body("the response"));
    }
    bench.lease(leases("ci", 0..5)).await;
    let settled = bench.settled(5).await;
    assert_eq!(settled[0], Settlement::Ack);
    assert!(matches!(settled[1], Settlement::Retry { after } if after <= Duration::from_millis(1200)));
    assert_eq!(settled[2], Settlement::Dead { reason: DeadReason::Rejected });
    assert_eq!(settled[3], Settlement::Dead { reason: DeadReason::Gone });
    assert!(matches!(settled[4], Settlement::Retry { after } if after >= Duration::from_secs(24)));
    let attempt = bench.settled[2].2.clone().expect("an attempt");
    assert_eq!((attempt.class, attempt.status, &attempt.response[..]), (Class::Rejected, 404, &b"the response"[..]));
    assert_eq!(bench.watch.0.lock().expect("no panic").len(), 5);
    let metrics = bench.metrics();
    for line in [
        r#"zen_egress_attempts_total{destination="team-a/ci",class="delivered"} 1"#,
        r#"zen_egress_attempts_total{destination="team-a/ci",class="rejected"} 1"#,
        "zen_egress_attempt_seconds_count 5",
        "zen_egress_attempts_in_flight 0",
        "zen_egress_dead_letters_total 2",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let problems = zen_runtime::metrics::problems(&metrics);
    assert!(problems.is_empty(), "{problems:?}");
    bench.hang_up().await;
}

#[tokio::test]
async fn the_last_attempt_ends_in_the_dead_letters() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::status(500));
    let mut bench = Bench::new(vec![destination("ci", &upstream)]);
    bench.lease(vec![Lease { attempts: 4, first_attempt: 1, ..lease("ci", 1) }]).await;
    assert_eq!(bench.settled(1).await, [Settlement::Dead { reason: DeadReason::AttemptsExhausted }]);
    let watched = bench.watch.0.lock().expect("no panic").remove(0);
    assert!(
        matches!(watched, Observation::Attempted { attempt: 5, status: 500, dead: Some(_), retry_in: None, .. }),
        "{watched:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_attempted_goes_back_uncharged() {
    let upstream = Upstream::http().await;
    let no_endpoints = Target::Service {
        tls: false,
        host: "ci.team-a.svc".into(),
        port: 80,
        addresses: [].into(),
        path_and_query: "/".into(),
    };
    let mut bench = Bench::new(vec![
        Destination { paused: true, ..destination("paused", &upstream) },
        Destination { target: no_endpoints, ..destination("empty", &upstream) },
    ]);
    bench.lease(vec![lease("paused", 0), lease("empty", 1), lease("unknown", 2)]).await;
    let reasons: Vec<_> = bench
        .settled(3)
        .await
        .into_iter()
        .map(|settlement| match settlement {
            Settlement::Release { reason, after } => (reason, after >= Duration::from_secs(1)),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [ReleaseReason::Held, ReleaseReason::Held, ReleaseReason::OurFault];
    assert_eq!(reasons, expected.map(|reason| (reason, true)));
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_new_configuration_is_used_at_once() {
    let (old, new) = (Upstream::http().await, Upstream::http().await);
    let mut bench = Bench::new(vec![destination("ci", &old)]);
    bench.lease(vec![lease("ci", 0)]).await;
    bench.settled(1).await;
    bench.snapshot.store(snapshot(2, vec![Destination { revision: 2, ..destination("ci", &new) }]).into());
    bench.lease(vec![lease("ci", 1)]).await;
    bench.settled(2).await;
    assert_eq!((old.received().len(), new.received().len()), (1, 1));
}
