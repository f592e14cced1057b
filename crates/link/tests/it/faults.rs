//! Peers that die, lie or are somebody else.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use zen_link::convert::Invalid;
use zen_link::frame::{FromEgress, FromIngester, Hello, Lease, Settled, Welcome};
use zen_link::{Dialer, Error, Frame, Metrics, Options, Presented, Receiver, Role, Side};

use crate::support::{Mesh, PATIENCE, dialer, egress, ingester, lease, listen, listen_telling, pair};

#[tokio::test]
async fn an_egress_that_is_killed_ends_the_session_with_an_error() {
    let (mut near, far, listening) = pair(Options::default()).await;
    near.sender.send(FromIngester { leases: vec![lease(1, 10)], ..FromIngester::default() }).await.expect("up");
    listening.task.abort();
    // The task and with it the connection are gone; the session's own half is still in the test's hand.
    let end = timeout(PATIENCE, near.receiver.next()).await.expect("in time").expect("an end");
    assert!(matches!(end, Err(Error::Lost(_))), "{end:?}");
    assert!(near.receiver.next().await.is_none());
    timeout(PATIENCE, near.sender.closed()).await.expect("the sender notices too");
    drop(far);
}

/// No FIN and no RST: a pulled cable. Both sides notice by the ping that stays unanswered.
#[tokio::test]
async fn silence_ends_the_session_on_both_sides() {
    let mesh = Mesh::new();
    let options = Options {
        keep_alive: Duration::from_millis(50),
        keep_alive_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), options.clone()).await;
    let (address, cut) = proxy(listening.address).await;
    let near = dialer(address, mesh.client("ingester", "egress"), ingester()).with_options(options);
    let mut near = near.connect().await.expect("up");
    let mut far = listening.session().await;
    // Longer than a ping and its limit: idle is not dead.
    assert!(timeout(Duration::from_millis(600), near.receiver.next()).await.is_err());
    cut.send(true).expect("the proxy runs");
    let (near_end, far_end) = timeout(PATIENCE, async { tokio::join!(near.receiver.next(), far.receiver.next()) })
        .await
        .expect("both notice");
    assert!(matches!(near_end, Some(Err(Error::Lost(_)))), "{near_end:?}");
    assert!(matches!(far_end, Some(Err(Error::Lost(_)))), "{far_end:?}");
}

/// Forwards until it is told to forward nothing more, and keeps both sockets open.
async fn proxy(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.expect("accepted");
        let far = TcpStream::connect(to).await.expect("connected");
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        let forward = |mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf| {
            let is_cut = is_cut.clone();
            async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = from.read(&mut buffer).await {
                    if *is_cut.borrow() {
                        std::future::pending::<()>().await;
                    }
                    if to.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            }
        };
        tokio::join!(forward(near_read, far_write), forward(far_read, near_write));
    });
    (address, cut)
}

/// Waits until the line is among the metrics.
pub async fn counted(metrics: &Metrics, line: &str) {
    let waiting = async {
        while !crate::reconnect::text(metrics).contains(line) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "{line} is not among {}", crate::reconnect::text(metrics));
}

/// A mismatch of identities never yields a session (D-03).
#[tokio::test]
async fn a_wrong_identity_is_refused_on_either_side() {
    let mesh = Mesh::new();
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), Options::default()).await;
    for (account, expected) in [("ingester", "operator"), ("operator", "egress")] {
        let refused = dialer(listening.address, mesh.client(account, expected), ingester()).connect().await;
        assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
    }
    let stranger = Mesh::new().client("ingester", "egress");
    let refused = dialer(listening.address, stranger, ingester()).connect().await;
    assert!(matches!(refused, Err(Error::Tls(_))), "{refused:?}");
    assert!(listening.sessions.try_recv().is_err());
    counted(&listening.metrics, r#"zen_link_refused_total{outcome="tls"} 3"#).await;
    // And the right one gets in still.
    let right = dialer(listening.address, mesh.client("ingester", "egress"), ingester());
    let _near = right.connect().await.expect("up");
    listening.session().await;
}

/// An egress of the future.
#[derive(Clone)]
struct NextVersion;

impl Side for NextVersion {
    type Sent = FromEgress;
    type Received = FromIngester;
    const ROLE: Role = Role::Egress;

    async fn greet(
        &self,
        _presented: &Presented,
        sender: &mpsc::Sender<FromEgress>,
        receiver: &mut Receiver<FromIngester>,
    ) -> Result<(Hello, Welcome), Error> {
        let hello = Hello { version: 2, ..Hello::default() };
        sender.send(FromEgress { hello: Some(hello.clone()), ..FromEgress::default() }).await.expect("up");
        let welcome = receiver.next().await.expect("an answer")?.welcome.expect("a welcome");
        if welcome.version == 2 {
            Ok((hello, welcome))
        } else {
            Err(Error::Version { ours: 2, theirs: welcome.version })
        }
    }
}

#[tokio::test]
async fn another_version_is_refused_and_both_sides_say_so() {
    let mesh = Mesh::new();
    // The ingester listens here, so that the dialling egress's error can be looked at.
    let listening = listen(mesh.server("ingester", "egress"), ingester(), Options::default()).await;
    let refused = dialer(listening.address, mesh.client("egress", "ingester"), NextVersion).connect().await;
    assert!(matches!(refused, Err(Error::Version { ours: 2, theirs: 1 })), "{refused:?}");

    let listening = listen(mesh.server("egress", "ingester"), NextVersion, Options::default()).await;
    let refused = dialer(listening.address, mesh.client("ingester", "egress"), ingester()).connect().await;
    assert!(matches!(refused, Err(Error::Version { ours: 1, theirs: 2 })), "{refused:?}");
    // The side that listens knows too, although it was the other that hung up.
    counted(&listening.metrics, r#"zen_link_refused_total{outcome="version"} 1"#).await;
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains("this side speaks link version 1, the peer 2"), "{text}");
}

/// An ingester whose frames cannot be read.
#[derive(Clone)]
struct Broken {
    greets: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Nonsense {
    #[prost(message, optional, tag = "1")]
    welcome: Option<Welcome>,
    /// Where leases should be.
    #[prost(string, tag = "2")]
    leases: String,
}

impl Frame for Nonsense {
    fn accept(&mut self) -> Result<(), Invalid> {
        Ok(())
    }
}

impl Side for Broken {
    type Sent = Nonsense;
    type Received = FromEgress;
    const ROLE: Role = Role::Ingester;

    async fn greet(
        &self,
        _presented: &Presented,
        sender: &mpsc::Sender<Nonsense>,
        _: &mut Receiver<FromEgress>,
    ) -> Result<(Hello, Welcome), Error> {
        let welcome = self.greets.then(|| Welcome { version: 1, ..Welcome::default() });
        sender.send(Nonsense { welcome, leases: String::new() }).await.expect("up");
        Ok((Hello::default(), Welcome::default()))
    }
}

#[tokio::test]
async fn a_malformed_frame_ends_the_session_with_a_typed_error() {
    let mesh = Mesh::new();
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), Options::default()).await;
    let near = dialer(listening.address, mesh.client("ingester", "egress"), Broken { greets: true });
    let near = near.connect().await.expect("up");
    let mut far = listening.session().await;
    near.sender.send(Nonsense { welcome: None, leases: "\u{7f}\u{7f}".into() }).await.expect("up");
    let end = timeout(PATIENCE, far.receiver.next()).await.expect("in time").expect("an end");
    assert!(matches!(end, Err(Error::Malformed(_))), "{end:?}");
    assert!(far.receiver.next().await.is_none());
    drop(far);
    counted(&listening.metrics, r#"zen_link_sessions_ended_total{role="egress",reason="malformed"} 1"#).await;
}

/// Well-formed, and yet no settlement that there is: none of its frame is believed.
#[tokio::test]
async fn a_settlement_of_no_kind_ends_the_session() {
    let (mut near, far, _listening) = pair(Options::default()).await;
    let settled = vec![Settled { kind: 1, ..Settled::default() }, Settled { kind: 9, ..Settled::default() }];
    far.sender.send(FromEgress { settled, ..FromEgress::default() }).await.expect("up");
    let end = timeout(PATIENCE, near.receiver.next()).await.expect("in time").expect("an end");
    let Err(Error::Malformed(text)) = end else { panic!("{end:?}") };
    assert!(text.contains("9 is not the number of a settlement"), "{text}");
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_session() {
    let (near, mut far, _listening) = pair(Options { max_frame: 2 << 20, ..Options::default() }).await;
    // Our own encoder would refuse it as well: the limit of this side is what a peer does not keep to.
    let leases = vec![Lease { record: vec![0; 3 << 20].into(), ..Lease::default() }];
    near.sender.send(FromIngester { leases, ..FromIngester::default() }).await.expect("up");
    let end = timeout(PATIENCE, far.receiver.next()).await.expect("in time").expect("an end");
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_greet_is_no_session() {
    let mesh = Mesh::new();
    let options = Options { greeting_timeout: Duration::from_millis(300), ..Options::default() };
    let mut listening = listen(mesh.server("egress", "ingester"), egress(), options).await;
    // An empty frame in place of the Welcome.
    let silent = dialer(listening.address, mesh.client("ingester", "egress"), Broken { greets: false });
    let near = silent.connect().await.expect("this side is content");
    timeout(PATIENCE, near.sender.closed()).await.expect("the egress hangs up");
    // A client that completes TLS and then says nothing.
    let tcp = TcpStream::connect(listening.address).await.expect("connected");
    let connector = tokio_rustls::TlsConnector::from(mesh.client("ingester", "egress"));
    let name = "127.0.0.1".try_into().expect("an address");
    let mut tls = connector.connect(name, tcp).await.expect("mutual TLS");
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, tls.read_to_end(&mut rest)).await.expect("hung up in time");
    assert!(listening.sessions.try_recv().is_err());
    counted(&listening.metrics, r#"zen_link_refused_total{outcome="no_greeting"} 1"#).await;
}

/// T-05: whoever keeps the record hears of a handshake from the side that broke it off, and from that side alone.
#[tokio::test]
async fn a_refused_handshake_is_told_where_it_was_refused() {
    let mesh = Mesh::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let telling = |side: &'static str| {
        let tell = tell.clone();
        Metrics::default().telling(move |peer, error| {
            let words = zen_pki::explain(error);
            // The other side hears an alert.
            if words.starts_with("invalid peer certificate") {
                let _ = tell.send((side, peer.is_loopback()));
            }
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let tls = mesh.server("egress", "ingester");
    let listening = listen_telling(listener, tls, egress(), Options::default(), telling("listener"));
    for (account, expected, side) in [("webhook", "egress", "listener"), ("ingester", "audit", "dialer")] {
        let tls = mesh.client(account, expected);
        let dialer = Dialer::new(listening.address.into(), tls, ingester(), telling("dialer"));
        timeout(PATIENCE, dialer.connect()).await.expect("in time").expect_err("refused");
        let heard = timeout(PATIENCE, told.recv()).await.expect("in time");
        assert_eq!(heard, Some((side, true)));
        assert!(told.is_empty(), "and nobody else");
    }
}
