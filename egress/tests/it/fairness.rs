//! A hanging target takes no slot of another (D-10).

use std::time::Duration;

use zen_compile::Destination;
use zen_egress::Options;
use zen_model::Settlement;
use zen_testkit::{Answer, FrozenClock, Gate, Upstream};

use crate::fixture::{Bench, destination, leases};

#[tokio::test]
async fn a_hanging_target_does_not_delay_another() {
    let (hanging, healthy) = (Upstream::http().await, Upstream::http().await);
    let clock = FrozenClock::new();
    hanging.always(Answer::never());
    let mut bench = Bench::new(vec![destination("hanging", &hanging), destination("healthy", &healthy)]);
    // Every slot of the one is taken, and more wait behind them, before the other gets anything.
    bench.lease(leases("hanging", 0..40)).await;
    hanging.wait_for(4).await;
    for round in 0..5_u64 {
        let first = 1000 + 20 * round;
        bench.lease(leases("healthy", first..first + 20)).await;
    }
    // The clock stands still: were a slot shared, nothing could ever free it.
    let settled = bench.settled(100).await;
    assert!(settled.iter().all(|settlement| *settlement == Settlement::Ack));
    assert!(bench.settled.iter().all(|(token, ..)| token.seq >= 1000));
    assert_eq!(hanging.received().len(), 4, "its own concurrency bounds it");
    assert_eq!(healthy.received().len(), 100);

    // The timeout frees the slots of the hanging one, and only then do the next ones go.
    clock.advance(Duration::from_secs(31)).await;
    bench.settled(104).await;
    hanging.wait_for(8).await;
    assert_eq!(hanging.received().len(), 8);
}

#[tokio::test]
async fn concurrency_is_reached_and_never_exceeded() {
    let upstream = Upstream::http().await;
    let gate = Gate::closed();
    upstream.always(Answer::status(200).when(&gate));
    let mut bench = Bench::new(vec![Destination { concurrency: 3, ..destination("ci", &upstream) }]);
    bench.lease(leases("ci", 0..30)).await;
    upstream.wait_for(3).await;
    assert!(bench.metrics().contains("zen_egress_attempts_in_flight 3"));
    gate.open();
    bench.settled(30).await;
    assert_eq!(upstream.connections(), 3, "each worker reuses its connection");
}

#[tokio::test]
async fn a_hanging_destination_leaves_slots_of_its_host_to_others() {
    let upstream = Upstream::http().await;
    let clock = FrozenClock::new();
    let gate = Gate::closed();
    let opened = gate.clone();
    upstream.always_with(move |received| match received.header("webhook-name") {
        Some("hanging") => Answer::never(),
        _ => Answer::status(200).when(&opened),
    });
    let named = |name: &'static str, concurrency| Destination {
        set: vec![("webhook-name".parse().expect("a name"), name.parse().expect("a value"))],
        concurrency,
        ..destination(name, &upstream)
    };
    let destinations = vec![named("hanging", 40), named("healthy", 40)];
    let mut bench = Bench::with(destinations, Options { host_concurrency: 8, ..Options::default() });
    bench.lease(leases("hanging", 0..40)).await;
    upstream.wait_for(6).await;
    bench.lease(leases("healthy", 1000..1040)).await;
    upstream.wait_for(8).await;
    assert!(bench.metrics().contains("zen_egress_attempts_in_flight 8"), "the bound of the host (D-10)");
    gate.open();
    // The clock stands still: the hanging ones give nothing back.
    let settled = bench.settled(40).await;
    assert!(settled.iter().all(|settlement| *settlement == Settlement::Ack));
    assert!(bench.settled.iter().all(|(token, ..)| token.seq >= 1000));
    assert_eq!(upstream.received().len(), 6 + 40);

    // Those that wait have not begun: the first timeout ends six attempts, and six begin.
    clock.advance(Duration::from_secs(29)).await;
    assert_eq!(bench.settled.len(), 40);
    clock.advance(Duration::from_secs(2)).await;
    bench.settled(46).await;
    upstream.wait_for(6 + 40 + 6).await;
    clock.advance(Duration::from_secs(15)).await;
    bench.read_what_is_there();
    assert_eq!(bench.settled.len(), 46, "waiting for the host takes no time of the attempt");
}
