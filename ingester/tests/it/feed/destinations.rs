//! Destinations that change while events wait (D-01).

use super::*;

/// Consent is asked again when a delivery is leased; without it nothing reaches an egress (D-01).
#[tokio::test(start_paused = true)]
async fn withdrawn_consent_ends_in_the_dead_letters() {
    let allowing = |allowed: bool| sample("ci", |d| d.allow_from = if allowed { vec!["b".into()] } else { Vec::new() });
    let fed = Fed::with([allowing(true)]);
    for namespace in ["a", "b", "b"] {
        fed.intake.queue.put(namespace, &["a/ci"], b"x");
    }
    fed.reconfigure([allowing(false)]);
    let mut egress = fed.connect(1000);
    let leases = egress.take().await;
    assert_eq!(leases.len(), 1, "only the own namespace's");
    assert_eq!(fed.intake.queue.dead("a/ci"), [DeadReason::ConsentWithdrawn; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_destination_is_buried_after_a_grace_and_an_unusable_one_waits() {
    let fed = Fed::with([sample("ci", |_| {}), sample("broken", |_| {})]);
    let mut egress = fed.connect(1000);
    egress.take().await;
    let mut without = snapshot([]);
    without.unusable.insert("a/broken".parse().unwrap(), zen_model::ObjectReason::RefNotFound);
    fed.intake.snapshot.store(Arc::new(without));
    fed.intake.queue.put("a", &["a/ci", "a/broken"], b"x");
    fed.handle.configured(false);
    egress.take().await;
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.intake.queue.dead("a/ci").len(), 0, "the configuration is not complete");
    fed.handle.configured(true);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    egress.take().await;
    assert_eq!(fed.intake.queue.dead("a/ci").len(), 0, "within the grace");
    tokio::time::advance(Duration::from_secs(31)).await;
    egress.take().await;
    assert_eq!(fed.intake.queue.dead("a/ci"), [DeadReason::DestinationDeleted; 2]);
    assert_eq!((fed.intake.queue.open("a/broken"), fed.intake.queue.dead("a/broken").len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_destination_waits_until_it_is_not() {
    let fed = Fed::with([sample("ci", |d| d.paused = true)]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert!(egress.take().await.is_empty());
    fed.reconfigure([sample("ci", |_| {})]);
    assert_eq!(egress.take().await.len(), 1);
}
