//! The feed with scripted egress sessions and a paused clock: fairness, windows, breaker, lost sessions, consent (D-04, D-10,
//! D-11, W-12).

mod breaker;
mod destinations;
mod leases;
mod sessions;

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
