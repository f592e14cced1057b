//! What this replica tells the operator about each object: verdict, the secret that verified last, the breaker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zen_compile::{DeliveryMode, Destination, Problem};
use zen_identity::control::{Breaker, LastVerified};
use zen_live::Published;
use zen_model::ClusterId;
use zen_model::reason::ObjectReason;
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
    let clusters = ingester.board.clusters();
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
            let destination = snapshot.destination(&verdict.key);
            if let Some(problem) = destination.and_then(|destination| away(destination, &clusters, &verdict.problems)) {
                item.verdict.problems = verdict.problems.iter().cloned().chain([problem]).collect();
            }
            item.breaker =
                breakers.get(&verdict.key).map(|view| Breaker { state: view.breaker.into(), since: view.since });
        }
        item
    });
    items.collect()
}

/// The cluster that is to attempt the deliveries has no egress here, which its enrollment does not show.
fn away(destination: &Destination, clusters: &BTreeSet<ClusterId>, known: &[Problem]) -> Option<Problem> {
    let cluster = destination.cluster.as_ref().filter(|_| destination.mode == DeliveryMode::Relay)?;
    let field = "spec.cluster";
    if clusters.contains(cluster) || known.iter().any(|problem| problem.field == field) {
        return None;
    }
    let message = format!("no egress of cluster {cluster} has a stream to the hub, so events wait; look at its log");
    Some(Problem { field: field.to_owned(), reason: ObjectReason::ClusterAway, message })
}

#[cfg(test)]
mod tests {
    use zen_compile::Target;

    use super::*;

    /// D-02: whether a member's egress is there is seen where its leases are given, whatever its operator says of it.
    #[test]
    fn a_cluster_without_a_stream_is_away() {
        let url = || Target::Url { tls: true, host: "x.example".into(), port: 443, path_and_query: "/".into() };
        let relay = Destination {
            mode: DeliveryMode::Relay,
            cluster: Some("a/eu".parse().expect("a cluster")),
            ..Destination::sample("a/ci", url())
        };
        let own = Destination::sample("a/ci", url());
        let clusters = |names: &[&str]| names.iter().map(|name| name.parse().expect("a cluster")).collect();
        let pending =
            Problem { field: "spec.cluster".to_owned(), reason: ObjectReason::ClusterPending, message: String::new() };
        for (what, destination, there, known, expected) in [
            ("nobody is there", &relay, clusters(&[]), &[][..], true),
            ("its egress is", &relay, clusters(&["a/eu"]), &[], false),
            ("one of another is", &relay, clusters(&["a/us", "b/eu"]), &[], true),
            ("it has not joined", &relay, clusters(&[]), &[pending], false),
            ("of this cluster", &own, clusters(&[]), &[], false),
        ] {
            let said = away(destination, &there, known);
            assert_eq!(said.is_some(), expected, "{what}");
            assert!(
                said.is_none_or(
                    |problem| problem.reason == ObjectReason::ClusterAway && problem.message.contains("a/eu")
                )
            );
        }
    }
}
