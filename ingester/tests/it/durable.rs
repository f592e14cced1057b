//! Over the embedded queue: what the queue in memory stands for elsewhere, with a real disk beneath.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use zen_ingester::Limits;
use zen_ingester::feed::{Carrier, Link};
use zen_link::frame::{FromEgress, Hello, Settled};
use zen_model::{Event, Settlement};
use zen_queue::{Embedded, Options, Queue};
use zen_seal::Keyring;

use crate::kit::{Intake, bearer, configuration, destination, until};

fn intake(folder: &TempDir) -> Intake<Embedded> {
    let queue = Embedded::open(folder.path(), Keyring::ephemeral(), Options::default()).expect("opens");
    let keyed = bearer(&json!({"idempotency": {"key": {"header": "X-Id"}, "window": "1h"}}));
    Intake::over(queue, configuration(&[("hook", keyed)], &[("ci", destination())]), Limits::default(), None)
}

/// Repeats that reach the disk in one batch are one event, and each answer waits until it is durable (W-07).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_repeats_in_one_batch_are_one_event() {
    let folder = TempDir::new().unwrap();
    let intake = Arc::new(intake(&folder));
    let requests = (0..16).map(|_| {
        let intake = Arc::clone(&intake);
        tokio::spawn(async move { intake.good("/a/hook", &["x-id: 7"], b"x").await })
    });
    let mut ids = Vec::new();
    let mut repeats = 0;
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.json()["id"].clone());
        repeats += usize::from(answer.header("zen-duplicate") == Some("true"));
    }
    ids.dedup();
    assert_eq!((ids.len(), repeats), (1, 15));
    assert_eq!((intake.queue.stats().committed, intake.queue.stats().duplicates), (1, 15));
}

/// From a socket to the disk to an egress and back, every body byte for byte; then the queue is empty and closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_the_whole_way_in_batches() {
    let folder = TempDir::new().unwrap();
    let intake = Arc::new(intake(&folder));
    let (handle, dispatcher) = intake.ingester.feed(intake.shutdown.clone());
    tokio::spawn(dispatcher);
    let (outgoing, mut frames) = mpsc::channel(4);
    let (sender, incoming) = mpsc::channel(4);
    let hello = Hello { version: 1, max_leases: 1000, max_bytes: 1 << 24, instance: "test".into(), ..Hello::default() };
    let incoming = Box::pin(ReceiverStream::new(incoming));
    tokio::spawn(async move {
        handle.serve(Link { carrier: Carrier::Link, peer: "test".into(), hello, outgoing, incoming }).await;
    });

    for n in 0..200 {
        let body = format!("body {n}");
        assert_eq!(intake.good("/a/hook", &[&format!("x-id: {n}")], body.as_bytes()).await.status, 202);
    }
    let mut bodies = Vec::new();
    while bodies.len() < 200 {
        let frame =
            tokio::time::timeout(Duration::from_secs(10), frames.recv()).await.expect("in time").expect("a frame");
        let mut settled = Vec::new();
        for lease in frame.leases {
            let event = Event::decode(lease.record).unwrap();
            bodies.push(String::from_utf8(event.body.to_vec()).unwrap());
            settled.push(Settled::new(lease.token, &Settlement::Ack, None));
        }
        sender.send(FromEgress { settled, ..FromEgress::default() }).await.unwrap();
    }
    bodies.sort_by_key(|body| body[5..].parse::<u32>().unwrap());
    assert_eq!(bodies, (0..200).map(|n| format!("body {n}")).collect::<Vec<_>>());
    until("everything is settled", || intake.queue.stats().destinations.values().all(|counts| counts.waiting == 0))
        .await;
    intake.queue.close().await;
    let late = intake.good("/a/hook", &["x-id: late"], b"x").await;
    assert_eq!(late.code(), "Draining", "a closed queue is the end of the process");
}
