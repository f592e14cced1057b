//! What the cases have in common.

pub(super) use std::sync::Arc;
pub(super) use std::time::Duration;

pub(super) use bytes::Bytes;
pub(super) use zen_model::settle::{Attempt, Class, ReleaseReason};
pub(super) use zen_model::{DeadReason, Event, EventId, ObjectKey, Settlement, Timestamp};

pub(super) use super::Store;
pub(super) use crate::{
    Claim, Committed, DeadFilter, Demand, DestinationStats, LeaseToken, Leased, NewEvent, Queue, Settled,
};

pub(super) const TERM: Duration = Duration::from_secs(30);

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team-a", name)
}

/// An event of Webhook `team-a/github`.
pub(super) fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        namespace: "team-a".to_owned(),
        webhook: "github".to_owned(),
        r#type: "push".to_owned(),
        source: "https://github.com/acme".to_owned(),
        time: Timestamp::now().0,
        content_type: "application/json".to_owned(),
        request_id: format!("request-{id}"),
        content_hash: Bytes::from_static(&[7; 32]),
        body: Bytes::from(format!("{{\"n\":\"{id}\"}}")),
        ..Event::default()
    }
}

pub(super) fn entry(id: &str, to: &[&str]) -> NewEvent {
    NewEvent { event: event(id), destinations: to.iter().map(|name| key(name)).collect(), claim: None }
}

#[expect(clippy::unnecessary_wraps, reason = "it is used as the field that it fills")]
pub(super) fn claim(number: u8) -> Option<Claim> {
    Some(Claim { hash: [number; 16], window: Duration::from_hours(24) })
}

/// Commits and returns the id.
pub(super) async fn accept(queue: &dyn Queue, entry: NewEvent) -> EventId {
    match queue.commit(entry).await {
        Ok(Committed::Accepted { id }) => id,
        other => unexpected(other),
    }
}

pub(super) fn unexpected<T>(what: impl std::fmt::Debug) -> T {
    let mut wanted: Result<T, String> = Err(String::new());
    if let Err(text) = &mut wanted {
        *text = format!("{what:?}");
    }
    wanted.expect("what the case says")
}

pub(super) async fn lease(queue: &dyn Queue, to: &str, max: usize) -> Vec<Leased> {
    let demand = Demand { destination: key(to), max, max_bytes: usize::MAX, term: TERM };
    queue.lease(demand).await.expect("leases")
}

/// Leases exactly one.
pub(super) async fn lease_one(queue: &dyn Queue, to: &str) -> Leased {
    let mut leased = lease(queue, to, 1).await;
    assert_eq!(leased.len(), 1, "one delivery to {to} is due");
    leased.remove(0)
}

pub(super) fn attempt(class: Class, status: u16) -> Attempt {
    Attempt {
        at: Timestamp::now(),
        class,
        status,
        took: Duration::from_millis(12),
        error: (status == 0).then_some("timeout"),
        response: Bytes::from_static(b"no such hook"),
    }
}

pub(super) async fn settle(queue: &dyn Queue, token: LeaseToken, settlement: Settlement, attempt: Option<Attempt>) {
    queue.settle(vec![Settled { token, settlement, attempt }]).await.expect("settles");
}

pub(super) async fn ack(queue: &dyn Queue, token: LeaseToken) {
    settle(queue, token, Settlement::Ack, Some(attempt(Class::Delivered, 200))).await;
}

pub(super) async fn retry(queue: &dyn Queue, token: LeaseToken, seconds: u64) {
    let settlement = Settlement::Retry { after: Duration::from_secs(seconds) };
    settle(queue, token, settlement, Some(attempt(Class::Transient, 500))).await;
}

pub(super) async fn release(queue: &dyn Queue, token: LeaseToken, seconds: u64) {
    let settlement = Settlement::Release { after: Duration::from_secs(seconds), reason: ReleaseReason::Drain };
    settle(queue, token, settlement, None).await;
}

pub(super) async fn kill(queue: &dyn Queue, token: LeaseToken) {
    let settlement = Settlement::Dead { reason: DeadReason::Rejected };
    settle(queue, token, settlement, Some(attempt(Class::Rejected, 404))).await;
}

/// Lets time pass, and waits until the queue has done what came due in it.
pub(super) async fn pass(queue: &dyn Queue, time: Duration) {
    tokio::time::sleep(time + Duration::from_millis(20)).await;
    drain(queue).await;
}

/// Waits until everything that was asked before is done.
pub(super) async fn drain(queue: &dyn Queue) {
    tokio::task::yield_now().await;
    let none = DeadFilter { ids: vec!["0-0".to_owned()], ..DeadFilter::default() };
    queue.replay(none, 1).await.expect("works");
}

pub(super) fn of(queue: &dyn Queue, to: &str) -> DestinationStats {
    queue.stats().destinations.get(&key(to)).cloned().unwrap_or_default()
}
