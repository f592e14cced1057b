use std::collections::BTreeMap;

use zen_model::Namespace;

use super::prelude::*;
use crate::{DeadLetter, DeliveryId, MAX_LOST_LEASES};

async fn dead(queue: &dyn Queue) -> Vec<DeadLetter> {
    queue.dead_letters(DeadFilter::default()).await.expect("lists")
}

async fn dead_event(queue: &dyn Queue, id: &str, to: &str) -> DeliveryId {
    accept(queue, entry(id, &[to])).await;
    let leased = lease_one(queue, to).await;
    kill(queue, leased.token).await;
    leased.token.delivery
}

/// D-05.
pub(super) async fn a_dead_letter_keeps_the_last_attempt(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    retry(&*queue, leased.token, 1).await;
    pass(&*queue, Duration::from_secs(1)).await;
    let leased = lease_one(&*queue, "ci").await;
    let mut last = attempt(Class::Rejected, 404);
    last.response = Bytes::from(vec![b'x'; 10_000]);
    let reason = DeadReason::AttemptsExhausted;
    settle(&*queue, leased.token, Settlement::Dead { reason }, Some(last)).await;
    queue.close().await;
    let queue = store.open().await;
    let listed = dead(&*queue).await;
    assert_eq!(listed.len(), 1);
    let letter = &listed[0];
    assert_eq!((letter.event.as_str(), letter.reason.as_str()), ("e1", "AttemptsExhausted"));
    assert_eq!((letter.attempts, letter.last_status, letter.last_response.as_deref()), (2, 404, None));
    assert_eq!((&letter.webhook, &letter.destination, letter.r#type.as_str()), (&key("github"), &key("ci"), "push"));
    let (letter, event) = queue.dead_letter(leased.token.delivery).await.expect("reads").expect("there");
    assert_eq!(letter.last_response.map(|response| response.len()), Some(4096), "bounded");
    assert_eq!(event.body, leased.event.body);
    assert!(queue.dead_letter(DeliveryId { seq: 999, destination: 1 }).await.expect("reads").is_none());
}

pub(super) async fn too_many_lost_leases_are_poison(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    for n in 0..=MAX_LOST_LEASES {
        assert_eq!(of(&*queue, "ci").dead, 0, "after {n}");
        let leased = lease_one(&*queue, "ci").await;
        assert_eq!(leased.attempts, 0);
        if n % 2 == 0 {
            queue.abandon(&[leased.token]);
            drain(&*queue).await;
        } else {
            pass(&*queue, TERM).await;
        }
    }
    assert_eq!(dead(&*queue).await.first().map(|letter| letter.reason.clone()), Some("Poison".to_owned()));
    assert!(lease(&*queue, "ci", 9).await.is_empty());
}

/// D-04.
pub(super) async fn begun_and_lost_is_ambiguous(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for id in ["e1", "e2", "e3"] {
        accept(&*queue, entry(id, &["ci"])).await;
    }
    let tokens: Vec<_> = lease(&*queue, "ci", 3).await.iter().map(|leased| leased.token).collect();
    assert_eq!(queue.begin(tokens[..2].to_vec()).await.expect("begins"), tokens[..2]);
    ack(&*queue, tokens[1]).await;
    pass(&*queue, TERM).await;
    let letters = dead(&*queue).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.as_str(), letters[0].reason.as_str()), ("e1", "Ambiguous"));
    assert_eq!(lease_one(&*queue, "ci").await.event.id, "e3", "what had not begun is due again");
}

pub(super) async fn begun_and_restarted_is_ambiguous(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    accept(&*queue, entry("e2", &["ci"])).await;
    let tokens: Vec<_> = lease(&*queue, "ci", 2).await.iter().map(|leased| leased.token).collect();
    queue.begin(tokens.clone()).await.expect("begins");
    // A settlement undoes the mark.
    retry(&*queue, tokens[1], 0).await;
    queue.close().await;
    let queue = store.open().await;
    let letters = dead(&*queue).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.as_str(), letters[0].reason.as_str()), ("e1", "Ambiguous"));
    assert_eq!(lease_one(&*queue, "ci").await.event.id, "e2");
}

pub(super) async fn begin_is_refused_for_a_stale_lease(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let first = lease_one(&*queue, "ci").await;
    queue.abandon(&[first.token]);
    drain(&*queue).await;
    let second = lease_one(&*queue, "ci").await;
    assert_eq!(queue.begin(vec![first.token, second.token]).await.expect("begins"), [second.token]);
}

pub(super) async fn burial_takes_the_whole_line(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for n in 0..1300 {
        accept(&*queue, entry(&format!("e{n}"), &["ci", "audit"])).await;
    }
    let leased = lease(&*queue, "ci", 700).await;
    let retries = leased.iter().map(|leased| Settled {
        token: leased.token,
        settlement: Settlement::Retry { after: Duration::from_mins(1) },
        attempt: None,
    });
    queue.settle(retries.collect()).await.expect("settles");
    let buried = queue.bury(key("ci"), None, DeadReason::DestinationDeleted).await.expect("buries");
    assert_eq!(buried, 1300);
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").dead, of(&*queue, "audit").waiting), (0, 1300, 1300));
    // Whoever buries what is due for a Destination that is gone would never end otherwise.
    assert_eq!(queue.due(), [key("audit")]);
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    accept(&*queue, entry("later", &["ci"])).await;
    assert_eq!(lease_one(&*queue, "ci").await.event.id, "later");
    let unknown = queue.bury(key("unknown"), None, DeadReason::DestinationDeleted).await;
    assert_eq!(unknown.expect("buries"), 0);
}

pub(super) async fn burial_of_one_tenant_leaves_the_others(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for n in 0..20 {
        let mut new = entry(&format!("e{n}"), &["ci"]);
        new.event.namespace = String::from(if n % 2 == 0 { "team-a" } else { "team-b" });
        accept(&*queue, new).await;
    }
    let from = Some(Namespace::from("team-b"));
    assert_eq!(queue.bury(key("ci"), from, DeadReason::ConsentWithdrawn).await.expect("buries"), 10);
    let left = lease(&*queue, "ci", 99).await;
    assert_eq!(left.len(), 10);
    assert!(left.iter().all(|leased| leased.event.namespace == "team-a"));
}

pub(super) async fn burial_dooms_what_is_leased(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    accept(&*queue, entry("e2", &["ci"])).await;
    let tokens: Vec<_> = lease(&*queue, "ci", 2).await.iter().map(|leased| leased.token).collect();
    assert_eq!(queue.bury(key("ci"), None, DeadReason::DestinationDeleted).await.expect("buries"), 0);
    assert!(queue.due().is_empty());
    ack(&*queue, tokens[0]).await;
    release(&*queue, tokens[1], 0).await;
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").dead), (0, 1));
    assert_eq!(dead(&*queue).await[0].reason, "DestinationDeleted");
}

pub(super) async fn replay_by_filter_and_limit(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(dead_event(&*queue, &format!("e{n}"), if n < 6 { "ci" } else { "audit" }).await);
    }
    let of_ci = DeadFilter { destination: Some(key("ci")), ..DeadFilter::default() };
    assert_eq!(queue.count_dead_letters(of_ci.clone()).await.expect("counts"), 6);
    assert_eq!(queue.replay(of_ci.clone(), 2).await.expect("replays"), 2);
    assert_eq!(queue.count_dead_letters(of_ci).await.expect("counts"), 4);
    let due: Vec<_> = lease(&*queue, "ci", 9).await.into_iter().map(|leased| leased.event.id).collect();
    assert_eq!(due, ["e0", "e1"], "oldest first");
    let by_id = DeadFilter { ids: vec![ids[8].to_string(), "7-bad".into()], ..DeadFilter::default() };
    assert_eq!(queue.replay(by_id, 100).await.expect("replays"), 1);
    assert_eq!(lease_one(&*queue, "audit").await.event.id, "e8");
    let wrong = DeadFilter { reason: Some("Poison".into()), ..DeadFilter::default() };
    assert_eq!(queue.replay(wrong, 100).await.expect("replays"), 0);
    let rest = DeadFilter { reason: Some("rejected".into()), ..DeadFilter::default() };
    assert_eq!(queue.replay(rest, u64::MAX).await.expect("replays"), 7);
    assert_eq!(queue.count_dead_letters(DeadFilter::default()).await.expect("counts"), 0);
}

pub(super) async fn a_replay_is_a_new_attempt(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    let leased = lease_one(&*queue, "ci").await;
    retry(&*queue, leased.token, 1).await;
    pass(&*queue, Duration::from_secs(1)).await;
    let leased = lease_one(&*queue, "ci").await;
    kill(&*queue, leased.token).await;
    assert_eq!(queue.replay(DeadFilter::default(), 9).await.expect("replays"), 1);
    assert_eq!(queue.due(), [key("ci")]);
    let again = lease_one(&*queue, "ci").await;
    assert_eq!((again.attempts, again.first_attempt, again.event.id.as_str()), (0, None, "e1"));
    ack(&*queue, again.token).await;
    assert_eq!(queue.stats().bytes, 0);
}

///
pub(super) async fn expiry_removes_dead_letters_by_destination(store: Arc<dyn Store>) {
    let queue = store.open().await;
    dead_event(&*queue, "e1", "ci").await;
    dead_event(&*queue, "e2", "audit").await;
    let retention: BTreeMap<_, _> =
        [(key("ci"), Duration::from_hours(1)), (key("audit"), Duration::from_hours(3))].into();
    let in_hours = |hours| Timestamp::now().plus(Duration::from_hours(hours));
    queue.expire(in_hours(0), retention.clone()).await.expect("expires");
    assert_eq!(dead(&*queue).await.len(), 2);
    queue.expire(in_hours(2), retention.clone()).await.expect("expires");
    assert_eq!((of(&*queue, "ci").dead, of(&*queue, "audit").dead), (0, 1));
    queue.expire(in_hours(4), retention).await.expect("expires");
    assert_eq!((of(&*queue, "audit").dead, queue.stats().bytes), (0, 0));
}
