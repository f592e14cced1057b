//! What passing time does: leases end, back-off ends. One task on the runtime's monotonic clock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::time::sleep_until;

use super::command::{Ending, How, Settle};
use super::shared::Shared;

/// Runs until the queue is closed or gone.
pub(crate) async fn run(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let wake_at = tick(&shared);
        let again = shared.timer.notified();
        if wake_at == u64::MAX {
            again.await;
        } else {
            let until = shared.clock.instant(wake_at);
            tokio::select! {
                () = again => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

/// Ends what is over and says what became due. Returns when to look again.
fn tick(shared: &Arc<Shared>) -> u64 {
    let now = shared.clock.now();
    let (ended, became_due, wake_at) = {
        let mut state = shared.state();
        let (ended, became_due) = state.tick(now);
        (ended, became_due, state.wake_at)
    };
    let endings = ended
        .into_iter()
        .map(|(token, held)| {
            // A page that nobody took: its deliveries were never in an egress's hands.
            let how = if held.exported { How::Release { due: None } } else { How::Lost };
            Ending { token, held: Some(held), how, attempt: None }
        })
        .collect();
    shared.settle_quietly(Settle { endings, now, answer: None });
    if became_due {
        shared.changed();
    }
    wake_at
}
