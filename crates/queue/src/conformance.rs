//! What every implementation of [`Queue`] must do, as cases that run against any of them (Q-02).
//!
//! Run each case on a paused Tokio clock and on fresh data:
//!
//! ```ignore
//! for case in zen_queue::conformance::cases() {
//!     (case.run)(Arc::new(MyStore::fresh())).await;
//! }
//! ```

mod accepting;
mod dying;
mod ending;
mod leasing;
mod listing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zen_model::settle::{Attempt, Class, ReleaseReason};
use zen_model::{DeadReason, Event, EventId, ObjectKey, Settlement, Timestamp};

use crate::{
    BoxFuture, Claim, Committed, DeadFilter, Demand, DestinationStats, LeaseToken, Leased, NewEvent, Queue, Settled,
};

/// Data of one case. Opening it again after `close` finds what was committed.
pub trait Store: Send + Sync {
    /// Opens the queue on this data.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Queue>>;
}

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Panics when the behaviour is missing.
    pub run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        /// Every behaviour.
        pub fn cases() -> Vec<Case> {
            vec![$($(Case { name: stringify!($name), run: |store| Box::pin($module::$name(store)) }),+),+]
        }
    };
}

cases! {
    accepting:
        an_event_comes_back_as_it_was_committed,
        fan_out_stores_one_event_and_delivers_to_each,
        an_empty_id_is_generated_and_never_repeats,
        a_repeat_is_answered_with_the_first_id,
        equal_claims_of_one_batch_are_one_event,
        a_claim_ends_with_its_window,
        claims_outlive_the_delivery_and_a_restart,
        a_repeat_rearms_dead_deliveries_only,
        unrouted_events_keep_history_and_claim,
        quotas_refuse_only_whom_they_concern,
        a_finished_event_gives_its_room_back;
    leasing:
        oldest_first_up_to_count_and_bytes,
        what_is_leased_is_not_leased_again,
        an_expired_lease_is_due_again_and_not_charged,
        a_renewed_lease_does_not_expire,
        an_abandoned_lease_is_due_at_once,
        leases_end_with_the_process,
        a_long_line_is_delivered_in_order_and_once,
        changes_tell_of_commits_and_of_time;
    ending:
        an_acknowledged_delivery_is_gone,
        a_retry_is_due_after_its_time_and_charged,
        a_retry_survives_a_restart,
        a_release_is_not_charged,
        stale_ends_are_ignored_but_an_ack_counts,
        an_ack_counts_even_after_death,
        settling_twice_is_once;
    dying:
        a_dead_letter_keeps_the_last_attempt,
        too_many_lost_leases_are_poison,
        begun_and_lost_is_ambiguous,
        begun_and_restarted_is_ambiguous,
        begin_is_refused_for_a_stale_lease,
        burial_takes_the_whole_line,
        burial_of_one_tenant_leaves_the_others,
        burial_dooms_what_is_leased,
        replay_by_filter_and_limit,
        a_replay_is_a_new_attempt,
        expiry_removes_dead_letters_by_destination;
    listing:
        events_newest_first_with_their_state,
        events_by_filter,
        an_event_tells_its_history,
        dead_letters_by_filter,
        stats_count_by_destination,
        a_closed_queue_says_so;
}

pub(crate) const TERM: Duration = Duration::from_secs(30);

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team-a", name)
}

/// An event of Webhook `team-a/github`.
pub(crate) fn event(id: &str) -> Event {
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

pub(crate) fn entry(id: &str, to: &[&str]) -> NewEvent {
    NewEvent { event: event(id), destinations: to.iter().map(|name| key(name)).collect(), claim: None }
}

pub(crate) fn claim(number: u8) -> Option<Claim> {
    Some(Claim { hash: [number; 16], window: Duration::from_hours(24) })
}

/// Commits and returns the id.
pub(crate) async fn accept(queue: &dyn Queue, entry: NewEvent) -> EventId {
    match queue.commit(entry).await {
        Ok(Committed::Accepted { id }) => id,
        other => unexpected(other),
    }
}

pub(crate) fn unexpected<T>(what: impl std::fmt::Debug) -> T {
    let wanted: Option<T> = None;
    wanted.unwrap_or_else(|| std::panic::panic_any(format!("unexpected: {what:?}")))
}

pub(crate) async fn lease(queue: &dyn Queue, to: &str, max: usize) -> Vec<Leased> {
    let demand = Demand { destination: key(to), max, max_bytes: usize::MAX, term: TERM };
    queue.lease(demand).await.expect("leases")
}

/// Leases exactly one.
pub(crate) async fn lease_one(queue: &dyn Queue, to: &str) -> Leased {
    let mut leased = lease(queue, to, 1).await;
    assert_eq!(leased.len(), 1, "one delivery to {to} is due");
    leased.remove(0)
}

pub(crate) fn attempt(class: Class, status: u16) -> Attempt {
    Attempt {
        at: Timestamp::now(),
        class,
        status,
        took: Duration::from_millis(12),
        error: (status == 0).then_some("timeout"),
        response: Bytes::from_static(b"no such hook"),
    }
}

pub(crate) async fn settle(queue: &dyn Queue, token: LeaseToken, settlement: Settlement, attempt: Option<Attempt>) {
    queue.settle(vec![Settled { token, settlement, attempt }]).await.expect("settles");
}

pub(crate) async fn ack(queue: &dyn Queue, token: LeaseToken) {
    settle(queue, token, Settlement::Ack, Some(attempt(Class::Delivered, 200))).await;
}

pub(crate) async fn retry(queue: &dyn Queue, token: LeaseToken, seconds: u64) {
    let settlement = Settlement::Retry { after: Duration::from_secs(seconds) };
    settle(queue, token, settlement, Some(attempt(Class::Transient, 500))).await;
}

pub(crate) async fn release(queue: &dyn Queue, token: LeaseToken, seconds: u64) {
    let settlement = Settlement::Release { after: Duration::from_secs(seconds), reason: ReleaseReason::Drain };
    settle(queue, token, settlement, None).await;
}

pub(crate) async fn kill(queue: &dyn Queue, token: LeaseToken) {
    let settlement = Settlement::Dead { reason: DeadReason::Rejected };
    settle(queue, token, settlement, Some(attempt(Class::Rejected, 404))).await;
}

/// Lets time pass, and waits until the queue has done what came due in it.
pub(crate) async fn pass(queue: &dyn Queue, time: Duration) {
    tokio::time::sleep(time + Duration::from_millis(20)).await;
    drain(queue).await;
}

/// Waits until everything that was asked before is done.
pub(crate) async fn drain(queue: &dyn Queue) {
    tokio::task::yield_now().await;
    let none = DeadFilter { ids: vec!["0-0".to_owned()], ..DeadFilter::default() };
    queue.replay(none, 1).await.expect("works");
}

pub(crate) fn of(queue: &dyn Queue, to: &str) -> DestinationStats {
    queue.stats().destinations.get(&key(to)).cloned().unwrap_or_default()
}
