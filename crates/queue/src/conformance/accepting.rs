use prost::Message;
use zen_model::Namespace;

use super::prelude::*;
use crate::{CommitError, DeliveryState, EventFilter, QuotaScope, Quotas};

pub(super) async fn an_event_comes_back_as_it_was_committed(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let mut sent = entry("e1", &["ci"]);
    sent.event.body = Bytes::from((0..=255_u8).cycle().take(70_000).collect::<Vec<_>>());
    let event = sent.event.clone();
    assert_eq!(accept(&*queue, sent).await.as_str(), "e1");
    let leased = lease_one(&*queue, "ci").await;
    assert_eq!(leased.event, event);
    assert_eq!(leased.record, Bytes::from(event.encode_to_vec()), "carried on as it was encoded");
    assert_eq!((leased.attempts, leased.first_attempt), (0, None));
    release(&*queue, leased.token, 0).await;
    queue.close().await;
    let queue = store.open().await;
    assert_eq!(lease_one(&*queue, "ci").await.event, event, "read from disk");
}

pub(super) async fn fan_out_stores_one_event_and_delivers_to_each(store: Arc<dyn Store>) {
    let queue = store.open().await;
    // A Destination that two routes name gets it once.
    accept(&*queue, entry("e1", &["ci", "audit", "ci"])).await;
    let one = queue.stats().bytes;
    assert_eq!(of(&*queue, "ci").bytes, one);
    assert_eq!(of(&*queue, "audit").bytes, one, "each Destination's share counts the whole record");
    let ci = lease_one(&*queue, "ci").await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    ack(&*queue, ci.token).await;
    assert_eq!(queue.stats().bytes, one, "the other still needs it");
    let audit = lease_one(&*queue, "audit").await;
    assert_eq!(audit.token.delivery.seq, ci.token.delivery.seq);
    ack(&*queue, audit.token).await;
    assert_eq!(queue.stats().bytes, 0);
}

pub(super) async fn an_empty_id_is_generated_and_never_repeats(store: Arc<dyn Store>) {
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let queue = store.open().await;
        for _ in 0..20 {
            let mut new = entry("", &["ci"]);
            new.event.id.clear();
            ids.insert(accept(&*queue, new).await);
        }
        let leased = lease(&*queue, "ci", 100).await;
        assert!(leased.iter().all(|leased| ids.contains(&leased.event.event_id())));
        queue.close().await;
    }
    assert_eq!(ids.len(), 60);
}

pub(super) async fn a_repeat_is_answered_with_the_first_id(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("first", &["ci"]) }).await;
    let repeat = queue.commit(NewEvent { claim: claim(1), ..entry("second", &["ci"]) }).await;
    assert_eq!(repeat.expect("answers"), Committed::Duplicate { id: "first".into(), rearmed: 0 });
    accept(&*queue, NewEvent { claim: claim(2), ..entry("other", &["ci"]) }).await;
    assert_eq!(lease(&*queue, "ci", 9).await.len(), 2);
    assert_eq!(queue.stats().duplicates, 1);
}

pub(super) async fn equal_claims_of_one_batch_are_one_event(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let sent = (0..50).map(|n| {
        let queue = Arc::clone(&queue);
        let entry = NewEvent { claim: claim(1), ..entry(&format!("e{n}"), &["ci"]) };
        tokio::spawn(async move { queue.commit(entry).await.expect("answers") })
    });
    let mut accepted = Vec::new();
    let mut repeated = Vec::new();
    for answer in sent.collect::<Vec<_>>() {
        match answer.await.expect("ends") {
            Committed::Accepted { id } => accepted.push(id),
            Committed::Duplicate { id, .. } => repeated.push(id),
        }
    }
    assert_eq!((accepted.len(), repeated.len()), (1, 49));
    assert!(repeated.iter().all(|id| *id == accepted[0]));
    assert_eq!(lease(&*queue, "ci", 99).await.len(), 1);
}

pub(super) async fn a_claim_ends_with_its_window(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let claim = Some(Claim { hash: [3; 16], window: Duration::from_mins(1) });
    accept(&*queue, NewEvent { claim, ..entry("e1", &["ci"]) }).await;
    pass(&*queue, Duration::from_secs(59)).await;
    let repeat = queue.commit(NewEvent { claim, ..entry("e2", &["ci"]) }).await.expect("answers");
    assert_eq!(repeat, Committed::Duplicate { id: "e1".into(), rearmed: 0 });
    pass(&*queue, Duration::from_secs(2)).await;
    accept(&*queue, NewEvent { claim, ..entry("e3", &["ci"]) }).await;
    let repeat = queue.commit(NewEvent { claim, ..entry("e4", &["ci"]) }).await.expect("answers");
    assert_eq!(repeat, Committed::Duplicate { id: "e3".into(), rearmed: 0 }, "the newer claim counts");
}

pub(super) async fn claims_outlive_the_delivery_and_a_restart(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    let leased = lease_one(&*queue, "ci").await;
    ack(&*queue, leased.token).await;
    queue.close().await;
    let queue = store.open().await;
    let repeat = queue.commit(NewEvent { claim: claim(1), ..entry("e2", &["ci"]) }).await.expect("answers");
    assert_eq!(repeat, Committed::Duplicate { id: "e1".into(), rearmed: 0 });
    assert!(lease(&*queue, "ci", 9).await.is_empty());
}

/// W-07: GitHub's Redeliver after the first one ended in the dead letters.
pub(super) async fn a_repeat_rearms_dead_deliveries_only(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("e1", &["ci", "audit", "search"]) }).await;
    let delivered = lease_one(&*queue, "ci").await;
    ack(&*queue, delivered.token).await;
    let dead = lease_one(&*queue, "audit").await;
    kill(&*queue, dead.token).await;
    let repeat = || NewEvent { claim: claim(1), ..entry("e1", &["ci", "audit", "search"]) };
    let answer = queue.commit(repeat()).await.expect("answers");
    assert_eq!(answer, Committed::Duplicate { id: "e1".into(), rearmed: 1 });
    let again = lease_one(&*queue, "audit").await;
    assert_eq!((again.attempts, again.token.delivery), (0, dead.token.delivery), "a new attempt of the same delivery");
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    assert_eq!((of(&*queue, "audit").dead, of(&*queue, "search").waiting), (0, 1));
    let answer = queue.commit(repeat()).await.expect("answers");
    assert_eq!(answer, Committed::Duplicate { id: "e1".into(), rearmed: 0 });
}

pub(super) async fn unrouted_events_keep_history_and_claim(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("e1", &[]) }).await;
    let stats = queue.stats();
    assert_eq!((stats.committed, stats.bytes, stats.claims), (1, 0, 1));
    let listed = queue.events(EventFilter::default()).await.expect("lists");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].deliveries.is_empty());
    let repeat = queue.commit(NewEvent { claim: claim(1), ..entry("e2", &[]) }).await.expect("answers");
    assert_eq!(repeat, Committed::Duplicate { id: "e1".into(), rearmed: 0 });
}

/// W-15.
pub(super) async fn quotas_refuse_only_whom_they_concern(store: Arc<dyn Store>) {
    let queue = store.open().await;
    let of_b = || {
        let mut other = entry("b", &["ci"]);
        other.event.namespace = String::from("team-b");
        other
    };
    accept(&*queue, entry("e1", &["ci"])).await;
    let one = queue.stats().bytes;
    let namespaces = [(Namespace::from("team-a"), one + one / 2)].into();
    queue.set_quotas(Quotas { global: None, namespaces, each_destination: None });
    let full = queue.commit(entry("e2", &["ci"])).await.expect_err("full");
    assert!(matches!(full, CommitError::Full { scope: QuotaScope::Namespace(_) }), "{full:?}");
    queue.admit(&key("github"), &[key("ci")], 10).expect("what fits is admitted");
    queue.admit(&key("github"), &[key("ci")], 1_000_000).expect_err("what does not is refused before it is read");
    accept(&*queue, of_b()).await;
    queue.set_quotas(Quotas { each_destination: Some(2 * one), ..Quotas::default() });
    let full = queue.commit(of_b()).await.expect_err("full");
    assert!(matches!(full, CommitError::Full { scope: QuotaScope::Destination(_) }), "{full:?}");
    accept(&*queue, entry("e3", &["other"])).await;
    queue.set_quotas(Quotas { global: Some(2 * one), ..Quotas::default() });
    let full = queue.commit(entry("e4", &["other"])).await.expect_err("full");
    assert!(matches!(full, CommitError::Full { scope: QuotaScope::Global }), "{full:?}");
    accept(&*queue, entry("e5", &[])).await;
}

pub(super) async fn a_finished_event_gives_its_room_back(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    let one = queue.stats().bytes;
    queue.set_quotas(Quotas { global: Some(one), ..Quotas::default() });
    queue.commit(entry("e2", &["ci"])).await.expect_err("full");
    let leased = lease_one(&*queue, "ci").await;
    kill(&*queue, leased.token).await;
    queue.commit(entry("e2", &["ci"])).await.expect_err("dead letters count too");
    queue.set_quotas(Quotas { global: Some(2 * one), ..Quotas::default() });
    let repeat = queue.commit(NewEvent { claim: claim(1), ..entry("e3", &["ci"]) }).await;
    assert!(matches!(repeat, Ok(Committed::Duplicate { rearmed: 1, .. })), "{repeat:?}");
    let leased = lease_one(&*queue, "ci").await;
    ack(&*queue, leased.token).await;
    let stats = queue.stats();
    assert_eq!((stats.bytes, stats.destinations[&key("ci")].bytes), (0, 0));
    let delivered = EventFilter { state: Some(DeliveryState::Delivered), ..EventFilter::default() };
    assert_eq!(queue.events(delivered).await.expect("lists").len(), 1);
}
