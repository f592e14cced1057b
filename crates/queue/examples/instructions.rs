//! What an event costs the embedded queue in instructions, which no neighbour on the machine changes.
//!
//! `valgrind --tool=callgrind target/release/examples/instructions [EVENTS] [BODY BYTES] [append|deliver]`
//!
//! The difference of two runs with different numbers of events is free of start-up and end. It also prints the bytes
//! that were written, of a run without valgrind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use zen_model::{Event, ObjectKey, Settlement};
use zen_queue::{Claim, Demand, Embedded, NewEvent, Options, Queue, Settled};
use zen_seal::Keyring;

/// Commits under way at one time.
const AT_ONCE: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let number = |text: Option<String>, or| text.and_then(|text| text.parse().ok()).unwrap_or(or);
    let events: usize = number(args.next(), 4096);
    let body: usize = number(args.next(), 1024);
    let deliver = args.next().is_some_and(|what| what == "deliver");
    let folder = std::env::temp_dir().join(format!("zen-queue-instructions-{}", std::process::id()));
    let queue = Embedded::open(&folder, Keyring::ephemeral(), Options::default()).expect("opens");
    let before = written();
    for round in 0..events / AT_ONCE {
        let mut sent = JoinSet::new();
        for nth in 0..AT_ONCE {
            let queue = Arc::clone(&queue);
            sent.spawn(async move { queue.commit(event(round * AT_ONCE + nth, body)).await.expect("commits") });
        }
        sent.join_all().await;
        if deliver {
            settle(&queue).await;
        }
    }
    queue.close().await;
    println!("{} bytes written an event", (written() - before) / events as u64);
    let _ = std::fs::remove_dir_all(&folder);
}

fn event(number: usize, body: usize) -> NewEvent {
    let event = Event {
        id: format!("7c1b1b0e-0000-4000-8000-{number:012}"),
        namespace: "team-a".into(),
        webhook: "github".into(),
        r#type: "push".into(),
        source: "https://github.com/acme/shop".into(),
        time: 1_700_000_000_000,
        content_type: "application/json".into(),
        request_id: format!("018f3f9a-0000-7000-8000-{number:012}"),
        content_hash: Bytes::from_static(&[7; 32]),
        body: Bytes::from(vec![b'x'; body]),
        ..Event::default()
    };
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    let claim = Some(Claim { hash, window: Duration::from_hours(24) });
    NewEvent { event, destinations: vec![ObjectKey::new("team-a", "ci")], claim }
}

async fn settle(queue: &Embedded) {
    let demand = Demand {
        destination: ObjectKey::new("team-a", "ci"),
        max: AT_ONCE,
        max_bytes: usize::MAX,
        term: Duration::from_secs(30),
    };
    let leased = queue.lease(demand).await.expect("leases");
    let ack = |token| Settled { token, settlement: Settlement::Ack, attempt: None };
    queue.settle(leased.into_iter().map(|leased| ack(leased.token)).collect()).await.expect("settles");
}

fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}
