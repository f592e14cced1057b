//! The disk breaks: nothing is lost silently, nobody waits for long, a strict log refuses.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use zen_audit::folder::{Point, Steps};
use zen_audit::log::Cause;
use zen_audit::{Log, Options, Refused};

use crate::support::{access, entries, labels, options, segments, verify};

/// A disk that can be broken at one point.
struct Disk {
    point: Point,
    broken: AtomicBool,
}

impl Disk {
    fn new(point: Point) -> Arc<Self> {
        Arc::new(Self { point, broken: AtomicBool::new(false) })
    }

    fn set(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

impl Steps for Disk {
    fn at(&self, point: Point) -> io::Result<()> {
        if point == self.point && self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}

fn breakable(folder: &Path, disk: &Arc<Disk>) -> Options {
    Options { steps: Some(Arc::clone(disk) as Arc<dyn Steps>), ..options(folder) }
}

async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_broken_disk_marks_entries_and_loses_none_that_has_room() {
    for point in [Point::Write, Point::Half, Point::Sync] {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new(point);
        let changes = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&changes);
        let on_change = Arc::new(move |change: &zen_audit::log::Change| {
            heard.lock().expect("no panic").push((change.cause, change.degraded));
        });
        let log = Log::open(Options { on_change: Some(on_change), ..breakable(folder.path(), &disk) }).expect("opens");
        log.record(access(1)).await.expect("audited");
        disk.set(true);
        for n in 2..5 {
            let receipt = log.record(access(n)).await.expect("goes on");
            assert_eq!((receipt.durable, receipt.degraded), (false, Some(Cause::Disk)), "{point:?}");
        }
        disk.set(false);
        until(|| log.degraded().is_none()).await;
        log.record(access(5)).await.expect("audited");
        log.close().await;
        let all = entries(folder.path());
        let ids: Vec<_> = all.iter().filter(|entry| !entry.correlation.is_empty()).collect();
        assert_eq!(
            ids.iter().map(|entry| entry.correlation.as_str()).collect::<Vec<_>>(),
            ["r-1", "r-2", "r-3", "r-4", "r-5"]
        );
        // The one that found out could not know; the following ones do.
        assert_eq!(ids.iter().map(|entry| entry.degraded).collect::<Vec<_>>(), [false, false, true, true, false]);
        let recovered = all.iter().find(|entry| entry.action == "audit.recover").expect("said");
        assert_eq!((recovered.details["cause"].as_str(), recovered.lost), ("disk", 0));
        assert_eq!(verify(folder.path(), &[]).findings, vec![], "{point:?}");
        assert_eq!(*changes.lock().expect("no panic"), [(Cause::Disk, true), (Cause::Disk, false)]);
    }
}

#[tokio::test]
async fn what_has_no_room_is_counted_and_the_log_says_how_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::new(Point::Sync);
    let log = Log::open(Options { memory_bytes: 1 << 10, ..breakable(folder.path(), &disk) }).expect("opens");
    log.record(access(0)).await.expect("audited");
    disk.set(true);
    let mut lost = 0;
    for n in 1..20 {
        lost += u64::from(log.record(access(n)).await.expect("goes on").entry.is_none());
    }
    assert!(lost > 5);
    disk.set(false);
    until(|| log.degraded().is_none()).await;
    log.record(access(20)).await.expect("audited");
    log.close().await;
    let report = verify(folder.path(), &[]);
    assert_eq!((report.findings, report.lost), (vec![], lost));
}

/// `strict` refuses instead, and does again what it promises when the disk works.
#[tokio::test]
async fn a_strict_log_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::new(Point::Half);
    let log = Log::open(Options { strict: true, ..breakable(folder.path(), &disk) }).expect("opens");
    log.record(access(1)).await.expect("audited");
    disk.set(true);
    assert_eq!(log.record(access(2)).await, Err(Refused::Degraded(Cause::Disk)));
    disk.set(false);
    until(|| log.degraded().is_none()).await;
    log.record(access(3)).await.expect("audited");
    log.close().await;
    assert_eq!(verify(folder.path(), &[]).findings, vec![]);
}

/// A disk that hangs: callers go on after their patience.
#[derive(Default)]
struct Hanging {
    hangs: Mutex<bool>,
    changed: Condvar,
}

impl Hanging {
    fn set(&self, hangs: bool) {
        *self.hangs.lock().expect("no panic") = hangs;
        self.changed.notify_all();
    }
}

impl Steps for Hanging {
    fn at(&self, point: Point) -> io::Result<()> {
        if point == Point::Sync {
            let hangs = self.hangs.lock().expect("no panic");
            drop(self.changed.wait_while(hangs, |hangs| *hangs));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_that_hangs_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(Hanging::default());
    let steps = Some(Arc::clone(&disk) as Arc<dyn Steps>);
    let patience = Duration::from_millis(50);
    let log = Log::open(Options { steps, patience, queue: 4, ..options(folder.path()) }).expect("opens");
    log.record(access(0)).await.expect("audited");
    disk.set(true);
    for n in 1..12 {
        let receipt = log.record(access(n)).await.expect("goes on");
        assert!(!receipt.durable && receipt.degraded.is_some(), "{n}");
    }
    disk.set(false);
    until(|| log.degraded().is_none()).await;
    log.close().await;
    let report = verify(folder.path(), &[]);
    assert_eq!(report.findings, vec![]);
    let kept = entries(folder.path()).iter().filter(|entry| entry.correlation.starts_with("r-")).count() as u64;
    assert_eq!(kept + report.lost, 12, "what is not there is counted");
    assert!(report.lost >= 6, "{}", report.lost);
}

/// Somebody removes or cuts the file under a running log: another chain says so and carries on.
#[tokio::test]
async fn a_file_that_is_taken_away_ends_its_chain() {
    for cut in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::open(options(folder.path())).expect("opens");
        log.record(access(1)).await.expect("audited");
        let head = log.head();
        let file = segments(folder.path()).remove(0);
        if cut {
            std::fs::File::options().write(true).open(&file).expect("there").set_len(10).expect("cut");
        } else {
            std::fs::remove_file(&file).expect("removed");
        }
        let receipt = log.record(access(2)).await.expect("audited");
        assert!(receipt.durable);
        assert_ne!(log.head().chain, head.chain);
        log.close().await;
        if cut {
            std::fs::remove_file(&file).expect("removed");
        }
        let all = entries(folder.path());
        assert_eq!(labels(&all), ["chain.open", "chain.damage", "secret.access"]);
        assert_eq!(all[0].details["after"], head.to_string());
        assert_eq!(verify(folder.path(), std::slice::from_ref(&head)).findings[0].fault, "absent");
    }
}
