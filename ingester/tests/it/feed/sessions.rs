//! Sessions that end, are lost, drain or say nonsense.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_gives_its_leases_back_at_once() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut first = fed.connect(1000);
    for _ in 0..3 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let lost = first.take().await;
    assert_eq!(lost.len(), 3);
    drop(first);
    let mut second = fed.connect(1000);
    let again = second.take().await;
    assert_eq!(again.len(), 3, "delivered again without waiting for the term");
    assert!(tokens(&again).iter().all(|token| !tokens(&lost).contains(token)), "under new leases");
    assert_eq!(fed.intake.queue.with(|state| state.deliveries.values().map(|d| d.lost).sum::<u32>()), 3);
    // Late words: a stale retry is ignored, a stale ack counts.
    second.settle(&lost[..1], &Settlement::Ack, None).await;
    second.settle(&lost[1..2], &Settlement::Dead { reason: DeadReason::Rejected }, None).await;
    second.take().await;
    assert_eq!((fed.intake.queue.open("a/ci"), fed.intake.queue.dead("a/ci").len()), (2, 0));
}

/// D-04, D-02: a line that breaks says nothing about the events; egresses that never come back do.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_poison_where_egresses_die_with_it_and_not_where_a_line_breaks() {
    let fed = Fed::with([sample("ci", |_| {})]);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let broken = async |incarnation| {
        let mut egress = fed.connect_again(incarnation);
        assert_eq!(egress.take().await.len(), 1, "due again at once");
        drop(egress);
    };
    for _ in 0..3 * MAX_LOST_LEASES {
        broken(7).await;
    }
    for incarnation in 8..8 + u64::from(MAX_LOST_LEASES) {
        broken(incarnation).await;
    }
    assert_eq!(fed.connect_again(100).take().await.len(), 0, "the sixth, the first included, that did not come back");
    assert_eq!(fed.intake.queue.dead("a/ci"), [DeadReason::Poison]);
}

/// A silent egress loses its leases to time, a renewing one keeps them.
#[tokio::test(start_paused = true)]
async fn leases_expire_unless_renewed() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(20)).await;
        egress.sender.send(FromEgress { renew: tokens(&leases), ..FromEgress::default() }).await.unwrap();
        assert!(egress.take().await.is_empty(), "renewed");
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(egress.take().await.len(), 1, "expired and leased again");
}

#[tokio::test(start_paused = true)]
async fn begin_is_durable_before_proceed_and_stale_ones_are_refused() {
    let fed = Fed::with([sample("ci", |d| d.idempotent = false)]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    let stale = Token { lease: 99, ..leases[0].token };
    let begin = vec![leases[0].token, stale];
    egress.sender.send(FromEgress { begin, ..FromEgress::default() }).await.unwrap();
    let mut answers = FromIngester::default();
    for _ in 0..2 {
        let frame = egress.frames.recv().await.unwrap();
        answers.proceed.extend(frame.proceed);
        answers.refused.extend(frame.refused);
    }
    assert_eq!((answers.proceed, answers.refused), (vec![leases[0].token], vec![stale]));
    assert_eq!(fed.intake.queue.with(|state| state.begun.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_draining_egress_gets_nothing_more_and_another_takes_over() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut first = fed.connect(1000);
    first.sender.send(FromEgress { draining: true, ..FromEgress::default() }).await.unwrap();
    first.take().await;
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert!(first.take().await.is_empty());
    let mut second = fed.connect(1000);
    assert_eq!(second.take().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_settlement_ends_the_session() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    let settled = vec![Settled { token: leases[0].token, kind: 77, ..Settled::default() }];
    egress.sender.send(FromEgress { settled, ..FromEgress::default() }).await.unwrap();
    assert!(egress.frames.recv().await.is_none(), "the stream ends");
    assert_eq!(fed.connect(1000).take().await.len(), 1);
}

/// The drain of the feed: no new leases, settlements are still taken, then it ends.
#[tokio::test(start_paused = true)]
async fn the_drain_waits_for_settlements() {
    let intake = Intake::start((snapshot([sample("ci", |_| {})]), Vec::new()), Limits::default(), None);
    let (handle, dispatcher) = intake.ingester.feed(intake.shutdown.clone());
    let running = tokio::spawn(dispatcher);
    let fed = Fed { intake, handle };
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    fed.intake.shutdown.cancel();
    fed.intake.queue.put("a", &["a/ci"], b"late");
    assert!(egress.take().await.is_empty(), "nothing new");
    assert!(!running.is_finished());
    egress.ack(&leases).await;
    running.await.unwrap();
    assert_eq!(fed.intake.queue.open("a/ci"), 1, "what is left stays for the next start");
}
