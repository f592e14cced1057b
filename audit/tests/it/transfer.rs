//! From a writer's disk to the store's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_audit::log::{Acknowledge, Cause};
use zen_audit::ship::{self, Shipper, Transport, TransportError};
use zen_audit::wire::Resume;
use zen_audit::{Log, Options};
use zen_identity::Component;
use zen_testkit::Reserved;

use crate::support::{Served, access, entries, ids, mesh, paths, remote, until, verify, writer};

fn options(folder: &Path) -> Options {
    let patience = Duration::from_secs(20);
    Options { file_bytes: 2 << 10, acknowledge: Acknowledge::Store, patience, ..Options::new(folder, writer()) }
}

/// A writer with its transport.
struct Pod {
    log: Log,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Pod {
    async fn start(ca: &Path, options: Options, store: SocketAddr) -> Self {
        let remote = Arc::new(remote(ca, Component::ZenLock, store));
        let log = ship::open(options, remote.as_ref()).await.expect("opens");
        let end = CancellationToken::new();
        let task = tokio::spawn(Shipper::new(&log, remote).run(end.clone()));
        Self { log, end, task }
    }

    async fn stop(self) {
        self.log.close().await;
        self.end.cancel();
        self.task.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_at_the_store_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, data, run) = (folder.path().join("ca"), folder.path().join("data"), folder.path().join("run"));
    let served = Served::start(&ca, &data, "127.0.0.1:0").await;
    let pod = Pod::start(&ca, options(&run), served.address).await;
    for n in 0..40 {
        let receipt = pod.log.record(access(n)).await.expect("audited");
        assert!(receipt.durable && receipt.degraded.is_none(), "{receipt:?}");
    }
    let first = pod.log.head();
    assert_eq!(served.store.head(&first.chain), Some(first.clone()));
    let sent: Vec<_> = ids(&data);
    assert_eq!(sent, (0..40).map(|n| format!("r-{n}")).collect::<Vec<_>>());
    assert!(paths(&data.join("zenlock-webhook")).len() > 1, "files rotate at the store");
    // What the store has goes here, but for the file in use.
    assert_eq!(paths(&run).len(), 1);
    pod.stop().await;

    // A new pod's chain names where the one before stood, as the store knows it.
    let pod = Pod::start(&ca, options(&folder.path().join("other")), served.address).await;
    pod.log.record(access(40)).await.expect("audited");
    let opened = entries(&folder.path().join("other")).remove(0);
    assert_eq!(opened.details["after"], served.store.head(&first.chain).expect("there").to_string());
    pod.stop().await;
    served.stop().await;
    let report = verify(&data, &[first]);
    assert_eq!((report.findings, report.degraded), (vec![], 0));
}

/// The store is away: entries stay here, say that they are degraded, and go when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_gets_everything_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, data, run) = (folder.path().join("ca"), folder.path().join("data"), folder.path().join("run"));
    let reserved = Reserved::loopback();
    let address = reserved.address().to_string();
    let served = Served::start(&ca, &data, &address).await;
    let patience = Duration::from_millis(300);
    let pod = Pod::start(&ca, Options { patience, ..options(&run) }, served.address).await;
    until(|| !served.store.heads().is_empty()).await;
    served.stop().await;
    let late = pod.log.record(access(0)).await.expect("goes on");
    assert_eq!((late.durable, late.degraded), (false, Some(Cause::Store)));
    for n in 1..30 {
        pod.log.note(access(n));
    }
    let served = Served::start(&ca, &data, &address).await;
    until(|| pod.log.degraded().is_none() && ids(&data).len() == 30).await;
    pod.stop().await;
    served.stop().await;
    let report = verify(&data, &[]);
    assert_eq!((report.findings, report.lost), (vec![], 0));
    assert!(report.degraded >= 29, "{}", report.degraded);
    assert!(entries(&data).iter().any(|entry| entry.action == "audit.recover"));
}

/// Without the store from the start: the chain begins without one before it, and learns of it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_starts_without_its_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, data) = (folder.path().join("ca"), folder.path().join("data"));
    let served = Served::start(&ca, &data, "127.0.0.1:0").await;
    let pod = Pod::start(&ca, options(&folder.path().join("one")), served.address).await;
    pod.log.record(access(0)).await.expect("audited");
    let before = pod.log.head();
    pod.stop().await;
    served.stop().await;
    // Nobody listens there.
    let away = "127.0.0.1:1".parse().expect("an address");
    let run = folder.path().join("two");
    let pod = Pod::start(&ca, options(&run), away).await;
    until(|| pod.log.head().seq > 0).await;
    pod.stop_now().await;
    let served = Served::start(&ca, &data, "127.0.0.1:0").await;
    let pod = Pod::start(&ca, options(&run), served.address).await;
    pod.log.record(access(1)).await.expect("audited");
    pod.stop().await;
    served.stop().await;
    let openings: Vec<_> = entries(&data).into_iter().filter(|entry| entry.action == "chain.open").collect();
    let of_two: Vec<_> =
        openings.iter().filter(|entry| entry.writer == writer() && entry.chain != before.chain).collect();
    assert_eq!(of_two.len(), 2, "the chain that began without the store got there too");
    assert!(!of_two[0].details.contains_key("after"));
    assert_eq!(verify(&data, &[before]).findings, vec![]);
}

impl Pod {
    /// As a killed process ends: nothing more is sent.
    async fn stop_now(self) {
        self.task.abort();
        self.task.await.expect_err("cut off");
    }
}

/// T-05: each component writes its own chains and no other's; who writes none does not get in. Whoever tries is an entry.
#[tokio::test]
async fn the_policy_decides_whose_entries_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, data, run) = (folder.path().join("ca"), folder.path().join("data"), folder.path().join("run"));
    let served = Served::start(&ca, &data, "127.0.0.1:0").await;
    let log = Log::open(Options::new(&run, writer())).expect("opens");
    log.record(access(0)).await.expect("audited");
    let lines = Bytes::from(std::fs::read(&paths(&run)[0]).expect("read"));
    let ask = Resume { writer: writer(), chains: vec![] };
    for (component, allowed) in [(Component::ZenLock, true), (Component::Egress, false), (Component::Operator, false)] {
        let remote = remote(&ca, component, served.address);
        let refused = |error: TransportError| error.to_string().contains("403 Forbidden ActionNotPermitted");
        let resumed = remote.resume(&ask).await;
        let appended = remote.append(lines.clone(), 1).await;
        assert_eq!((resumed.is_ok(), appended.is_ok()), (allowed, allowed), "{component:?}");
        assert!(allowed || (resumed.is_err_and(refused) && appended.is_err_and(refused)), "{component:?}");
    }
    let own = remote(&ca, Component::Audit, served.address);
    assert!(matches!(own.resume(&ask).await, Err(TransportError::Unreachable(_))));
    served.stop().await;
    let told: Vec<_> = entries(&data).into_iter().filter(|entry| entry.writer.component() == "zen-audit").collect();
    let told = told.iter().filter(|entry| !entry.reason.is_empty());
    let told: Vec<_> = told.map(|entry| format!("{} {} {}", entry.action, entry.who, entry.reason)).collect();
    let due =
        [Component::Egress, Component::Operator].map(|it| format!("authorize {} ActionNotPermitted", mesh().id(it)));
    assert_eq!(told[..2], due);
    assert_eq!(told[2..], ["authenticate Address/127.0.0.1 PeerNotAllowed"]);
}

/// Local files are bounded: what has no room while the store is away is counted.
#[tokio::test]
async fn a_backlog_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounded =
        Options { shipped: true, keep_bytes: 8 << 10, acknowledge: Acknowledge::Disk, ..options(folder.path()) };
    let log = Log::open(bounded.clone()).expect("opens");
    let mut lost = 0;
    for n in 0..60 {
        lost += u64::from(log.record(access(n)).await.expect("goes on").entry.is_none());
    }
    assert!(lost > 20, "{lost}");
    assert_eq!(log.degraded(), Some(Cause::Backlog));
    let strict = Options { strict: true, ..bounded };
    log.close().await;
    let log = Log::open(strict).expect("opens");
    log.record(access(99)).await.expect_err("refused");
    let size: u64 = paths(folder.path()).iter().map(|file| std::fs::metadata(file).expect("there").len()).sum();
    assert!(size < (10 << 10), "{size}");
}
