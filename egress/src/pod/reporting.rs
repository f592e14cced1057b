//! What this pod tells the operator about each Destination.

use std::sync::Arc;
use std::time::Duration;

use zen_live::cluster::Cluster;
use zen_pod::Reports;
use zen_pod::reports::Item;

/// Changes that come together are one revision.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps the reports up to date, and the configuration followed, for as long as it is polled.
pub(super) async fn follow(reports: Reports, cluster: Cluster) {
    let mut published = cluster.published();
    loop {
        let current = Arc::clone(&published.borrow_and_update());
        let own = current.verdicts.iter().filter(|verdict| verdict.kind == "Destination");
        reports.replace(own.map(|verdict| Item { verdict: verdict.clone(), last_verified: None, breaker: None }));
        tokio::time::sleep(SETTLE).await;
        if published.changed().await.is_err() {
            return;
        }
    }
}
