//! `idempotent: false`: nothing is sent before the begin is durable (D-04).

use zen_compile::Destination;
use zen_link::frame::FromIngester;
use zen_model::{DeadReason, Settlement};
use zen_testkit::{Answer, Upstream};

use crate::fixture::{Bench, destination, lease};

async fn bench(upstream: &Upstream) -> Bench {
    let mut bench = Bench::new(vec![Destination { idempotent: false, ..destination("ci", upstream) }]);
    bench.lease(vec![lease("ci", 1)]).await;
    while bench.begun.is_empty() {
        assert!(bench.read().await);
    }
    assert_eq!(upstream.connections(), 0, "nothing is sent before the word of the ingester");
    bench
}

#[tokio::test]
async fn proceeds_when_the_ingester_says_so() {
    let upstream = Upstream::http().await;
    let mut bench = bench(&upstream).await;
    bench.send(FromIngester { proceed: bench.begun.clone(), ..FromIngester::default() }).await;
    assert_eq!(bench.settled(1).await, [Settlement::Ack]);
}

#[tokio::test]
async fn an_unknown_end_is_ambiguous() {
    let upstream = Upstream::http().await;
    upstream.then(Answer::close());
    let mut bench = bench(&upstream).await;
    bench.send(FromIngester { proceed: bench.begun.clone(), ..FromIngester::default() }).await;
    assert_eq!(bench.settled(1).await, [Settlement::Dead { reason: DeadReason::Ambiguous }]);
}

#[tokio::test]
async fn a_refused_begin_is_dropped_without_a_word() {
    let upstream = Upstream::http().await;
    let mut bench = bench(&upstream).await;
    bench.send(FromIngester { refused: bench.begun.clone(), ..FromIngester::default() }).await;
    bench.shutdown.cancel();
    while bench.from_egress.recv().await.inspect(|frame| assert!(frame.settled.is_empty())).is_some() {}
    assert_eq!(upstream.connections(), 0);
}
