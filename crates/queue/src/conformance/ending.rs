use super::prelude::*;

pub(super) async fn an_acknowledged_delivery_is_gone(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    ack(&*queue, leased.token).await;
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").leased, queue.stats().bytes), (0, 0, 0));
    queue.close().await;
    let queue = store.open().await;
    assert!(queue.due().is_empty());
    assert!(lease(&*queue, "ci", 9).await.is_empty());
}

pub(super) async fn a_retry_is_due_after_its_time_and_charged(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    accept(&*queue, entry("e2", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    retry(&*queue, leased.token, 10).await;
    assert_eq!((of(&*queue, "ci").retrying, of(&*queue, "ci").waiting), (1, 2));
    assert_eq!(lease_one(&*queue, "ci").await.event.id, "e2", "others go on");
    pass(&*queue, Duration::from_secs(9)).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    pass(&*queue, Duration::from_secs(1)).await;
    let again = lease_one(&*queue, "ci").await;
    assert_eq!((again.event.id.as_str(), again.attempts), ("e1", 1));
    let first = again.first_attempt.expect("there was one");
    retry(&*queue, again.token, 20).await;
    pass(&*queue, Duration::from_secs(21)).await;
    let third = lease(&*queue, "ci", 9).await;
    let third = third.iter().find(|leased| leased.event.id == "e1").expect("due");
    assert_eq!((third.attempts, third.first_attempt), (2, Some(first)), "the first attempt stays the first");
}

pub(super) async fn a_retry_survives_a_restart(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    retry(&*queue, leased.token, 10).await;
    queue.close().await;
    let queue = store.open().await;
    assert!(lease(&*queue, "ci", 9).await.is_empty(), "not due yet");
    assert_eq!(of(&*queue, "ci").retrying, 1);
    // The wall clock stood still while the test's clock ran: at most the whole wait is left.
    pass(&*queue, Duration::from_secs(11)).await;
    assert_eq!(lease_one(&*queue, "ci").await.attempts, 1);
}

pub(super) async fn a_release_is_not_charged(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    release(&*queue, leased.token, 0).await;
    let leased = lease_one(&*queue, "ci").await;
    assert_eq!(leased.attempts, 0);
    release(&*queue, leased.token, 5).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    pass(&*queue, Duration::from_secs(5)).await;
    let leased = lease_one(&*queue, "ci").await;
    assert_eq!((leased.attempts, leased.first_attempt), (0, None));
    retry(&*queue, leased.token, 1).await;
    pass(&*queue, Duration::from_secs(1)).await;
    let leased = lease_one(&*queue, "ci").await;
    release(&*queue, leased.token, 0).await;
    assert_eq!(lease_one(&*queue, "ci").await.attempts, 1, "what was charged before stays charged");
}

/// DESIGN 2.
pub(super) async fn stale_ends_are_ignored_but_an_ack_counts(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let first = lease_one(&*queue, "ci").await;
    queue.abandon(&[first.token]);
    drain(&*queue).await;
    let second = lease_one(&*queue, "ci").await;
    retry(&*queue, first.token, 60).await;
    kill(&*queue, first.token).await;
    release(&*queue, first.token, 0).await;
    assert_eq!((of(&*queue, "ci").leased, of(&*queue, "ci").dead), (1, 0), "the second lease stands");
    ack(&*queue, first.token).await;
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").leased), (0, 0), "the target did get it");
    kill(&*queue, second.token).await;
    ack(&*queue, second.token).await;
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").dead, queue.stats().bytes), (0, 0, 0));
    // The same while it waits in back-off.
    accept(&*queue, entry("e2", &["ci"])).await;
    let first = lease_one(&*queue, "ci").await;
    queue.abandon(&[first.token]);
    drain(&*queue).await;
    ack(&*queue, first.token).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    assert_eq!(of(&*queue, "ci").waiting, 0);
}

pub(super) async fn an_ack_counts_even_after_death(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    let begun = queue.begin(vec![leased.token]).await.expect("begins");
    assert_eq!(begun, [leased.token]);
    queue.abandon(&[leased.token]);
    drain(&*queue).await;
    assert_eq!(of(&*queue, "ci").dead, 1, "ambiguous");
    ack(&*queue, leased.token).await;
    assert_eq!((of(&*queue, "ci").dead, queue.stats().bytes), (0, 0), "not ambiguous after all");
}

pub(super) async fn settling_twice_is_once(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci", "audit"])).await;
    let leased = lease_one(&*queue, "ci").await;
    let twice = [0, 1].map(|_| Settled { token: leased.token, settlement: Settlement::Ack, attempt: None });
    queue.settle(twice.to_vec()).await.expect("settles");
    ack(&*queue, leased.token).await;
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "audit").waiting), (0, 1));
    assert_eq!(lease_one(&*queue, "audit").await.event.id, "e1", "the event is still there for the other");
}
