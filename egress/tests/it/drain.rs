//! The end of the process and the end of a session.

use std::time::Duration;

use zen_compile::Destination;
use zen_model::settle::ReleaseReason;
use zen_model::{DeadReason, Settlement};
use zen_testkit::{Answer, FrozenClock, Gate, Upstream};

use crate::fixture::{Bench, destination, lease, leases};

const DRAINED: Settlement = Settlement::Release { after: Duration::ZERO, reason: ReleaseReason::Drain };

#[tokio::test]
async fn finishes_what_is_in_flight_and_gives_back_the_rest() {
    let upstream = Upstream::http().await;
    let gate = Gate::closed();
    upstream.always(Answer::status(200).when(&gate));
    let mut bench = Bench::new(vec![destination("ci", &upstream)]);
    bench.lease(leases("ci", 0..10)).await;
    upstream.wait_for(4).await;
    bench.shutdown.cancel();
    assert_eq!(bench.settled(6).await, vec![DRAINED; 6]);
    assert!(bench.draining);
    bench.lease(vec![lease("ci", 10)]).await;
    assert_eq!(bench.settled(7).await, vec![DRAINED; 7], "what comes too late goes back too");
    gate.open();
    let settled = bench.settled(11).await;
    assert_eq!(settled.iter().filter(|settlement| **settlement == Settlement::Ack).count(), 4);
    bench.hang_up().await;
}

#[tokio::test]
async fn the_limit_ends_what_hangs() {
    for (idempotent, expected) in [(true, DRAINED), (false, Settlement::Dead { reason: DeadReason::Ambiguous })] {
        let upstream = Upstream::http().await;
        upstream.always(Answer::never());
        let clock = FrozenClock::new();
        let mut bench = Bench::new(vec![Destination { idempotent, ..destination("ci", &upstream) }]);
        bench.lease(vec![lease("ci", 1)]).await;
        if !idempotent {
            while bench.begun.is_empty() {
                assert!(bench.read().await);
            }
            let proceed = bench.begun.clone();
            bench.send(zen_link::frame::FromIngester { proceed, ..Default::default() }).await;
        }
        upstream.wait_for(1).await;
        bench.shutdown.cancel();
        clock.advance(Duration::from_secs(9)).await;
        assert!(bench.settled.is_empty());
        clock.advance(Duration::from_secs(2)).await;
        assert_eq!(bench.settled(1).await, [expected]);
        bench.hang_up().await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_lost_session_stops_its_attempts_and_forgets_what_waits() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::never());
    let mut bench = Bench::new(vec![destination("ci", &upstream)]);
    bench.lease(leases("ci", 0..10)).await;
    upstream.wait_for(4).await;
    bench.to_egress = None;
    while bench.read().await {}
    assert!(bench.settled.is_empty(), "they are somebody else's now");
    while !bench.metrics().contains("zen_egress_attempts_in_flight 0") {
        tokio::task::yield_now().await;
    }
    assert_eq!(upstream.received().len(), 4, "none of those that waited was sent");
}
