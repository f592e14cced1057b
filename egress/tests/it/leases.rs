//! Leases are renewed while they are held, and bounded.

use std::time::Duration;

use zen_compile::Destination;
use zen_model::Settlement;
use zen_model::settle::ReleaseReason;
use zen_testkit::{Answer, FrozenClock, Gate, Upstream};

use crate::fixture::{Bench, destination, lease, leases};

#[tokio::test]
async fn renewed_at_a_third_of_the_term_while_in_flight_or_waiting() {
    let upstream = Upstream::http().await;
    let gate = Gate::closed();
    upstream.always(Answer::status(200).when(&gate));
    let clock = FrozenClock::new();
    let one_slot =
        Destination { concurrency: 1, request_timeout: Duration::from_hours(1), ..destination("ci", &upstream) };
    let mut bench = Bench::new(vec![one_slot]);
    bench.lease(vec![lease("ci", 1), lease("ci", 2)]).await;
    upstream.wait_for(1).await;
    // 200 s, three times the term, in steps of 5 s.
    for _ in 0..40 {
        clock.advance(Duration::from_secs(5)).await;
        bench.read_what_is_there();
    }
    // A look every 10 s finds what is older than 20 s; timers may be one look late.
    assert!((12..=20).contains(&bench.renewed.len()), "{} renewals of two leases", bench.renewed.len());
    gate.open();
    assert_eq!(bench.settled(2).await, [Settlement::Ack, Settlement::Ack], "200 s on, both are still ours");
}

#[tokio::test]
async fn a_peer_that_ignores_the_window_gets_the_surplus_back() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::never());
    let mut bench = Bench::new(vec![destination("ci", &upstream)]);
    bench.lease(leases("ci", 0..250)).await;
    let settled = bench.settled(50).await;
    let overload = |settlement: &Settlement| matches!(settlement, Settlement::Release { reason: ReleaseReason::Overload, after } if !after.is_zero());
    assert!(settled.iter().all(overload));
}
