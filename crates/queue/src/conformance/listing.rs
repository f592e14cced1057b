use super::prelude::*;
use crate::DeliveryState::{Dead, Delivered, Leased, Retrying, Waiting};
use crate::{CommitError, Error, EventFilter, Fault, Health};

/// Five events: delivered, dead, retrying, leased, waiting.
async fn five(queue: &dyn Queue) {
    for n in 1..=5 {
        accept(queue, entry(&format!("e{n}"), &["ci"])).await;
    }
    let leased = lease(queue, "ci", 4).await;
    ack(queue, leased[0].token).await;
    kill(queue, leased[1].token).await;
    retry(queue, leased[2].token, 60).await;
}

pub(super) async fn events_newest_first_with_their_state(store: Arc<dyn Store>) {
    let queue = store.open().await;
    five(&*queue).await;
    let listed = queue.events(EventFilter::default()).await.expect("lists");
    let shown: Vec<_> = listed.iter().map(|event| (event.id.as_str(), event.deliveries[0].state)).collect();
    assert_eq!(shown, [("e5", Waiting), ("e4", Leased), ("e3", Retrying), ("e2", Dead), ("e1", Delivered)]);
    assert_eq!((listed[0].r#type.as_str(), &listed[0].webhook), ("push", &key("github")));
    assert_eq!(listed[0].bytes, event("e5").body.len() as u64);
    let retrying = &listed[2].deliveries[0];
    assert!(retrying.due.is_some() && retrying.attempts == 1);
    let dead = &listed[3].deliveries[0];
    assert_eq!((dead.reason.as_deref(), dead.attempts), (Some("Rejected"), 1));
    queue.replay(DeadFilter { ids: vec![dead.delivery.clone()], ..DeadFilter::default() }, 1).await.expect("replays");
    let listed = queue.events(EventFilter::default()).await.expect("lists");
    assert_eq!(listed[3].deliveries[0].state, Waiting, "replayed");
}

pub(super) async fn events_by_filter(store: Arc<dyn Store>) {
    let queue = store.open().await;
    five(&*queue).await;
    let mut other = entry("other", &["audit"]);
    other.event.webhook = String::from("stripe");
    accept(&*queue, other).await;
    let ids = async |filter| {
        let listed = queue.events(filter).await.expect("lists");
        listed.into_iter().map(|event| event.id.to_string()).collect::<Vec<_>>()
    };
    let all = EventFilter::default();
    assert_eq!(ids(EventFilter { webhook: Some(key("stripe")), ..all.clone() }).await, ["other"]);
    assert_eq!(ids(EventFilter { destination: Some(key("audit")), ..all.clone() }).await, ["other"]);
    assert_eq!(ids(EventFilter { state: Some(Dead), ..all.clone() }).await, ["e2"]);
    assert_eq!(ids(EventFilter { limit: 2, ..all.clone() }).await, ["other", "e5"]);
    let later = Timestamp::now().plus(Duration::from_mins(1));
    assert!(ids(EventFilter { since: Some(later), ..all.clone() }).await.is_empty());
    assert_eq!(ids(EventFilter { until: Some(later), ..all.clone() }).await.len(), 6);
    assert!(ids(EventFilter { until: Some(Timestamp(1)), ..all }).await.is_empty());
}

pub(super) async fn an_event_tells_its_history(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    accept(&*queue, entry("e2", &["ci"])).await;
    let leased = lease_one(&*queue, "ci").await;
    retry(&*queue, leased.token, 1).await;
    pass(&*queue, Duration::from_secs(1)).await;
    let leased = lease_one(&*queue, "ci").await;
    kill(&*queue, leased.token).await;
    queue.replay(DeadFilter::default(), 9).await.expect("replays");
    let leased = lease_one(&*queue, "ci").await;
    ack(&*queue, leased.token).await;
    queue.close().await;
    let queue = store.open().await;
    let details = queue.event("e1".into()).await.expect("reads");
    assert_eq!(details.len(), 1);
    let what: Vec<_> = details[0].history.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(what, ["accepted", "attempt", "attempt", "dead", "replayed", "attempt", "delivered"]);
    assert_eq!(details[0].history[1].detail, "transient 500, 12 ms");
    assert_eq!(details[0].history[3].detail, "Rejected");
    assert_eq!(details[0].history[3].destination, Some(key("ci")));
    assert_eq!(details[0].request_id, "request-e1");
    assert_eq!(details[0].summary.deliveries[0].state, Delivered);
    assert!(queue.event("unknown".into()).await.expect("reads").is_empty());
}

pub(super) async fn dead_letters_by_filter(store: Arc<dyn Store>) {
    let queue = store.open().await;
    for (n, to) in ["ci", "audit", "ci"].iter().enumerate() {
        let mut new = entry(&format!("e{n}"), &[to]);
        new.event.webhook = String::from(if n == 2 { "stripe" } else { "github" });
        accept(&*queue, new).await;
        let leased = lease_one(&*queue, to).await;
        kill(&*queue, leased.token).await;
    }
    let ids = async |filter| {
        let listed = queue.dead_letters(filter).await.expect("lists");
        listed.into_iter().map(|letter| letter.event.to_string()).collect::<Vec<_>>()
    };
    let all = DeadFilter::default();
    assert_eq!(ids(all.clone()).await, ["e0", "e1", "e2"]);
    assert_eq!(ids(DeadFilter { limit: 1, ..all.clone() }).await, ["e0"]);
    assert_eq!(ids(DeadFilter { destination: Some(key("ci")), ..all.clone() }).await, ["e0", "e2"]);
    assert_eq!(ids(DeadFilter { webhook: Some(key("stripe")), ..all.clone() }).await, ["e2"]);
    let namespace = |name: &str| Some(name.into());
    assert_eq!(ids(DeadFilter { namespace: namespace(key("ci").namespace.as_str()), ..all.clone() }).await.len(), 3);
    assert_eq!(ids(DeadFilter { namespace: namespace("another"), ..all.clone() }).await, [""; 0]);
    assert_eq!(ids(DeadFilter { destination: Some(key("nowhere")), ..all.clone() }).await, [""; 0]);
    assert_eq!(ids(DeadFilter { until: Some(Timestamp(1)), ..all }).await, [""; 0]);
}

pub(super) async fn stats_count_by_destination(store: Arc<dyn Store>) {
    let queue = store.open().await;
    five(&*queue).await;
    accept(&*queue, NewEvent { claim: claim(9), ..entry("e6", &["audit"]) }).await;
    let check = |queue: &dyn Queue, leased| {
        let stats = queue.stats();
        let ci = &stats.destinations[&key("ci")];
        assert_eq!((ci.waiting, ci.leased, ci.retrying, ci.dead), (3, leased, 1, 1));
        assert!(stats.disk_bytes > 0 && stats.claims == 1);
        assert_eq!(stats.bytes, ci.bytes + stats.destinations[&key("audit")].bytes);
        ci.oldest
    };
    assert!(check(&*queue, 1).is_some());
    assert_eq!(queue.stats().committed, 6);
    let bytes = queue.stats().bytes;
    queue.close().await;
    let queue = store.open().await;
    check(&*queue, 0);
    assert_eq!(queue.stats().bytes, bytes);
}

pub(super) async fn a_closed_queue_says_so(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    queue.close().await;
    queue.close().await;
    let refused = queue.commit(entry("e2", &["ci"])).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(Fault::Closed))), "{refused:?}");
    assert_eq!(*queue.health().borrow(), Health::Failing(Fault::Closed));
    let closed = queue.dead_letters(DeadFilter::default()).await;
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}
