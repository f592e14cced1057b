//! The states of a drain, one after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Drain, Left, Progress, State};

/// What cannot be delivered within this is handed over.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is leased gets so long to be settled before it is handed over: a lease that ends later is delivered twice.
const SETTLE: Duration = Duration::from_secs(10);
/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// After a handover that failed; deliveries go on meanwhile.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(drain: &Drain) {
    let mut wanted = drain.wanted.subscribe();
    loop {
        let delay = match wanted.wait_for(Option::is_some).await {
            Ok(wanted) => wanted.unwrap_or_default(),
            Err(_) => return,
        };
        let work = async {
            empty(drain, delay).await;
            tracing::info!("drained: nothing is left");
            drain.state.send_replace(State::Drained);
            std::future::pending::<()>().await;
        };
        tracing::info!("draining: nothing more is taken in");
        tokio::select! {
            () = work => {}
            _ = wanted.wait_for(Option::is_none) => {}
        }
        tracing::info!("the drain was taken back: serving");
        drain.parts.feed.pause(false);
        drain.parts.ingester.refuse_new_requests(false);
        drain.parts.ingester.leave(false);
        drain.parts.readiness.open();
        drain.state.send_replace(State::Serving);
    }
}

/// Returns when nothing is left and nothing more can come. Dropped at any point, it can begin again.
async fn empty(drain: &Drain, delay: Duration) {
    let parts = &drain.parts;
    drain.state.send_replace(State::Draining);
    parts.readiness.close("draining");
    parts.ingester.leave(true);
    sleep(delay).await;
    parts.ingester.refuse_new_requests(true);
    let refused_since = Instant::now();
    loop {
        // A request that was let in before may still be on its way to the disk. Asked first: what it brings is then seen in
        // what is left.
        let quiet = parts.ingester.requests_in_flight() == 0;
        let left = left(drain);
        if quiet && left.is_nothing() {
            return;
        }
        let peers = parts.peers.borrow().to_vec();
        let due = left.waiting == 0 || refused_since.elapsed() >= PATIENCE;
        if !due || left.is_nothing() || peers.is_empty() {
            sleep(LOOK).await;
            continue;
        }
        drain.state.send_replace(State::HandingOver);
        parts.feed.pause(true);
        settled(drain).await;
        match parts.handover.hand_over(peers).await {
            Ok(progress) => {
                tracing::info!(?progress, "handed over");
                if progress == Progress::default() {
                    sleep(LOOK).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "failed to hand over; will try again");
                parts.feed.pause(false);
                drain.state.send_replace(State::Draining);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until nothing is leased, within the limit.
async fn settled(drain: &Drain) {
    let waiting = async {
        while left(drain).leased > 0 {
            sleep(LOOK).await;
        }
    };
    let _ = timeout(SETTLE, waiting).await;
}

fn left(drain: &Drain) -> Left {
    Left::of(&drain.parts.queue.stats())
}
