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
mod handing;
mod leasing;
mod listing;
mod prelude;

use std::sync::Arc;

use crate::{BoxFuture, Queue};

/// Data of one case. Opening it again after `close` finds what was committed.
pub trait Store: Send + Sync {
    /// Opens the queue on this data.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Queue>>;

    /// Data of another queue, which hands over to this one or adopts from it.
    fn another(&self) -> Arc<dyn Store>;
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
    handing:
        what_waits_moves_with_its_attempts,
        a_dead_letter_moves_as_it_is,
        a_delivery_id_outlives_the_move,
        claims_move_and_the_later_end_counts,
        a_repeat_rearms_what_was_adopted,
        adopting_again_is_once,
        forgetting_again_is_once,
        what_is_leased_is_not_exported,
        a_page_is_held_until_it_is_kept_or_its_time_is_over,
        pages_are_bounded_and_go_on,
        an_event_of_many_is_stored_once,
        quotas_refuse_no_adoption,
        what_comes_home_is_not_lost,
        what_comes_home_before_it_was_forgotten_is_not_lost,
        nothing_of_a_malformed_page_is_stored,
        listings_follow_the_move,
        the_heir_is_known_after_a_restart;
    listing:
        events_newest_first_with_their_state,
        events_by_filter,
        an_event_tells_its_history,
        dead_letters_by_filter,
        stats_count_by_destination,
        a_closed_queue_says_so;
}
