//! What the queue needs beside its users: somebody who watches its health and throws away what is past its time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
use zen_compile::Snapshot;
use zen_model::Timestamp;
use zen_queue::{Fault, Health, Queue};
use zen_runtime::Gate;

/// How often what is past its retention is thrown away.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);

/// Readiness follows the queue's health, for as long as it is polled.
pub async fn follow_health(queue: Arc<dyn Queue>, gate: Gate) {
    let mut health = queue.health();
    loop {
        match &*health.borrow_and_update() {
            Health::Ok => gate.open(),
            Health::Failing(Fault::Closed) => gate.close("the queue is closed"),
            Health::Failing(fault) => {
                tracing::error!(fault = fault.label(), "the queue cannot commit: intake answers 503 until it can");
                gate.close(fault.to_string());
            }
        }
        if health.changed().await.is_err() {
            gate.close("the queue is closed");
            return;
        }
    }
}

/// Applies the retentions of the configuration in effect, for as long as it is polled.
pub async fn expire(queue: Arc<dyn Queue>, snapshot: Arc<ArcSwap<Snapshot>>) {
    let mut ticks = tokio::time::interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = snapshot.load_full();
        let retentions = snapshot.destinations.values();
        let retentions = retentions.map(|destination| (destination.key.clone(), destination.dead_letter_retention));
        if let Err(error) = queue.expire(Timestamp::now(), retentions.collect()).await {
            tracing::warn!(%error, "what is past its retention stays for now");
        }
    }
}
