//! Against a scripted API server, on a paused clock. K-02.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;
use zen_testkit::api_server::{ApiServer, Call, Reply};

use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/zen-mesh/leases/zen-operator";

/// Follows tokio's clock, which stands still unless all tasks wait.
fn paused() -> Clock {
    let start = Instant::now();
    Clock::new(move || Duration::from_secs(1) + start.elapsed())
}

fn elector(server: &ApiServer, clock: Clock) -> Elector {
    Elector::with_clock(server.client(), Options::new("zen-mesh", "zen-operator", "us"), clock)
}

fn lease(holder: &str, version: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "zen-operator", "namespace": "zen-mesh", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 3},
    })
}

fn by(holder: &'static str) -> impl Fn(&Value) -> bool + Send + Sync {
    move |body| body["spec"]["holderIdentity"] == holder
}

#[tokio::test(start_paused = true)]
async fn a_missing_lease_is_made_and_renewed() {
    let server = ApiServer::new();
    server.expect(Call::get(LEASE), Reply::not_found());
    server.expect(Call::put(LEASE).body(by("us")), Reply::stored());
    for _ in 0..10 {
        server.expect(Call::put(LEASE).body(by("us")), Reply::stored());
    }
    let elector = elector(&server, paused());
    let leadership = elector.leadership();
    assert_eq!(leadership.check(), Err(NotLeader::Standby));
    let held = elector.acquire().await;
    let start = Instant::now();
    server.done().await;
    assert_eq!(leadership.check(), Ok(()));
    let per_renewal = start.elapsed() / 10;
    assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&per_renewal), "{per_renewal:?}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_another_is_taken_when_it_was_not_renewed_for_its_duration() {
    let server = ApiServer::new();
    server.allow(Call::get(LEASE), Reply::ok(lease("other", "1")));
    server.allow(Call::put(LEASE), Reply::stored());
    let start = Instant::now();
    let seen = async {
        server.seen(&Call::get(LEASE), 3).await;
        // The other one renews, once.
        server.allow(Call::get(LEASE), Reply::ok(lease("other", "2")));
        let renewed = Instant::now();
        server.seen(&Call::put(LEASE).body(by("us")), 1).await;
        (renewed - start, renewed.elapsed())
    };
    let (held, (renewed, waited)) = tokio::join!(elector(&server, paused()).acquire(), seen);
    assert!(renewed < Duration::from_secs(6), "{renewed:?}");
    let duration = Duration::from_secs(10);
    // Seen within one retry time, and then waited for to the moment.
    assert!((duration..=duration + Duration::from_millis(2010)).contains(&waited), "{waited:?}");
    let taken = server.received().into_iter().find(|call| call.method == axum::http::Method::PUT).expect("taken");
    assert_eq!(taken.body["metadata"]["resourceVersion"], "2", "only over what was seen");
    assert_eq!(taken.body["spec"]["leaseTransitions"], 4);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_taken_at_once_and_given_back_again() {
    let server = ApiServer::new();
    server.expect(Call::get(LEASE), Reply::ok(lease("", "1")));
    server.expect(Call::put(LEASE).body(by("us")), Reply::stored());
    let start = Instant::now();
    let elector = elector(&server, paused());
    let leadership = elector.leadership();
    let held = elector.acquire().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    server.expect(Call::put(LEASE).body(by("")), Reply::stored());
    held.release().await;
    assert_eq!(leadership.check(), Err(NotLeader::Standby));
    server.finish();
}

#[tokio::test(start_paused = true)]
async fn another_candidate_was_faster() {
    let server = ApiServer::new();
    server.expect(Call::get(LEASE), Reply::ok(lease("", "1")));
    server.expect(Call::put(LEASE), Reply::conflict());
    server.expect(Call::get(LEASE), Reply::ok(lease("other", "2")));
    let acquiring = tokio::spawn(elector(&server, paused()).acquire());
    server.done().await;
    assert!(!acquiring.is_finished());
    acquiring.abort();
}

#[tokio::test(start_paused = true)]
async fn failures_on_the_way_are_tried_again() {
    let server = ApiServer::new();
    for reply in [Reply::unavailable(), Reply::busy(1), Reply::never(), Reply::internal()] {
        server.expect(Call::get(LEASE), reply);
    }
    server.expect(Call::get(LEASE), Reply::not_found());
    server.expect(
        Call::put(LEASE),
        Reply::status(422, "Invalid", "metadata.resourceVersion: must be specified for an update"),
    );
    server.expect(Call::get(LEASE), Reply::ok(lease("", "1")));
    server.expect(Call::put(LEASE), Reply::stored());
    drop(elector(&server, paused()).acquire().await);
    server.finish();
}

async fn leading(server: &ApiServer, clock: Clock) -> (Held, Leadership) {
    server.expect(Call::get(LEASE), Reply::not_found());
    server.expect(Call::put(LEASE), Reply::stored());
    let elector = elector(server, clock);
    let leadership = elector.leadership();
    (elector.acquire().await, leadership)
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_renew_has_lost_at_the_renew_deadline() {
    for reply in [Reply::unavailable(), Reply::never()] {
        let server = ApiServer::new();
        let (held, leadership) = leading(&server, paused()).await;
        server.allow(Call::put(LEASE), reply);
        let start = Instant::now();
        let lost = leadership.lost().await;
        assert!(lost.to_string().starts_with("the lease is lost"), "{lost}");
        let waited = start.elapsed();
        assert!((Duration::from_millis(5900)..=Duration::from_millis(6600)).contains(&waited), "{waited:?}");
        assert!(matches!(leadership.check(), Err(NotLeader::Lost(_))));
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_no_loss() {
    let server = ApiServer::new();
    let (held, leadership) = leading(&server, paused()).await;
    for reply in [Reply::unavailable(), Reply::never(), Reply::stored()] {
        server.expect(Call::put(LEASE), reply);
    }
    server.done().await;
    assert_eq!(leadership.check(), Ok(()));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_writes_nothing_when_it_goes_on() {
    let server = ApiServer::new();
    let time = Arc::new(AtomicU64::new(1));
    let clock = Arc::clone(&time);
    let (held, leadership) =
        leading(&server, Clock::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)))).await;
    assert_eq!(leadership.check(), Ok(()));
    // SIGSTOP … SIGCONT: no timer of ours has fired yet, but the clock went on.
    time.store(8, Ordering::Relaxed);
    assert!(matches!(leadership.check(), Err(NotLeader::Lost(_))));
    leadership.lost().await;
    // Lost for good, whatever comes later.
    time.store(1, Ordering::Relaxed);
    assert!(matches!(leadership.check(), Err(NotLeader::Lost(_))));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn another_holder_is_the_end() {
    let server = ApiServer::new();
    let (held, leadership) = leading(&server, paused()).await;
    server.expect(Call::put(LEASE), Reply::conflict());
    server.expect(Call::get(LEASE), Reply::ok(lease("other", "7")));
    let start = Instant::now();
    leadership.lost().await;
    assert!(start.elapsed() <= Duration::from_secs(2));
    held.release().await;
    server.finish();
}

#[tokio::test(start_paused = true)]
async fn our_own_late_renewal_and_a_deleted_lease_are_no_loss() {
    let server = ApiServer::new();
    let (held, leadership) = leading(&server, paused()).await;
    server.expect(Call::put(LEASE), Reply::conflict());
    server.expect(Call::get(LEASE), Reply::ok(lease("us", "9")));
    server.expect(Call::put(LEASE).body(|body| body["metadata"]["resourceVersion"] == "9"), Reply::stored());
    server.expect(Call::put(LEASE), Reply::not_found());
    server.expect(Call::get(LEASE), Reply::not_found());
    server.expect(Call::put(LEASE).body(by("us")), Reply::stored());
    server.done().await;
    assert_eq!(leadership.check(), Ok(()));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_seized_and_its_holder_has_time_to_notice() {
    let server = ApiServer::new();
    server.expect(Call::get(LEASE), Reply::ok(lease("other", "1")));
    server.expect(Call::put(LEASE), Reply::conflict());
    server.expect(Call::get(LEASE), Reply::ok(lease("other", "2")));
    server.expect(Call::put(LEASE).body(by("us")), Reply::stored());
    server.allow(Call::put(LEASE).body(by("us")), Reply::stored());
    let start = Instant::now();
    let elector = elector(&server, paused());
    let leadership = elector.leadership();
    let held = elector.seize().await;
    assert!(start.elapsed() >= Duration::from_secs(10));
    assert_eq!(leadership.check(), Ok(()));
    drop(held);
}
