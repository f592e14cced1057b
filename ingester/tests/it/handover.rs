//! One replica ends and others take over (DESIGN 13), over a network that loses requests and answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tempfile::TempDir;
use tower::ServiceExt;
use zen_identity::control::{AdoptRequest, Adopted};
use zen_ingester::handover::{Error, Failure, PATH, Receiver, Sender, Transport};
use zen_model::{DeadReason, Event, ObjectKey, Settlement};
use zen_queue::handover::{Batch, Budget, Cursor};
use zen_queue::{BoxFuture, Claim, DeadFilter, Demand, Embedded, NewEvent, Options, Queue, QueueId, Settled};
use zen_seal::Keyring;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    NotSent,
    RequestLost,
    AnswerLost,
}

/// Peers by address, each behind the router that a control port serves.
#[derive(Default)]
struct Network {
    peers: Mutex<BTreeMap<SocketAddr, Router>>,
    luck: Mutex<VecDeque<Luck>>,
    posts: Mutex<Vec<SocketAddr>>,
}

impl Network {
    async fn call(&self, to: SocketAddr, request: Request<Body>) -> Result<(StatusCode, Bytes), Failure> {
        let router = self.peers.lock().unwrap().get(&to).cloned();
        let router = router.ok_or_else(|| Failure::NotSent("nobody there".into()))?;
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        Ok((status, to_bytes(response.into_body(), usize::MAX).await.unwrap()))
    }
}

impl Transport for Network {
    fn queue(&self, peer: SocketAddr) -> BoxFuture<'_, Result<QueueId, Failure>> {
        Box::pin(async move {
            let request = Request::get(PATH).body(Body::empty()).unwrap();
            let (status, body) = self.call(peer, request).await?;
            if status != StatusCode::OK {
                return Err(Failure::Refused(status.to_string()));
            }
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            Ok(body["queue"].as_str().unwrap().parse().unwrap())
        })
    }

    fn adopt(&self, peer: SocketAddr, queue: QueueId, page: AdoptRequest) -> BoxFuture<'_, Result<Adopted, Failure>> {
        Box::pin(async move {
            let luck = self.luck.lock().unwrap().pop_front().unwrap_or(Luck::Good);
            match luck {
                Luck::NotSent => return Err(Failure::NotSent("scripted".into())),
                Luck::RequestLost => return Err(Failure::Unknown("scripted".into())),
                Luck::Good | Luck::AnswerLost => {}
            }
            self.posts.lock().unwrap().push(peer);
            let path = format!("{PATH}?queue={queue}");
            let body = serde_json::to_vec(&page).unwrap();
            let (status, body) = self.call(peer, Request::post(path).body(body.into()).unwrap()).await?;
            match status {
                _ if luck == Luck::AnswerLost => Err(Failure::Unknown("scripted".into())),
                StatusCode::OK => Ok(serde_json::from_slice(&body).unwrap()),
                _ => Err(Failure::Refused(String::from_utf8(body.to_vec()).unwrap())),
            }
        })
    }
}

struct Replica {
    folder: TempDir,
    keyring: Keyring,
    queue: Arc<Embedded>,
}

impl Replica {
    fn new() -> Self {
        let (folder, keyring) = (tempfile::tempdir().unwrap(), Keyring::ephemeral());
        let queue = open(&folder, &keyring);
        Self { folder, keyring, queue }
    }

    async fn restart(&mut self) {
        self.queue.close().await;
        self.queue = open(&self.folder, &self.keyring);
    }

    fn router(&self) -> Router {
        Receiver::new(self.queue.clone(), || true).router()
    }

    fn sender(&self, network: &Arc<Network>) -> Sender {
        Sender::new(self.queue.clone(), network.clone(), "zen-ingester-1")
    }

    async fn dead(&self) -> Vec<String> {
        let letters = self.queue.dead_letters(DeadFilter { limit: 1000, ..DeadFilter::default() }).await.unwrap();
        letters.into_iter().map(|letter| letter.event.as_str().to_owned()).collect()
    }

    fn waiting(&self) -> u64 {
        self.queue.stats().destinations.values().map(|to| to.waiting).sum()
    }

    fn is_empty(&self) -> bool {
        let stats = self.queue.stats();
        stats.bytes == 0 && stats.claims == 0 && self.waiting() == 0
    }
}

fn open(folder: &TempDir, keyring: &Keyring) -> Arc<Embedded> {
    let options = Options { unique_ids: true, hold_paused_clock: true, ..Options::default() };
    Embedded::open(folder.path(), keyring.clone(), options).unwrap()
}

fn to() -> ObjectKey {
    ObjectKey::new("a", "ci")
}

/// Events of 100 kB, so that a page holds few; every third is dead, every third in back-off. Returns the ids of the dead.
async fn fill(queue: &Embedded, count: u8) -> Vec<String> {
    for n in 0..count {
        let event = Event {
            id: format!("e{n}"),
            namespace: "a".into(),
            webhook: "hook".into(),
            body: Bytes::from(vec![n; 100_000]),
            ..Event::default()
        };
        let claim = Some(Claim { hash: [n; 16], window: Duration::from_hours(24) });
        queue.commit(NewEvent { event, destinations: vec![to()], claim }).await.unwrap();
    }
    let demand = Demand { destination: to(), max: 1000, max_bytes: usize::MAX, term: Duration::from_secs(30) };
    let leased = queue.lease(demand).await.unwrap();
    let mut dead = Vec::new();
    let settled = leased.into_iter().enumerate().map(|(nth, leased)| {
        let settlement = match nth % 3 {
            0 => {
                dead.push(leased.event.id);
                Settlement::Dead { reason: DeadReason::Rejected }
            }
            1 => Settlement::Retry { after: Duration::from_hours(1) },
            _ => Settlement::Release { after: Duration::ZERO, reason: zen_model::settle::ReleaseReason::Drain },
        };
        Settled { token: leased.token, settlement, attempt: None }
    });
    let settled = settled.collect();
    queue.settle(settled).await.unwrap();
    dead
}

fn addresses(count: u16) -> Vec<SocketAddr> {
    (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_goes_to_a_peer_and_nothing_stays() {
    let (from, to) = (Replica::new(), Replica::new());
    let dead = fill(&from.queue, 30).await;
    let network = Arc::new(Network::default());
    let peers = addresses(3);
    // The second answers, the third is this replica itself.
    network.peers.lock().unwrap().insert(peers[1], to.router());
    network.peers.lock().unwrap().insert(peers[2], from.router());
    let progress = from.sender(&network).run(&peers).await.unwrap();
    assert_eq!((progress.waiting, progress.dead_letters, progress.claims), (20, 10, 30));
    assert!(from.is_empty(), "{:?}", from.queue.stats());
    assert_eq!((to.dead().await, to.waiting(), to.queue.stats().claims), (dead, 20, 30));
    assert!(network.posts.lock().unwrap().len() >= 3, "pages of a MiB");
    assert_eq!(from.queue.heir().await.unwrap(), None);
    assert_eq!(from.sender(&network).run(&peers).await.unwrap(), zen_ingester::drain::Progress::default());
}

/// A page that was sent without an answer goes to the same queue again, wherever that is by then, and to no other.
#[tokio::test(start_paused = true)]
async fn a_page_in_doubt_goes_to_the_same_queue_and_to_no_other() {
    let (mut from, one, two) = (Replica::new(), Replica::new(), Replica::new());
    let dead = fill(&from.queue, 9).await;
    let network = Arc::new(Network::default());
    let peers = addresses(2);
    network.peers.lock().unwrap().insert(peers[0], one.router());
    network.luck.lock().unwrap().extend([Luck::AnswerLost, Luck::RequestLost, Luck::RequestLost]);
    let error = from.sender(&network).run(&peers).await.unwrap_err();
    assert!(matches!(error, Error::InDoubt { queue, .. } if queue == one.queue.id()), "{error}");
    assert_eq!((from.dead().await.len(), one.dead().await.len()), (3, 3), "at both, which is the doubt");
    // The process dies, and the other one's pod is away.
    from.restart().await;
    network.peers.lock().unwrap().remove(&peers[0]);
    network.peers.lock().unwrap().insert(peers[1], two.router());
    let sender = from.sender(&network);
    for _ in 0..3 {
        let error = sender.run(&peers).await.unwrap_err();
        assert!(matches!(error, Error::Away(queue) if queue == one.queue.id()), "{error}");
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    // It comes back under the other address.
    network.peers.lock().unwrap().insert(peers[0], two.router());
    network.peers.lock().unwrap().insert(peers[1], one.router());
    sender.run(&peers).await.unwrap();
    assert!(from.is_empty());
    assert_eq!((one.dead().await, one.waiting(), one.queue.stats().claims), (dead, 6, 9));
    assert!(two.is_empty());
}

/// Whoever waits for ever loses too.
#[tokio::test(start_paused = true)]
async fn a_queue_that_never_comes_back_is_given_up() {
    let (from, one, two) = (Replica::new(), Replica::new(), Replica::new());
    fill(&from.queue, 3).await;
    let network = Arc::new(Network::default());
    let peers = addresses(2);
    network.peers.lock().unwrap().insert(peers[0], one.router());
    network.luck.lock().unwrap().extend([Luck::AnswerLost; 3]);
    let sender = from.sender(&network);
    sender.run(&peers).await.unwrap_err();
    network.peers.lock().unwrap().clear();
    network.peers.lock().unwrap().insert(peers[1], two.router());
    sender.run(&peers).await.unwrap_err();
    tokio::time::sleep(Duration::from_mins(5)).await;
    sender.run(&peers).await.unwrap();
    assert!(from.is_empty());
    assert_eq!((two.dead().await.len(), two.waiting()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_a_page_is_passed_over() {
    let (from, to) = (Replica::new(), Replica::new());
    fill(&from.queue, 3).await;
    let network = Arc::new(Network::default());
    let peers = addresses(3);
    let sender = from.sender(&network);
    assert!(matches!(sender.run(&peers).await, Err(Error::NoPeer)));
    assert_eq!(from.queue.heir().await.unwrap(), None);
    // One drains itself, one cannot commit.
    let (draining, broken) = (Replica::new(), Replica::new());
    broken.queue.close().await;
    network.peers.lock().unwrap().insert(peers[0], Receiver::new(draining.queue.clone(), || false).router());
    network.peers.lock().unwrap().insert(peers[1], broken.router());
    let error = sender.run(&peers).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(reason) if reason.contains("QueueUnavailable")), "{error}");
    assert_eq!(from.queue.heir().await.unwrap(), None, "nobody has anything");
    network.peers.lock().unwrap().insert(peers[2], to.router());
    sender.run(&peers).await.unwrap();
    assert!(from.is_empty() && draining.is_empty());
    assert_eq!((to.dead().await.len(), to.waiting()), (1, 2));
}

/// Requests and answers are lost as they like, the sender restarts as it likes.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_no_dead_letter_is_twice_whatever_the_network_does() {
    for _ in 0..6 {
        let (mut from, one, two) = (Replica::new(), Replica::new(), Replica::new());
        let mut dead = fill(&from.queue, 40).await;
        let network = Arc::new(Network::default());
        let peers = addresses(2);
        network.peers.lock().unwrap().extend([(peers[0], one.router()), (peers[1], two.router())]);
        for round in 0.. {
            assert!(round < 200, "it comes to an end");
            let luck = (0..6).map(|_| match fastrand::u8(0..8) {
                0 => Luck::NotSent,
                1 | 2 => Luck::RequestLost,
                3 | 4 => Luck::AnswerLost,
                _ => Luck::Good,
            });
            *network.luck.lock().unwrap() = luck.collect();
            // Cut off anywhere: the page in hand is finished all the same.
            let cut = Duration::from_millis(fastrand::u64(1..3000));
            let _ = tokio::time::timeout(cut, from.sender(&network).run(&peers)).await;
            if from.is_empty() {
                break;
            }
            if fastrand::bool() {
                // What still runs of the old process must not write to a queue that was opened again.
                tokio::time::sleep(Duration::from_mins(1)).await;
                from.restart().await;
            }
        }
        let mut there = [one.dead().await, two.dead().await].concat();
        there.sort();
        dead.sort();
        assert_eq!(there, dead);
        assert_eq!(one.waiting() + two.waiting(), 26);
        assert_eq!(one.queue.stats().claims + two.queue.stats().claims, 40);
    }
}

async fn post(router: Router, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::builder().method(Method::POST).uri(path).body(body.into()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body: serde_json::Value =
        serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_receiver_refuses_what_it_cannot_answer_for() {
    let replica = Replica::new();
    let other = Replica::new();
    fill(&other.queue, 1).await;
    let batch = other.queue.export(Cursor::default(), Budget { bytes: 1, hold: Duration::ZERO }).await.unwrap().batch;
    let page =
        |payload: Vec<u8>| serde_json::to_vec(&AdoptRequest { from: "x".into(), batch: "1".into(), payload }).unwrap();
    let path = format!("{PATH}?queue={}", replica.queue.id());
    let good = page(batch.encode().to_vec());
    let newer = Batch { version: 2, ..batch };
    for (path, body, expected) in [
        (format!("{PATH}?queue={}", other.queue.id()), good.clone(), (421, "WrongQueue")),
        (path.clone(), b"{}".to_vec(), (400, "Malformed")),
        (path.clone(), page(b"nonsense".to_vec()), (400, "Malformed")),
        (path.clone(), page(newer.encode().to_vec()), (400, "Malformed")),
        (path.clone(), vec![b' '; 25 << 20], (413, "PayloadTooLarge")),
    ] {
        let (status, code) = post(replica.router(), &path, body).await;
        assert_eq!((status.as_u16(), code.as_str()), expected);
    }
    let draining = Receiver::new(replica.queue.clone(), || false).router();
    assert_eq!(post(draining, &path, good.clone()).await, (StatusCode::CONFLICT, "Draining".into()));
    assert!(replica.is_empty());
    assert_eq!(post(replica.router(), &path, good.clone()).await.0, StatusCode::OK);
    replica.queue.close().await;
    assert_eq!(post(replica.router(), &path, good).await, (StatusCode::SERVICE_UNAVAILABLE, "QueueUnavailable".into()));
}
