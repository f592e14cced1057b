//! What two sides that get on with each other do.

use tokio::time::timeout;
use zen_link::frame::{FromEgress, FromIngester, Settled, Token};
use zen_link::{FrameCutter, Options, Session, Side};
use zen_model::Settlement;

use crate::support::{Mesh, PATIENCE, dialer, egress, id, ingester, lease, listen, pair};

const LEASES: u64 = 20_000;

async fn next<S: Side>(session: &mut Session<S>) -> S::Received {
    timeout(PATIENCE, session.receiver.next()).await.expect("in time").expect("up").expect("a frame")
}

/// Sends leases, settles each, and checks that all come back in order, with the records intact.
async fn exchange(mut ingester: Session<zen_link::Ingester>, mut egress: Session<zen_link::Egress>) {
    let sender = ingester.sender.clone();
    let feed = tokio::spawn(async move {
        for frame in FrameCutter::cut((0..LEASES).map(|seq| lease(seq, 100))) {
            sender.send(frame).await.expect("up");
        }
    });
    let settle = tokio::spawn(async move {
        let mut seen = 0;
        while seen < LEASES {
            let frame = next(&mut egress).await;
            for lease in &frame.leases {
                assert_eq!(lease.token.seq, seen);
                assert_eq!(lease.record, crate::support::lease(seen, 100).record);
                seen += 1;
            }
            let settled = frame.leases.iter().map(|lease| Settled::new(lease.token, &Settlement::Ack, None)).collect();
            egress.sender.send(FromEgress { settled, ..FromEgress::default() }).await.expect("up");
        }
        egress
    });
    let mut settled = 0;
    while settled < LEASES {
        for end in next(&mut ingester).await.settled {
            let (token, settlement, _) = end.into_parts().expect("valid");
            assert_eq!((token.seq, settlement), (settled, Settlement::Ack));
            settled += 1;
        }
    }
    feed.await.expect("sent");
    let egress = settle.await.expect("settled");
    // An orderly end is no error on either side.
    let close = tokio::spawn(egress.close(PATIENCE));
    assert!(timeout(PATIENCE, ingester.receiver.next()).await.expect("in time").is_none());
    drop(ingester);
    assert_eq!(close.await.expect("closed"), []);
}

#[tokio::test]
async fn thousands_of_leases_when_the_ingester_dials() {
    let (near, far, _listening) = pair(Options::default()).await;
    assert_eq!((&near.peer, &far.peer), (&id("egress"), &id("ingester")));
    assert_eq!((&near.hello, &near.welcome), (&far.hello, &far.welcome));
    assert_eq!((near.hello.max_leases, near.hello.instance.as_str()), (1000, "egress-0"));
    assert_eq!((near.welcome.term, near.welcome.instance.as_str()), (60_000, "ingester-0"));
    exchange(near, far).await;
}

/// The same frames whoever dials (D-02).
#[tokio::test]
async fn thousands_of_leases_when_the_egress_dials() {
    let mesh = Mesh::new();
    let mut listening = listen(mesh.server("ingester", "egress"), ingester(), Options::default()).await;
    let egress = dialer(listening.address, mesh.client("egress", "ingester"), egress()).connect().await.expect("up");
    let ingester = listening.session().await;
    assert_eq!((&egress.peer, &ingester.peer), (&id("ingester"), &id("egress")));
    exchange(ingester, egress).await;
}

#[tokio::test]
async fn every_kind_of_frame_arrives() {
    let (mut near, mut far, _listening) = pair(Options::default()).await;
    let tokens: Vec<_> = (0..3).map(|seq| Token { seq, destination: 2, lease: 9 }).collect();
    let from_ingester =
        FromIngester { proceed: tokens.clone(), refused: tokens[1..].to_vec(), ..FromIngester::default() };
    near.sender.send(from_ingester.clone()).await.expect("up");
    assert_eq!(next(&mut far).await, from_ingester);
    let from_egress =
        FromEgress { renew: tokens.clone(), begin: tokens[2..].to_vec(), draining: true, ..FromEgress::default() };
    far.sender.send(from_egress.clone()).await.expect("up");
    assert_eq!(next(&mut near).await, from_egress);
}

/// A drain: the last settlements arrive, although the egress hangs up right behind them.
#[tokio::test]
async fn what_was_sent_before_a_close_arrives() {
    let (mut near, far, _listening) = pair(Options::default()).await;
    let sending = tokio::spawn(async move {
        for seq in 0..500 {
            let token = Token { seq, ..Token::default() };
            let settled = vec![Settled::new(token, &Settlement::Ack, None); 50];
            far.sender.send(FromEgress { settled, ..FromEgress::default() }).await.expect("up");
        }
        far.close(PATIENCE).await
    });
    let mut settled = 0;
    while let Some(frame) = timeout(PATIENCE, near.receiver.next()).await.expect("in time") {
        settled += frame.expect("no error").settled.len();
    }
    drop(near);
    assert_eq!(settled, 500 * 50);
    sending.await.expect("closed");
}

#[tokio::test]
async fn shutdown_takes_no_more_and_waits_for_what_is_up() {
    let mesh = Mesh::new();
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), Options::default()).await;
    let dialer = dialer(listening.address, mesh.client("ingester", "egress"), ingester());
    let mut near = dialer.connect().await.expect("up");
    let mut far = listening.session().await;
    listening.shutdown.take().expect("once").send(()).expect("listening");
    while dialer.connect().await.is_ok() {}
    far.sender.send(FromEgress { draining: true, ..FromEgress::default() }).await.expect("still up");
    assert!(next(&mut near).await.draining);
    near.sender.send(FromIngester::default()).await.expect("still up");
    next(&mut far).await;
    drop((near, far));
    listening.handlers.clear();
    timeout(PATIENCE, listening.task).await.expect("in time").expect("ended");
}

#[tokio::test]
async fn a_record_larger_than_a_frame_should_be_travels_alone() {
    let (near, mut far, _listening) = pair(Options::default()).await;
    let sender = near.sender.clone();
    tokio::spawn(async move {
        for frame in FrameCutter::cut([lease(1, 10), lease(2, 20 << 20), lease(3, 10)]) {
            sender.send(frame).await.expect("up");
        }
    });
    for (seq, size) in [(1, 10), (2, 20 << 20), (3, 10)] {
        let frame = next(&mut far).await;
        assert_eq!(frame.leases.len(), 1);
        assert_eq!((frame.leases[0].token.seq, frame.leases[0].record.len()), (seq, size));
    }
    drop(near);
}
