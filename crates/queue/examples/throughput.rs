//! How fast the embedded queue is on this machine's disk, and what an event costs.
//!
//! `cargo run --release -p zen-queue --example throughput -- [FOLDER] [WAITING] [SECONDS]`
//!
//! Producers commit events of 1 KiB with an idempotency claim, consumers lease and acknowledge: first into an empty
//! queue, then behind WAITING others (default 1,000,000). CPU is that of the whole process, producers included.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zen_model::{Event, ObjectKey, Settlement};
use zen_queue::{Claim, Demand, Embedded, NewEvent, Options, Queue, Settled};
use zen_seal::Keyring;

const PRODUCERS: usize = 64;
const BODY: usize = 1024;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("zen-queue-throughput"), PathBuf::from);
    let number = |text: Option<String>, or| text.and_then(|text| text.parse().ok()).unwrap_or(or);
    let waiting: u64 = number(args.next(), 1_000_000);
    let time = Duration::from_secs(number(args.next(), 5));
    let _ = std::fs::remove_dir_all(&folder);
    let keyring = Keyring::ephemeral();
    let open = || Embedded::open(&folder, keyring.clone(), Options::default()).expect("opens");
    println!(
        "{:<34} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8}",
        "", "events/s", "p50 ms", "p99 ms", "CPU µs", "written", "batch", "RSS MiB"
    );

    let queue = open();
    for _ in 0..2 {
        run("append", &queue, time, 0).await;
        drain(&queue).await;
        run("append + lease + ack", &queue, time, 2).await;
        drain(&queue).await;
    }
    let began = Instant::now();
    fill(&queue, waiting).await;
    println!(
        "{waiting} waiting after {:.1} s, RSS {} MiB, {} MiB of files",
        began.elapsed().as_secs_f64(),
        rss(),
        disk(&queue)
    );
    run("append, behind them", &queue, time, 0).await;
    queue.close().await;
    drop(queue);
    let began = Instant::now();
    let queue = open();
    println!("opened again in {:.2} s, RSS {} MiB", began.elapsed().as_secs_f64(), rss());
    run("append + lease + ack, behind them", &queue, time, 2).await;
    let began = Instant::now();
    let peak = disk(&queue);
    let drained = drain(&queue).await;
    println!("{drained} drained in {:.1} s, RSS {} MiB", began.elapsed().as_secs_f64(), rss());
    let began = Instant::now();
    while disk(&queue) > peak / 10 && began.elapsed() < Duration::from_mins(1) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("files {peak} MiB, {:.1} s later {} MiB", began.elapsed().as_secs_f64(), disk(&queue));
    queue.close().await;
}

/// Producers commit for a while, consumers lease and acknowledge.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn run(name: &str, queue: &Arc<Embedded>, time: Duration, consumers: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let before = (queue.stats(), Usage::now(), Instant::now());
    let mut producers = JoinSet::new();
    for _ in 0..PRODUCERS {
        let (queue, stop) = (Arc::clone(queue), Arc::clone(&stop));
        producers.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                queue.commit(event()).await.expect("commits");
                took.push(began.elapsed());
            }
            took
        });
    }
    let mut leasing = JoinSet::new();
    let delivered = Arc::new(AtomicU64::new(0));
    for _ in 0..consumers {
        let (queue, stop, delivered) = (Arc::clone(queue), Arc::clone(&stop), Arc::clone(&delivered));
        leasing.spawn(async move {
            let mut changes = queue.changes();
            while !stop.load(Ordering::Relaxed) {
                delivered.fetch_add(consume(&queue, &mut changes).await, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut took: Vec<Duration> = producers.join_all().await.into_iter().flatten().collect();
    leasing.join_all().await;
    let (stats, usage, seconds) = (queue.stats(), Usage::now(), before.2.elapsed().as_secs_f64());
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 1000).min(took.len() - 1)].as_secs_f64() * 1e3;
    let events = took.len() as f64;
    println!(
        "{name:<34} {:>9.0} {:>8.2} {:>8.2} {:>8.1} {:>8.0} {:>7.1} {:>8}   delivered/s {:.0}",
        events / seconds,
        at(500),
        at(990),
        (usage.cpu - before.1.cpu) * 1e6 / events,
        (usage.written - before.1.written) as f64 / events,
        events / (stats.batches - before.0.batches) as f64,
        rss(),
        delivered.load(Ordering::Relaxed) as f64 / seconds,
    );
}

fn event() -> NewEvent {
    static BODY_BYTES: [u8; BODY] = [b'x'; BODY];
    let mut hash = [0; 16];
    fastrand::fill(&mut hash);
    let event = Event {
        namespace: "team-a".into(),
        webhook: "github".into(),
        r#type: "push".into(),
        source: "https://github.com/acme".into(),
        time: zen_model::Timestamp::now().0,
        content_type: "application/json".into(),
        request_id: "0198c0de-0000-7000-8000-000000000000".into(),
        content_hash: Bytes::from_static(&[7; 32]),
        body: Bytes::from_static(&BODY_BYTES),
        ..Event::default()
    };
    let claim = Some(Claim { hash, window: Duration::from_hours(24) });
    NewEvent { event, destinations: vec![ObjectKey::new("team-a", "ci")], claim }
}

async fn consume(queue: &Embedded, changes: &mut watch::Receiver<u64>) -> u64 {
    changes.mark_unchanged();
    let demand = Demand {
        destination: ObjectKey::new("team-a", "ci"),
        max: 256,
        max_bytes: 1 << 20,
        term: Duration::from_secs(30),
    };
    let leased = queue.lease(demand).await.expect("leases");
    let count = leased.len() as u64;
    if count == 0 {
        // As a dispatcher does: sleep until something is due.
        let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
        return 0;
    }
    let ack = |token| Settled { token, settlement: Settlement::Ack, attempt: None };
    queue.settle(leased.into_iter().map(|leased| ack(leased.token)).collect()).await.expect("settles");
    count
}

async fn drain(queue: &Embedded) -> u64 {
    let mut drained = 0;
    let mut changes = queue.changes();
    while queue.stats().destinations.values().any(|stats| stats.waiting > 0) {
        drained += consume(queue, &mut changes).await;
    }
    drained
}

async fn fill(queue: &Arc<Embedded>, count: u64) {
    let mut producers = JoinSet::new();
    for _ in 0..256 {
        let queue = Arc::clone(queue);
        producers.spawn(async move {
            for _ in 0..count / 256 {
                queue.commit(event()).await.expect("commits");
            }
        });
    }
    producers.join_all().await;
}

/// CPU seconds and bytes written of this process.
struct Usage {
    cpu: f64,
    written: u64,
}

impl Usage {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        Self { cpu: (ticks(11) + ticks(12)) / 100.0, written: proc("io", "write_bytes:") }
    }
}

fn rss() -> u64 {
    proc("status", "VmRSS:") / 1024
}

fn disk(queue: &Embedded) -> u64 {
    queue.stats().disk_bytes >> 20
}

fn proc(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok()).unwrap_or(0)
}
