//! Connections are reused, and a stale one does no harm (D-10).

use std::sync::Arc;
use std::time::Duration;

use zen_compile::Destination;
use zen_model::settle::Class;
use zen_testkit::{Answer, FrozenClock, Gate, TestCa, Upstream};

use crate::fixture::{NOW, deliverer, event, plain, prepare, secure};

#[tokio::test]
async fn one_connection_carries_many_deliveries() {
    let ca = TestCa::new();
    let upstream = Upstream::https(&ca, &["localhost"]).await;
    upstream.always(Answer::status(200).body("ok"));
    let prepared = prepare(secure(&upstream, &ca));
    for _ in 0..50 {
        assert_eq!(deliverer().attempt(&prepared, &event(), NOW).await.class, Class::Delivered);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn at_most_concurrency_connections_stay_idle() {
    let upstream = Upstream::http().await;
    let gate = Gate::closed();
    upstream.always(Answer::status(200).when(&gate));
    let prepared = Arc::new(prepare(Destination { concurrency: 2, ..plain(&upstream) }));
    let running: Vec<_> = (0..5)
        .map(|_| {
            let prepared = Arc::clone(&prepared);
            tokio::spawn(async move { deliverer().attempt(&prepared, &event(), NOW).await.class })
        })
        .collect();
    upstream.wait_for(5).await;
    gate.open();
    for task in running {
        assert_eq!(task.await.expect("no panic"), Class::Delivered);
    }
    let again: Vec<_> = (0..3).map(|_| deliverer()).collect();
    for deliverer in again {
        assert_eq!(deliverer.attempt(&prepared, &event(), NOW).await.class, Class::Delivered);
    }
    assert_eq!(upstream.connections(), 5, "two were kept, and one was enough");
}

#[tokio::test]
async fn a_connection_that_the_target_closed_is_not_used_again() {
    for idempotent in [true, false] {
        let upstream = Upstream::http().await;
        upstream.always(Answer::status(200).then_close());
        let prepared = prepare(Destination { idempotent, ..plain(&upstream) });
        for round in 1..=5 {
            let result = deliverer().attempt(&prepared, &event(), NOW).await;
            assert_eq!(result.class, Class::Delivered, "round {round}: {:?}", result.fault);
        }
        assert_eq!(upstream.received().len(), 5, "none was sent twice");
        prepared.sweep();
    }
}

#[tokio::test]
async fn an_idle_connection_ends_sooner_where_a_repeat_does_harm() {
    for (idempotent, connections) in [(true, 1), (false, 2)] {
        let upstream = Upstream::http().await;
        let prepared = prepare(Destination { idempotent, ..plain(&upstream) });
        let clock = FrozenClock::new();
        deliverer().attempt(&prepared, &event(), NOW).await;
        clock.advance(Duration::from_secs(3)).await;
        deliverer().attempt(&prepared, &event(), NOW).await;
        assert_eq!(upstream.connections(), connections);
        clock.advance(Duration::from_mins(2)).await;
        deliverer().attempt(&prepared, &event(), NOW).await;
        assert_eq!(upstream.connections(), connections + 1, "past the idle timeout");
        tokio::time::resume();
    }
}
