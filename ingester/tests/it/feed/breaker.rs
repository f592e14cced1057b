//! Breaker and Gone: a target that takes nothing (D-11, D-04).

use super::*;

/// D-11: consecutive failures open the breaker, what waits stays uncharged, one probe closes it again.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_holds_and_one_probe_closes_it() {
    let fed = Fed::with([sample("ci", |d| {
        d.breaker.failures = 3;
        d.concurrency = 1;
    })]);
    let mut egress = fed.connect(1000);
    for _ in 0..10 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    for _ in 0..3 {
        let leases = egress.take().await;
        egress.fail(&leases[..1]).await;
        egress
            .settle(
                &leases[1..],
                &Settlement::Release { after: Duration::ZERO, reason: zen_model::settle::ReleaseReason::Held },
                None,
            )
            .await;
    }
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.breakers(), [true]);
    tokio::time::advance(Duration::from_secs(28)).await;
    assert!(egress.take().await.is_empty(), "open for 30 s");
    tokio::time::advance(Duration::from_secs(3)).await;
    let probe = egress.take().await;
    assert_eq!(probe.len(), 1, "half open: one");
    egress.fail(&probe).await;
    assert!(egress.take().await.is_empty(), "open again");
    tokio::time::advance(Duration::from_secs(31)).await;
    let probe = egress.take().await;
    assert_eq!(probe.len(), 1);
    egress.ack(&probe).await;
    assert_eq!(egress.take().await.len(), 2, "closed: all that the cap allows");
    assert_eq!(fed.breakers(), [true, false]);
    let charged: u32 = fed.intake.queue.with(|state| state.deliveries.values().map(|delivery| delivery.attempts).sum());
    assert_eq!(charged, 4, "nothing is charged while it is open");
}

/// An outage longer than `hold`: what waits becomes dead letters, and the next event still probes.
#[tokio::test(start_paused = true)]
async fn events_are_held_for_so_long_and_no_longer() {
    let fed = Fed::with([sample("ci", |d| {
        d.breaker = zen_model::breaker::Settings {
            failures: 1,
            open_for: Duration::from_secs(30),
            hold: Duration::from_secs(45),
        };
    })]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let first = egress.take().await;
    egress.fail(&first).await;
    assert!(egress.take().await.is_empty(), "the clock starts when the failure is heard");
    for _ in 0..5 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    tokio::time::advance(Duration::from_secs(31)).await;
    let probe = egress.take().await;
    egress.fail(&probe).await;
    egress.take().await;
    assert_eq!(fed.intake.queue.dead("a/ci").len(), 0, "within hold");
    tokio::time::advance(Duration::from_secs(31)).await;
    let probe = egress.take().await;
    assert_eq!(probe.len(), 1);
    egress.fail(&probe).await;
    egress.take().await;
    let dead = fed.intake.queue.dead("a/ci");
    assert!(dead.len() >= 5 && dead.iter().all(|reason| *reason == DeadReason::HoldExceeded), "{dead:?}");
    fed.intake.queue.put("a", &["a/ci"], b"new");
    tokio::time::advance(Duration::from_secs(31)).await;
    let probe = egress.take().await;
    assert_eq!(probe.len(), 1, "a new event finds out whether the target is back");
    egress.ack(&probe).await;
}

/// A fault of ours and an answer of the target's do not open a breaker.
#[tokio::test(start_paused = true)]
async fn only_the_targets_failures_count() {
    let fed = Fed::with([sample("ci", |d| d.breaker.failures = 1)]);
    let mut egress = fed.connect(1000);
    for class in [Class::OurFault, Class::Refused, Class::Rejected] {
        fed.intake.queue.put("a", &["a/ci"], b"x");
        let leases = egress.take().await;
        egress.settle(&leases, &Settlement::Dead { reason: DeadReason::Rejected }, Some(class)).await;
    }
    egress.take().await;
    assert_eq!(fed.breakers(), Vec::<bool>::new());
}

/// 410: what waits and what comes is dead until the Destination changes (D-04).
#[tokio::test(start_paused = true)]
async fn gone_disables_a_destination_until_it_changes() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 1)]);
    let mut egress = fed.connect(1000);
    for _ in 0..4 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let leases = egress.take().await;
    egress.settle(&leases, &Settlement::Dead { reason: DeadReason::Gone }, Some(Class::Gone)).await;
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.intake.queue.dead("a/ci"), [DeadReason::Gone; 4]);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.intake.queue.dead("a/ci").len(), 5);
    fed.reconfigure([sample("ci", |d| d.revision = 2)]);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert_eq!(egress.take().await.len(), 1);
}
