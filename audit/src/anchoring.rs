//! Brings heads to the anchor, and compares at the start what is anchored with what is there.
//!
//! Heads that changed become entries of the store's own log; its head is anchored, and with it all of them, as many as
//! there ever were. The heads that changed last are anchored beside it, so that one chain can be verified without the
//! store's log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zen_audit::{Action, ChainId, Head, Record};
use zen_model::reason::AuditReason;

use crate::{Anchor, Store};

/// Heads of one entry.
const OF_ENTRY: usize = 32;
/// Heads that are anchored by themselves; about 200 bytes each, and a ConfigMap holds 1 MiB.
const ANCHORED: usize = 1000;
/// How often retention is looked at.
const RETENTION: Duration = Duration::from_mins(10);

/// Says in the log for which anchored heads there is less here than there was. `here` are the ends of all chains, the
/// store's own too, as they were found. Returns how many.
pub async fn compare(store: &Store, anchored: &[Head], here: &BTreeMap<ChainId, Head>) -> usize {
    let mut short = 0;
    for head in anchored {
        let found = here.get(&head.chain);
        if found.is_some_and(|found| found.seq > head.seq || found == head) {
            continue;
        }
        short += 1;
        tracing::error!(anchored = %head, "the volume has less than what is anchored");
        let own = store.log().head().writer.to_string();
        let record = Record::new(Action::FindDamage, &own, &format!("Chain/{}", head.chain));
        let found = found.map(ToString::to_string).unwrap_or_default();
        let record = record.reason(AuditReason::AnchorAhead.code()).detail("anchored", &head.to_string());
        let _ = store.log().record(record.detail("found", &found)).await;
    }
    short
}

/// Anchors for as long as it is polled, at most once in `every`.
pub async fn run(store: Arc<Store>, anchor: Arc<dyn Anchor>, every: Duration) {
    let mut anchored = None;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        step(&store, anchor.as_ref(), &mut anchored).await;
    }
}

/// Anchors what changed since `anchored`, the own head of then.
pub async fn step(store: &Store, anchor: &dyn Anchor, anchored: &mut Option<Head>) {
    let changed = store.take_changed();
    if changed.is_empty() && *anchored == Some(store.log().head()) {
        return;
    }
    let own = store.log().head().writer.to_string();
    for heads in changed.chunks(OF_ENTRY) {
        let mut record = Record::new(Action::AnchorHeads, &own, "Chain/*").allowed();
        for (index, head) in heads.iter().enumerate() {
            record = record.detail(format!("head{index:02}"), &head.to_string());
        }
        let _ = store.log().record(record).await;
    }
    let head = store.log().head();
    let mut heads = vec![head.clone()];
    heads.extend(store.heads().into_iter().take(ANCHORED));
    match anchor.write(&heads).await {
        Ok(()) => {
            store.metrics().anchored();
            *anchored = Some(head);
        }
        Err(error) => {
            // What changed is in the own log; its head goes with the next attempt.
            store.metrics().anchor_failed();
            tracing::warn!(%error, "heads are not anchored");
        }
    }
}

/// Removes what is not kept any longer, for as long as it is polled.
pub async fn retain(store: Arc<Store>) {
    let mut ticks = tokio::time::interval(RETENTION);
    loop {
        ticks.tick().await;
        store.rest();
        match store.expire().await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "old entries were removed"),
            Err(error) => tracing::warn!(%error, "failed to remove old entries"),
        }
    }
}
