//! Several egress sessions on one feed: slots divided among them, leases balanced, a session that dies or drains, and the
//! two carriers (D-02, D-10).

use std::collections::BTreeMap;

use zen_compile::DeliveryMode;
use zen_ingester::feed::Carrier;
use zen_link::frame::FromEgress;

use crate::feed::{Fed, sample};

/// D-10: `concurrency` is what the target sees, over all egress replicas together, and each lease says its part of it.
#[tokio::test(start_paused = true)]
async fn concurrency_is_divided_among_the_sessions() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 6), sample("one", |d| d.concurrency = 1)]);
    let mut sessions = ["egress-a", "egress-b"].map(|name| fed.connect_as(Carrier::Link, name, 1000));
    for _ in 0..100 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
        fed.intake.queue.put("a", &["a/one"], b"x");
    }
    let mut slots = BTreeMap::<_, Vec<u32>>::new();
    let mut held = BTreeMap::<_, Vec<usize>>::new();
    for session in &mut sessions {
        for (destination, count) in session.held().await {
            held.entry(destination.clone()).or_default().push(count);
            let lease = session.leases.iter().find(|lease| lease.destination == destination).unwrap();
            slots.entry(destination).or_default().push(lease.slots);
        }
    }
    assert_eq!(slots, BTreeMap::from([("a/ci".into(), vec![3, 3]), ("a/one".into(), vec![1])]));
    assert_eq!(held, BTreeMap::from([("a/ci".into(), vec![6, 6]), ("a/one".into(), vec![2])]), "two for each slot");
}

/// Sessions that answer alike get alike, whether there is much to do or little.
#[tokio::test(start_paused = true)]
async fn leases_are_balanced() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 16)]);
    let mut sessions = ["a", "b", "c"].map(|name| fed.connect_as(Carrier::Link, name, 1000));
    for burst in [1, 1000] {
        let mut counts = [0; 3];
        for _ in 0..3000 / burst {
            for _ in 0..burst {
                fed.intake.queue.put("a", &["a/ci"], b"x");
            }
            while fed.intake.queue.open("a/ci") > 0 {
                for (session, count) in sessions.iter_mut().zip(&mut counts) {
                    let leases = session.take().await;
                    *count += leases.len();
                    session.ack(&leases).await;
                }
            }
        }
        assert_eq!(counts.iter().sum::<usize>(), 3000);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "bursts of {burst}: {counts:?}");
    }
}

/// A session that dies gives its leases back at once, and the others take them and its slots.
#[tokio::test(start_paused = true)]
async fn a_lost_session_is_taken_over_at_once() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 4)]);
    let mut left = fed.connect_as(Carrier::Link, "left", 1000);
    let mut lost = fed.connect_as(Carrier::Link, "lost", 1000);
    for _ in 0..8 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    assert_eq!((left.take().await.len(), lost.take().await.len()), (4, 4));
    drop(lost);
    let again = left.take().await;
    assert_eq!(again.len(), 4, "in the same instant: no lease had to end");
    assert!(again.iter().all(|lease| lease.slots == 4), "and with all slots");
}

/// A session that drains gets nothing more; what it gives back goes to the others.
#[tokio::test(start_paused = true)]
async fn a_draining_session_hands_its_slots_on() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 4)]);
    let mut stays = fed.connect_as(Carrier::Link, "stays", 1000);
    let mut drains = fed.connect_as(Carrier::Link, "drains", 1000);
    drains.sender.send(FromEgress { draining: true, ..FromEgress::default() }).await.unwrap();
    stays.take().await;
    for _ in 0..8 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let leases = stays.take().await;
    assert_eq!((leases.len(), leases[0].slots), (8, 4));
    assert!(drains.take().await.is_empty());
}

/// D-02: what is for mode `Direct` stays in this process, what is for `Egress` goes over the link, and nothing goes where
/// there is no such session.
#[tokio::test(start_paused = true)]
async fn each_mode_has_its_carrier() {
    let direct = sample("direct", |d| (d.mode, d.concurrency) = (DeliveryMode::Direct, 8));
    let fed = Fed::with([direct, sample("linked", |d| d.concurrency = 8)]);
    for name in ["a/direct", "a/linked"] {
        for _ in 0..4 {
            fed.intake.queue.put("a", &[name], b"x");
        }
    }
    let mut own = fed.connect_as(Carrier::InProcess, "own", 1000);
    assert_eq!(own.held().await, BTreeMap::from([("a/direct".into(), 4)]));
    let mut linked = fed.connect_as(Carrier::Link, "egress", 1000);
    assert_eq!(linked.held().await, BTreeMap::from([("a/linked".into(), 4)]));
    assert!(own.take().await.is_empty());
}

/// Replicas divide what each delivers by itself; none goes without.
#[tokio::test(start_paused = true)]
async fn direct_concurrency_is_divided_among_the_replicas() {
    let direct =
        |name: &str, concurrency| sample(name, |d| (d.mode, d.concurrency) = (DeliveryMode::Direct, concurrency));
    let fed = Fed::with([direct("many", 9), direct("one", 1)]);
    fed.handle.replicas(2);
    for _ in 0..50 {
        fed.intake.queue.put("a", &["a/many", "a/one"], b"x");
    }
    let mut own = fed.connect_as(Carrier::InProcess, "own", 1000);
    assert_eq!(own.held().await, BTreeMap::from([("a/many".into(), 8), ("a/one".into(), 2)]));
    let slots = |name: &str| own.leases.iter().find(|lease| lease.destination == name).unwrap().slots;
    assert_eq!((slots("a/many"), slots("a/one")), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_paused_feed_grants_nothing_and_goes_on_afterwards() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let before = egress.take().await;
    assert_eq!(before.len(), 1);
    fed.handle.pause(true);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert!(egress.take().await.is_empty());
    egress.ack(&before).await;
    assert!(egress.take().await.is_empty(), "what is out is settled");
    assert_eq!(fed.intake.queue.open("a/ci"), 1);
    fed.handle.pause(false);
    assert_eq!(egress.take().await.len(), 1);
}
