//! The feed with scripted egress sessions and a paused clock: fairness, windows, breaker, lost sessions, consent (D-04, D-10,
//! D-11, W-12).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use zen_compile::{Destination, Snapshot, Target};
use zen_ingester::Limits;
use zen_ingester::feed::{Carrier, Handle, Link};
use zen_link::frame::{FromEgress, FromIngester, Hello, Lease, Settled, Token};
use zen_model::observe::Observation;
use zen_model::settle::{Attempt, Class};
use zen_model::{DeadReason, Event, Settlement, Timestamp};
use zen_queue::MAX_LOST_LEASES;

use crate::kit::{Intake, keys};

pub struct Fed {
    pub intake: Intake,
    pub handle: Handle,
}

/// A session under the test's control.
pub struct Egress {
    frames: mpsc::Receiver<FromIngester>,
    pub sender: mpsc::Sender<FromEgress>,
    pub leases: Vec<Lease>,
}

fn url() -> Target {
    Target::Url { tls: true, host: "x.example".into(), port: 443, path_and_query: "/".into() }
}

pub fn sample(name: &str, change: impl FnOnce(&mut Destination)) -> Destination {
    let mut destination = Destination::sample(&format!("a/{name}"), url());
    change(&mut destination);
    destination
}

fn snapshot(destinations: impl IntoIterator<Item = Destination>) -> Snapshot {
    let mut snapshot = Snapshot { generation: 1, ..Snapshot::default() };
    for destination in destinations {
        snapshot.destinations.insert(destination.key.clone(), Arc::new(destination));
    }
    snapshot
}

impl Fed {
    pub fn with(destinations: impl IntoIterator<Item = Destination>) -> Self {
        let intake = Intake::start((snapshot(destinations), Vec::new()), Limits::default(), None);
        let (handle, dispatcher) = intake.ingester.feed(intake.shutdown.clone());
        tokio::spawn(dispatcher);
        Self { intake, handle }
    }

    pub fn connect(&self, max_leases: u32) -> Egress {
        self.connect_as(Carrier::Link, "test", max_leases)
    }

    pub fn connect_as(&self, carrier: Carrier, instance: &str, max_leases: u32) -> Egress {
        self.connect_with(carrier, Hello { max_leases, instance: instance.into(), ..Hello::default() })
    }

    /// A session of the process that calls itself so.
    fn connect_again(&self, incarnation: u64) -> Egress {
        self.connect_with(Carrier::Link, Hello { max_leases: 1000, incarnation, ..Hello::default() })
    }

    fn connect_with(&self, carrier: Carrier, hello: Hello) -> Egress {
        let (outgoing, frames) = mpsc::channel(4);
        let (sender, incoming) = mpsc::channel(4);
        let hello = Hello { version: 1, max_bytes: 1 << 24, ..hello };
        let incoming = Box::pin(ReceiverStream::new(incoming));
        let link = Link { carrier, peer: "spiffe://test/egress".into(), hello, outgoing, incoming };
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.serve(link).await });
        Egress { frames, sender, leases: Vec::new() }
    }

    pub fn reconfigure(&self, destinations: impl IntoIterator<Item = Destination>) {
        self.intake.snapshot.store(Arc::new(snapshot(destinations)));
        self.handle.configured(true);
    }

    fn breakers(&self) -> Vec<bool> {
        let seen = self.intake.seen.0.lock().unwrap();
        seen.iter()
            .filter_map(|o| if let Observation::Breaker { opened, .. } = o { Some(*opened) } else { None })
            .collect()
    }
}

impl Egress {
    /// Takes leases until nothing more comes for a moment.
    pub async fn take(&mut self) -> Vec<Lease> {
        let mut taken = Vec::new();
        while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(1), self.frames.recv()).await {
            taken.extend(frame.leases);
        }
        self.leases.extend(taken.iter().cloned());
        taken
    }

    /// Takes leases and counts what is held by destination.
    pub async fn held(&mut self) -> BTreeMap<String, usize> {
        self.take().await;
        let mut held = BTreeMap::new();
        for lease in &self.leases {
            *held.entry(lease.destination.clone()).or_default() += 1;
        }
        held
    }

    async fn settle(&mut self, leases: &[Lease], settlement: &Settlement, class: Option<Class>) {
        let attempt = class.map(|class| Attempt {
            at: Timestamp::now(),
            class,
            status: 0,
            took: Duration::from_millis(1),
            error: None,
            response: bytes::Bytes::new(),
        });
        let settled = leases.iter().map(|lease| Settled::new(lease.token, settlement, attempt.as_ref())).collect();
        self.leases.retain(|lease| !leases.contains(lease));
        self.sender.send(FromEgress { settled, ..FromEgress::default() }).await.unwrap();
    }

    pub async fn ack(&mut self, leases: &[Lease]) {
        self.settle(leases, &Settlement::Ack, Some(Class::Delivered)).await;
    }

    async fn fail(&mut self, leases: &[Lease]) {
        let retry = Settlement::Retry { after: Duration::from_secs(1) };
        self.settle(leases, &retry, Some(Class::Transient)).await;
    }
}

fn tokens(leases: &[Lease]) -> Vec<Token> {
    leases.iter().map(|lease| lease.token).collect()
}

#[tokio::test(start_paused = true)]
async fn leases_are_signed_records_as_they_were_committed() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"one");
    let leases = egress.take().await;
    let [lease] = leases.as_slice() else { panic!("{leases:?}") };
    let event = Event::decode(lease.record.clone()).unwrap();
    assert_eq!((lease.destination.as_str(), event.body.as_ref()), ("a/ci", &b"one"[..]));
    let now = Timestamp::now();
    keys().verify(&lease.signature, &event.id, &event.content_hash, now, Duration::from_mins(1)).expect("verifies");
    egress.ack(&leases).await;
    assert!(egress.take().await.is_empty());
    assert_eq!(fed.intake.queue.open("a/ci"), 0);
}

/// D-10: a target that hangs fills its own lane and moves nobody else, however much waits for it.
#[tokio::test(start_paused = true)]
async fn a_hanging_destination_takes_no_lease_of_another() {
    let hanging = (0..5).map(|n| sample(&format!("hang-{n}"), |d| d.concurrency = 64));
    let fed = Fed::with(hanging.chain([sample("good", |d| d.concurrency = 8)]));
    for n in 0..5 {
        for _ in 0..500 {
            fed.intake.queue.put("a", &[&format!("a/hang-{n}")], b"x");
        }
    }
    let mut egress = fed.connect(1024);
    let held = egress.held().await;
    assert_eq!(held.values().copied().collect::<Vec<_>>(), [128; 5], "two leases for each slot: {held:?}");
    // The sixth comes last and finds all the room it can use, wave after wave, while the others hang.
    for _ in 0..10 {
        for _ in 0..8 {
            fed.intake.queue.put("a", &["a/good"], b"x");
        }
        let leases = egress.take().await;
        assert_eq!(leases.iter().filter(|lease| lease.destination == "a/good").count(), 8);
        assert_eq!(leases.len(), 8, "and nothing of the others comes in between");
        egress.ack(&leases).await;
    }
    egress.take().await;
    assert_eq!(fed.intake.queue.open("a/good"), 0);
}

/// Even with a window of two that hanging lanes use up, each lane gets one lease beyond it.
#[tokio::test(start_paused = true)]
async fn a_full_window_still_lets_every_destination_go_on() {
    let fed = Fed::with(["h1", "h2", "h3", "good"].map(|name| sample(name, |_| {})));
    let mut egress = fed.connect(2);
    for name in ["a/h1", "a/h2", "a/h3"] {
        for _ in 0..10 {
            fed.intake.queue.put("a", &[name], b"x");
        }
    }
    assert!(egress.held().await.values().all(|count| *count <= 2));
    for _ in 0..5 {
        fed.intake.queue.put("a", &["a/good"], b"x");
    }
    for _ in 0..5 {
        let leases: Vec<_> = egress.take().await.into_iter().filter(|l| l.destination == "a/good").collect();
        assert_eq!(leases.len(), 1, "one at a time");
        egress.ack(&leases).await;
    }
    egress.take().await;
    assert_eq!(fed.intake.queue.open("a/good"), 0);
}

#[tokio::test(start_paused = true)]
async fn concurrency_bounds_the_leases_and_settlements_free_them() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 4)]);
    let mut egress = fed.connect(1000);
    for _ in 0..20 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let leases = egress.take().await;
    assert_eq!(leases.len(), 8, "two for each slot");
    egress.ack(&leases[..4]).await;
    assert_eq!(egress.take().await.len(), 4);
}

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

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_gives_its_leases_back_at_once() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut first = fed.connect(1000);
    for _ in 0..3 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let lost = first.take().await;
    assert_eq!(lost.len(), 3);
    drop(first);
    let mut second = fed.connect(1000);
    let again = second.take().await;
    assert_eq!(again.len(), 3, "delivered again without waiting for the term");
    assert!(tokens(&again).iter().all(|token| !tokens(&lost).contains(token)), "under new leases");
    assert_eq!(fed.intake.queue.with(|state| state.deliveries.values().map(|d| d.lost).sum::<u32>()), 3);
    // Late words: a stale retry is ignored, a stale ack counts.
    second.settle(&lost[..1], &Settlement::Ack, None).await;
    second.settle(&lost[1..2], &Settlement::Dead { reason: DeadReason::Rejected }, None).await;
    second.take().await;
    assert_eq!((fed.intake.queue.open("a/ci"), fed.intake.queue.dead("a/ci").len()), (2, 0));
}

/// A silent egress loses its leases to time, a renewing one keeps them.
/// D-04, D-02: a line that breaks says nothing about the events; egresses that never come back do.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_poison_where_egresses_die_with_it_and_not_where_a_line_breaks() {
    let fed = Fed::with([sample("ci", |_| {})]);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let broken = async |incarnation| {
        let mut egress = fed.connect_again(incarnation);
        assert_eq!(egress.take().await.len(), 1, "due again at once");
        drop(egress);
    };
    for _ in 0..3 * MAX_LOST_LEASES {
        broken(7).await;
    }
    for incarnation in 8..8 + u64::from(MAX_LOST_LEASES) {
        broken(incarnation).await;
    }
    assert_eq!(fed.connect_again(100).take().await.len(), 0, "the sixth, the first included, that did not come back");
    assert_eq!(fed.intake.queue.dead("a/ci"), [DeadReason::Poison]);
}

#[tokio::test(start_paused = true)]
async fn leases_expire_unless_renewed() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(20)).await;
        egress.sender.send(FromEgress { renew: tokens(&leases), ..FromEgress::default() }).await.unwrap();
        assert!(egress.take().await.is_empty(), "renewed");
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(egress.take().await.len(), 1, "expired and leased again");
}

#[tokio::test(start_paused = true)]
async fn begin_is_durable_before_proceed_and_stale_ones_are_refused() {
    let fed = Fed::with([sample("ci", |d| d.idempotent = false)]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    let stale = Token { lease: 99, ..leases[0].token };
    let begin = vec![leases[0].token, stale];
    egress.sender.send(FromEgress { begin, ..FromEgress::default() }).await.unwrap();
    let mut answers = FromIngester::default();
    for _ in 0..2 {
        let frame = egress.frames.recv().await.unwrap();
        answers.proceed.extend(frame.proceed);
        answers.refused.extend(frame.refused);
    }
    assert_eq!((answers.proceed, answers.refused), (vec![leases[0].token], vec![stale]));
    assert_eq!(fed.intake.queue.with(|state| state.begun.len()), 1);
}

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

#[tokio::test(start_paused = true)]
async fn a_draining_egress_gets_nothing_more_and_another_takes_over() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut first = fed.connect(1000);
    first.sender.send(FromEgress { draining: true, ..FromEgress::default() }).await.unwrap();
    first.take().await;
    fed.intake.queue.put("a", &["a/ci"], b"x");
    assert!(first.take().await.is_empty());
    let mut second = fed.connect(1000);
    assert_eq!(second.take().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_settlement_ends_the_session() {
    let fed = Fed::with([sample("ci", |_| {})]);
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    let settled = vec![Settled { token: leases[0].token, kind: 77, ..Settled::default() }];
    egress.sender.send(FromEgress { settled, ..FromEgress::default() }).await.unwrap();
    assert!(egress.frames.recv().await.is_none(), "the stream ends");
    assert_eq!(fed.connect(1000).take().await.len(), 1);
}

/// The drain of the feed: no new leases, settlements are still taken, then it ends.
#[tokio::test(start_paused = true)]
async fn the_drain_waits_for_settlements() {
    let intake = Intake::start((snapshot([sample("ci", |_| {})]), Vec::new()), Limits::default(), None);
    let (handle, dispatcher) = intake.ingester.feed(intake.shutdown.clone());
    let running = tokio::spawn(dispatcher);
    let fed = Fed { intake, handle };
    let mut egress = fed.connect(1000);
    fed.intake.queue.put("a", &["a/ci"], b"x");
    let leases = egress.take().await;
    fed.intake.shutdown.cancel();
    fed.intake.queue.put("a", &["a/ci"], b"late");
    assert!(egress.take().await.is_empty(), "nothing new");
    assert!(!running.is_finished());
    egress.ack(&leases).await;
    running.await.unwrap();
    assert_eq!(fed.intake.queue.open("a/ci"), 1, "what is left stays for the next start");
}

/// Leases go out in batches: a backlog costs few calls to the queue.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_leased_in_batches() {
    let fed = Fed::with([sample("ci", |d| d.concurrency = 1000)]);
    for _ in 0..5000 {
        fed.intake.queue.put("a", &["a/ci"], b"x");
    }
    let mut egress = fed.connect(10_000);
    while fed.intake.queue.open("a/ci") > 0 {
        let leases = egress.take().await;
        egress.ack(&leases).await;
        egress.take().await;
        let rest = std::mem::take(&mut egress.leases);
        egress.ack(&rest).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let calls = fed.intake.queue.with(|state| state.lease_calls);
    assert!(calls < 100, "{calls} calls for 5000 events");
}
