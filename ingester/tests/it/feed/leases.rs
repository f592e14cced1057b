//! What is leased, and how much of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn leases_are_signed_records_as_they_were_committed() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"one");
    let leases = egress.take().await;
    let [lease] = leases.as_slice() else { panic!("{leases:?}") };
    let event = Event::decode(lease.record.clone()).unwrap();
    assert_eq!((lease.destination.as_str(), event.body.as_ref()), ("a/ci", &b"one"[..]));
    let now = Timestamp::now();
    keys().verify(&lease.signature, &event.id, &event.content_hash, now, Duration::from_mins(1)).expect("verifies");
    egress.ack(&leases).await;
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.intake.queue.open("a/ci"), 0);
}

/// D-10: a target that hangs fills its own lane and moves nobody else, however much waits for it.
#[tokio::test(start_paused = true)]
async fn a_hanging_destination_takes_no_lease_of_another() {
    let hanging = (0..5).map(|n| sample(&format!("hang-{n}"), |d| d.concurrency = 64));
    let fed = Fed::with(hanging.chain([sample("good", |d| d.concurrency = 8)]));
    for n in 0..5 {
        for _ in 0..500 {
            fed.intake.queue.put("a", &[&format!("a/hang-{n}")], b"x");
        }
    }
    let mut egress = fed.connect(1024);
    let held = egress.held().await;
    assert_eq!(held.values().copied().collect::<Vec<_>>(), [128; 5], "two leases for each slot: {held:?}");
    // The sixth comes last and finds all the room it can use, wave after wave, while the others hang.
    for _ in 0..10 {
        for _ in 0..8 {
            fed.intake.queue.put("a", &["a/good"], b"x");
        }
        let leases = egress.take().await;
        assert_eq!(leases.iter().filter(|lease| lease.destination == "a/good").count(), 8);
        assert_eq!(leases.len(), 8, "and nothing of the others comes in between");
        egress.ack(&leases).await;
    }
    egress.take().await;
    assert_eq!(fed.intake.queue.open("a/good"), 0);
}

/// Even with a window of two that hanging lanes use up, each lane gets one lease beyond it.
#[tokio::test(start_paused = true)]
async fn a_full_window_still_lets_every_destination_go_on() {
    let fed = Fed::with(["h1", "h2", "h3", "good"].map(|name| sample(name, |_| {})));
    let mut egress = fed.connect(2);
    for name in ["a/h1", "a/h2", "a/h3"] {
        for _ in 0..10 {
            fed.intake.queue.put("a", &[name], b"x");
        }
    }
    assert!(egress.held().await.values().all(|count| *count <= 2));
    for _ in 0..5 {
        fed.intake.queue.put("a", &["a/good"], b"x");
    }
    for _ in 0..5 {
        let leases: Vec<_> = egress.take().await.into_iter().filter(|l| l.destination == "a/good").collect();
        assert_eq!(leases.len(), 1, "one at a time");
        egress.ack(&leases).await;
    }
    egress.take().await;
    assert_eq!(fed.intake.queue.open("a/good"), 0);
}

#[tokio::test(start_paused = true)]
async fn concurrency_bounds_the_leases_and_settlements_free_them() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 4)]);
    let mut egress = fed.connect(1000);
    for _ in 0..20 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let leases = egress.take().await;
    assert_eq!(leases.len(), 8, "two for each slot");
    egress.ack(&leases[..4]).await;
    assert_eq!(egress.take().await.len(), 4);
}

/// Leases go out in batches: a backlog costs few calls to the queue.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_leased_in_batches() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 1000)]);
    for _ in 0..5000 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let mut egress = fed.connect(10_000);
    while fed.intake.queue.open("a/ci") > 0 {
        let leases = egress.take().await;
        egress.ack(&leases).await;
        egress.take().await;
        let rest = std::mem::take(&mut egress.leases);
        egress.ack(&rest).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let calls = fed.intake.queue.with(|state| state.lease_calls);
    assert!(calls < 100, "{calls} calls for 5000 events");
}
