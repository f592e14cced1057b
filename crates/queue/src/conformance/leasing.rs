use std::collections::BTreeSet;

use super::prelude::*;

pub(super) async fn oldest_first_up_to_count_and_bytes(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for n in 0..10 {
        accept(&*queue, entry(&format!("e{n}"), &["ci"])).await;
    }
    let ids = |leased: &[Leased]| leased.iter().map(|leased| leased.event.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&lease(&*queue, "ci", 3).await), ["e0", "e1", "e2"]);
    let demand = |max_bytes| Demand { destination: key("ci"), max: 100, max_bytes, term: TERM };
    assert_eq!(ids(&queue.lease(demand(1)).await.expect("leases")), ["e3"], "at least one");
    let size = usize::try_from(queue.stats().bytes / 10).expect("fits");
    assert_eq!(ids(&queue.lease(demand(2 * size)).await.expect("leases")), ["e4", "e5"]);
    assert_eq!(lease(&*queue, "ci", 100).await.len(), 4);
    assert!(lease(&*queue, "ci", 100).await.is_empty());
    assert!(lease(&*queue, "unknown", 100).await.is_empty());
}

pub(super) async fn what_is_leased_is_not_leased_again(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for n in 0..200 {
        accept(&*queue, entry(&format!("e{n}"), &["ci"])).await;
    }
    let takers = (0..10).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { lease(&*queue, "ci", 30).await })
    });
    let mut tokens = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        tokens.extend(taker.await.expect("ends").into_iter().map(|leased| leased.token));
    }
    assert_eq!(tokens.len(), 200);
    assert_eq!(tokens.iter().map(|token| token.delivery).collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(tokens.iter().map(|token| token.lease).collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(of(&*queue, "ci").leased, 200);
}

pub(super) async fn an_expired_lease_is_due_again_and_not_charged(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let first = lease_one(&*queue, "ci").await;
    pass(&*queue, TERM.saturating_sub(Duration::from_secs(1))).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    assert!(queue.due().is_empty());
    pass(&*queue, Duration::from_secs(1)).await;
    assert_eq!(queue.due(), [key("ci")]);
    let second = lease_one(&*queue, "ci").await;
    assert_eq!((second.attempts, second.token.delivery), (0, first.token.delivery));
    assert_ne!(second.token.lease, first.token.lease);
}

pub(super) async fn a_renewed_lease_does_not_expire(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    for _ in 0..9 {
        pass(&*queue, TERM / 3).await;
        queue.renew(&[leased.token, LeaseToken { lease: 1, ..leased.token }]);
    }
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    ack(&*queue, leased.token).await;
    assert_eq!(of(&*queue, "ci").waiting, 0);
}

pub(super) async fn an_abandoned_lease_is_due_at_once(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for n in 0..3 {
        accept(&*queue, entry(&format!("e{n}"), &["ci"])).await;
    }
    let tokens: Vec<_> = lease(&*queue, "ci", 3).await.iter().map(|leased| leased.token).collect();
    queue.abandon(&tokens[..2]);
    drain(&*queue).await;
    let again = lease(&*queue, "ci", 9).await;
    assert_eq!(again.iter().map(|leased| leased.event.id.as_str()).collect::<Vec<_>>(), ["e0", "e1"]);
    assert!(again.iter().all(|leased| leased.attempts == 0));
    ack(&*queue, tokens[2]).await;
    assert_eq!(of(&*queue, "ci").waiting, 2);
}

pub(super) async fn leases_end_with_the_process(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let before = lease_one(&*queue, "ci").await;
    queue.close().await;
    let queue = store.open().await;
    assert_eq!(queue.due(), [key("ci")]);
    let after = lease_one(&*queue, "ci").await;
    assert_ne!(after.token.lease, before.token.lease, "a number never repeats");
    retry(&*queue, before.token, 60).await;
    assert_eq!(of(&*queue, "ci").leased, 1, "a settlement from before is stale");
    ack(&*queue, after.token).await;
    assert_eq!(of(&*queue, "ci").waiting, 0);
}

pub(super) async fn a_long_line_is_delivered_in_order_and_once(store: Arc<dyn Store>) {
    const COUNT: usize = 12_000;
    let queue = store.open().await;
    let mut sent = tokio::task::JoinSet::new();
    for n in 0..COUNT {
        let (queue, entry) = (Arc::clone(&queue), entry(&format!("e{n}"), &["ci"]));
        sent.spawn(async move { accept(&*queue, entry).await });
        if sent.len() >= 256 {
            sent.join_next().await.expect("one").expect("accepted");
        }
    }
    while sent.join_next().await.is_some() {}
    let mut last = 0;
    let mut seen = BTreeSet::new();
    let mut released = 0;
    while seen.len() < COUNT {
        let leased = lease(&*queue, "ci", 700).await;
        assert!(!leased.is_empty(), "{} of {COUNT}", seen.len());
        let mut settled = Vec::new();
        for (nth, leased) in leased.into_iter().enumerate() {
            // Some come back at once, and must not be lost or doubled by that.
            if nth % 100 == 99 && released < 50 {
                released += 1;
                release(&*queue, leased.token, 0).await;
                continue;
            }
            assert!(leased.token.delivery.seq > last || released > 0);
            last = leased.token.delivery.seq;
            assert!(seen.insert(leased.event.id.clone()), "{} twice", leased.event.id);
            settled.push(Settled { token: leased.token, settlement: Settlement::Ack, attempt: None });
        }
        queue.settle(settled).await.expect("settles");
    }
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    let stats = queue.stats();
    assert_eq!((stats.bytes, stats.destinations[&key("ci")].waiting), (0, 0));
    assert!(queue.due().is_empty());
}

pub(super) async fn changes_tell_of_commits_and_of_time(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let mut changes = queue.changes();
    changes.mark_unchanged();
    assert!(queue.due().is_empty());
    accept(&*queue, entry("e1", &["ci"])).await;
    changes.changed().await.expect("open");
    assert_eq!(queue.due(), [key("ci")]);
    let leased = lease_one(&*queue, "ci").await;
    assert!(queue.due().is_empty());
    retry(&*queue, leased.token, 40).await;
    drain(&*queue).await;
    assert!(queue.due().is_empty());
    changes.mark_unchanged();
    let began = tokio::time::Instant::now();
    while queue.due().is_empty() {
        changes.changed().await.expect("open");
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(39) && waited < Duration::from_secs(41), "{waited:?}");
}
