//! A slow peer holds the sender back: what waits for it is bounded (issue 3, point 8).

use std::time::Duration;

use tokio::time::timeout;
use zen_link::frame::FromIngester;
use zen_link::{Options, TARGET_BYTES};

use crate::support::{PATIENCE, lease, pair};

/// A sender that makes its caller wait so long is held back. Shorter than a busy machine needs would only make the test
/// blunter, never fail it.
const HELD_BACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_reader_that_stops_stops_the_sender() {
    let options = Options { window: 4 << 20, ..Options::default() };
    let queue = options.queue as u64;
    let (near, mut far, _listening) = pair(options).await;
    let frame = |seq| FromIngester { leases: vec![lease(seq, TARGET_BYTES)], ..FromIngester::default() };
    let mut sent = 0;
    while timeout(HELD_BACK, near.sender.send(frame(sent))).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "nothing holds the sender back");
    }
    // The window of 4 MiB, the queue, and a few in the buffers of encoder, HTTP/2 and sockets.
    assert!(sent <= 4 + queue + 8, "{sent} MiB wait for a reader that does not read");
    // Nothing of it was lost, and it goes on as soon as the reader does.
    let sender = near.sender.clone();
    let rest = tokio::spawn(async move {
        for seq in sent..sent + 20 {
            sender.send(frame(seq)).await.expect("up");
        }
    });
    for seq in 0..sent + 20 {
        let frame = timeout(PATIENCE, far.receiver.next()).await.expect("in time").expect("up").expect("a frame");
        assert_eq!(frame.leases[0].token.seq, seq);
    }
    rest.await.expect("sent");
}

/// A lease that waits at the egress keeps its own record in memory, not the frame it came in.
#[tokio::test]
async fn a_waiting_record_does_not_hold_its_frame() {
    let (near, mut far, _listening) = pair(Options::default()).await;
    let leases: Vec<_> = (0..64).map(|seq| lease(seq, 1024)).collect();
    near.sender.send(FromIngester { leases, ..FromIngester::default() }).await.expect("up");
    let mut frame = timeout(PATIENCE, far.receiver.next()).await.expect("in time").expect("up").expect("a frame");
    let kept = frame.leases.remove(10);
    drop(frame);
    assert!(kept.record.is_unique(), "somebody else still holds the buffer");
    assert_eq!(kept.record, lease(10, 1024).record);
}
