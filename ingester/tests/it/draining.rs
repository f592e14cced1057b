//! The states of a drain with a scripted handover and a paused clock (DESIGN 13).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zen_ingester::Limits;
use zen_ingester::drain::{Drain, Error, Handover, Parts, Progress, State};
use zen_queue::{BoxFuture, Queue};
use zen_runtime::Readiness;

use crate::feed::{Fed, sample};
use crate::kit::{Intake, bearer, configuration, destination};
use crate::memory::Memory;

/// Takes everything that waits, or fails as often as it was told.
struct Script {
    queue: Arc<Memory>,
    failures: AtomicUsize,
    calls: Mutex<Vec<(Instant, Vec<SocketAddr>)>>,
}

impl Handover for Script {
    fn hand_over(&self, peers: Vec<SocketAddr>) -> BoxFuture<'_, Result<Progress, Error>> {
        self.calls.lock().unwrap().push((Instant::now(), peers));
        let failed =
            self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move {
            if failed {
                return Err("the peer is away".into());
            }
            let waiting = self.queue.stats().destinations.values().map(|of| of.waiting).sum();
            self.queue.with(|state| state.deliveries.clear());
            Ok(Progress { waiting, ..Progress::default() })
        })
    }
}

struct Draining {
    drain: Drain,
    script: Arc<Script>,
    readiness: Readiness,
    peers: watch::Sender<Arc<Vec<SocketAddr>>>,
}

impl Draining {
    fn of(fed: &Fed) -> Self {
        let script = Script { queue: Arc::clone(&fed.intake.queue), failures: 0.into(), calls: Mutex::default() };
        let (script, readiness) = (Arc::new(script), Readiness::new());
        let peers = watch::Sender::new(Arc::new(vec!["192.0.2.7:9902".parse().unwrap()]));
        let drain = Drain::new(Parts {
            ingester: fed.intake.ingester.clone(),
            feed: fed.handle.clone(),
            queue: Arc::clone(&fed.intake.queue) as Arc<dyn Queue>,
            readiness: readiness.gate("drain"),
            peers: peers.subscribe(),
            handover: Arc::clone(&script) as Arc<dyn Handover>,
        });
        tokio::spawn(drain.clone().run());
        Self { drain, script, readiness, peers }
    }

    fn state(&self) -> State {
        self.drain.status().state
    }
}

/// What can be delivered is delivered; what cannot within 20 s is handed over; then nothing is left.
#[tokio::test(start_paused = true)]
async fn delivers_what_it_can_and_hands_over_the_rest() {
    let fed = Fed::with([sample("ci", |_| {}), sample("stuck", |d| d.paused = true)]);
    let mut egress = fed.connect(1000);
    let draining = Draining::of(&fed);
    assert_eq!((draining.state(), draining.readiness.is_ready()), (State::Serving, true));
    fed.intake.queue.put("a", &["a/ci"], b"x");
    fed.intake.queue.put("a", &["a/stuck"], b"x");
    let began = Instant::now();
    draining.drain.begin(Duration::from_secs(5));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((draining.state(), draining.readiness.is_ready()), (State::Draining, false));
    let leases = egress.take().await;
    assert_eq!(leases.len(), 1, "deliveries go on");
    egress.ack(&leases).await;
    assert!(draining.script.calls.lock().unwrap().is_empty());

    draining.drain.drained().await;
    let calls = draining.script.calls.lock().unwrap().clone();
    assert_eq!((calls.len(), calls[0].1.len()), (1, 1));
    let waited = calls[0].0 - began;
    assert!((Duration::from_secs(25)..Duration::from_secs(26)).contains(&waited), "{waited:?}");
    let status = draining.drain.status();
    assert_eq!((status.state, status.waiting, draining.readiness.is_ready()), (State::Drained, 0, false));
}

/// With nothing to deliver nobody waits, and dead letters go at once.
#[tokio::test(start_paused = true)]
async fn an_empty_queue_is_drained_after_the_delay() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let draining = Draining::of(&fed);
    let began = Instant::now();
    draining.drain.begin(Duration::from_secs(5));
    draining.drain.drained().await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(draining.script.calls.lock().unwrap().is_empty());
}

/// A handover that fails is tried again; deliveries go on between the attempts.
#[tokio::test(start_paused = true)]
async fn a_failed_handover_is_tried_again_and_stops_no_delivery() {
    let fed = Fed::with([sample("ci", |_| {}), sample("stuck", |d| d.paused = true)]);
    let mut egress = fed.connect(1000);
    let draining = Draining::of(&fed);
    draining.script.failures.store(1, Ordering::Relaxed);
    fed.intake.queue.put("a", &["a/stuck"], b"x");
    draining.drain.begin(Duration::ZERO);
    while draining.script.calls.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    fed.intake.queue.put("a", &["a/ci"], b"x");
    sleep(Duration::from_millis(500)).await;
    assert_eq!((draining.state(), egress.take().await.len()), (State::Draining, 1));
    draining.drain.drained().await;
    assert_eq!(draining.script.calls.lock().unwrap().len(), 2);
}

/// Without a peer nothing is handed over, and what comes to be deliverable is delivered.
#[tokio::test(start_paused = true)]
async fn the_last_replica_goes_on_delivering() {
    let fed = Fed::with([sample("ci", |d| d.paused = true)]);
    let mut egress = fed.connect(1000);
    let draining = Draining::of(&fed);
    draining.peers.send_replace(Arc::default());
    fed.intake.queue.put("a", &["a/ci"], b"x");
    draining.drain.begin(Duration::ZERO);
    sleep(Duration::from_mins(10)).await;
    assert_eq!((draining.state(), draining.script.calls.lock().unwrap().len()), (State::Draining, 0));
    fed.reconfigure([sample("ci", |_| {})]);
    let leases = egress.take().await;
    egress.ack(&leases).await;
    draining.drain.drained().await;
}

/// Taken back at any point, the replica serves as before.
#[tokio::test(start_paused = true)]
async fn it_can_be_taken_back() {
    let configured = configuration(&[("hook", bearer(&serde_json::json!({})))], &[("ci", destination())]);
    let intake = Intake::start(configured, Limits::default(), None);
    let (handle, dispatcher) = intake.ingester.feed(intake.shutdown.clone());
    tokio::spawn(dispatcher);
    let fed = Fed { intake, handle };
    let draining = Draining::of(&fed);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    draining.drain.begin(Duration::from_secs(5));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fed.intake.good("/a/hook", &[], b"1").await.status, 202, "within the delay it is still taken");
    sleep(Duration::from_secs(5)).await;
    let refused = fed.intake.good("/a/hook", &[], b"2").await;
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    draining.drain.resume();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((draining.state(), draining.readiness.is_ready()), (State::Serving, true));
    assert_eq!(fed.intake.good("/a/hook", &[], b"3").await.status, 202);
    let mut egress = fed.connect(1000);
    assert_eq!(egress.take().await.len(), 3, "and the leases flow");
}
