//! What this replica tells the operator about each object: verdict, the secret that verified last, the breaker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zen_identity::control::{Breaker, LastVerified};
use zen_live::Published;
use zen_pod::Reports;
use zen_pod::reports::Item;

use crate::Ingester;

/// Changes that come together are one revision.
const SETTLE: Duration = Duration::from_millis(100);
/// Which secret verified last is looked at so often; it changes once a minute at most.
const LOOK: Duration = Duration::from_secs(15);

/// Keeps the reports up to date, for as long as it is polled.
pub(crate) async fn follow(reports: Reports, ingester: Ingester, mut published: watch::Receiver<Arc<Published>>) {
    let mut moves = ingester.board.moves();
    loop {
        let current = Arc::clone(&published.borrow_and_update());
        moves.mark_unchanged();
        reports.replace(items(&ingester, &current));
        tokio::time::sleep(SETTLE).await;
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            changed = moves.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn items(ingester: &Ingester, published: &Published) -> Vec<Item> {
    let snapshot = ingester.core.snapshot.load_full();
    let breakers = ingester.board.destinations();
    let known = published.verdicts.iter().filter(|verdict| matches!(verdict.kind, "Webhook" | "Destination"));
    let items = known.map(|verdict| {
        let mut item = Item { verdict: verdict.clone(), last_verified: None, breaker: None };
        if verdict.kind == "Webhook" {
            let last = ingester.core.seen.known(&verdict.key).and_then(|seen| seen.last_verified());
            item.last_verified = last.and_then(|(index, at)| {
                let secret = snapshot.webhooks.get(&verdict.key)?.secret_labels.get(index)?.clone();
                Some(LastVerified { secret, at })
            });
        } else {
            item.breaker =
                breakers.get(&verdict.key).map(|view| Breaker { state: view.breaker.into(), since: view.since });
        }
        item
    });
    items.collect()
}
