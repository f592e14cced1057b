//! Disks that are full or read-only: intake is refused and says why, what was accepted stays, settlements go on,
//! and when the disk works again so does the queue, by itself.
//!
//! Real file systems in a mount namespace where the test may make one, else a limit on file sizes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use zen_queue::{CommitError, Embedded, Fault, Health, Options, Queue};

use crate::common::{ack, lease, new, open, sized};

fn options() -> Options {
    let probe_every = Duration::from_millis(50);
    Options { probe_every, wal_bytes: 1 << 20, reserve_bytes: 3 << 20, ..Options::default() }
}

/// Runs `script` with `$TEST` as one of the tests below and `$FOLDER`.
fn run(script: &str, test: &str, folder: &Path) -> std::process::Output {
    let exe = std::env::current_exe().expect("this program");
    let test = format!("{} --exact faults::{test} --nocapture --ignored", exe.display());
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("TEST", test).env("FOLDER", folder).env("QUEUE_TEST_FOLDER", folder);
    command.output().expect("runs")
}

/// Whether this machine lets the test mount.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

fn passed(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn fill(queue: &Arc<Embedded>) -> (u64, Fault) {
    fill_with(queue, 1000).await
}

async fn fill_with(queue: &Arc<Embedded>, body: usize) -> (u64, Fault) {
    let mut accepted = 0;
    loop {
        match queue.commit(sized(&format!("{}-{accepted}", fastrand::u64(..)), body)).await {
            Ok(_) => accepted += 1,
            Err(CommitError::Unavailable(fault)) => return (accepted, fault),
            Err(other) => unreachable!("{other:?}"),
        }
    }
}

async fn until(queue: &Embedded, wanted: impl Fn(&Health) -> bool) {
    let mut health = queue.health();
    let changed = tokio::time::timeout(Duration::from_secs(20), health.wait_for(wanted)).await;
    changed.expect("health changes in time").expect("open");
}

async fn drain(queue: &Embedded) -> u64 {
    let mut drained = 0;
    loop {
        let leased = lease(queue, 100).await;
        if leased.is_empty() {
            return drained;
        }
        drained += leased.len() as u64;
        ack(queue, &leased).await.expect("settles");
    }
}

#[test]
fn a_full_disk_stops_intake_and_deliveries_make_room() {
    if !may_mount() {
        eprintln!("skipped: this machine allows no mount");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let script = "unshare -m sh -c 'mount -t tmpfs -o size=24m none $FOLDER && exec $TEST'";
    passed(&run(script, "on_a_full_disk", folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run in a mount namespace by the test above"]
async fn on_a_full_disk() {
    let Ok(folder) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let queue = open(folder, options()).expect("opens");
    let (accepted, fault) = fill(&queue).await;
    assert_eq!(fault, Fault::DiskFull);
    assert!(accepted > 1000, "{accepted}");
    assert_eq!(*queue.health().borrow(), Health::Failing(Fault::DiskFull));
    queue.admit(&new("x").event.webhook_key(), &[], 1).expect_err("refused before the body is read");
    // Deliveries go on, and what they free lets intake go on.
    assert_eq!(drain(&queue).await, accepted);
    until(&queue, |health| *health == Health::Ok).await;
    queue.commit(new("after")).await.expect("commits again");
    // Somebody else takes what is left, reserve and all.
    let hog = folder.join("hog");
    let _ = std::fs::write(&hog, vec![1; 24 << 20]);
    let (accepted, fault) = fill(&queue).await;
    assert_eq!(fault, Fault::DiskFull);
    std::fs::remove_file(&hog).expect("removes");
    until(&queue, |health| *health == Health::Ok).await;
    assert_eq!(queue.stats().destinations[&crate::common::ci()].waiting, accepted + 1);
    assert_eq!(drain(&queue).await, accepted + 1);
    queue.commit(new("last")).await.expect("commits");
    queue.close().await;
    let queue = open(folder, options()).expect("opens");
    let left = lease(&queue, 10).await;
    assert_eq!(left.iter().map(|leased| leased.event.id.as_str()).collect::<Vec<_>>(), ["last"]);
    queue.close().await;
}

#[test]
fn a_disk_full_of_large_records_is_told_of_and_recovers() {
    if !may_mount() {
        eprintln!("skipped: this machine allows no mount");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let script = "unshare -m sh -c 'mount -t tmpfs -o size=24m none $FOLDER && exec $TEST'";
    passed(&run(script, "on_a_disk_full_of_large_records", folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run in a mount namespace by the test above"]
async fn on_a_disk_full_of_large_records() {
    let Ok(folder) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let options = || Options { segment_bytes: 1 << 20, ..options() };
    let queue = open(folder, options()).expect("opens");
    for round in 0..3 {
        // Once with the reserve in place, then with somebody who takes it.
        let hog = folder.join("hog");
        if round > 0 {
            std::fs::write(&hog, vec![1; 8 << 20]).expect("writes");
            let _ = std::fs::OpenOptions::new().append(true).open(&hog).map(|mut hog| {
                use std::io::Write;
                let _ = hog.write_all(&vec![1; round << 22]);
            });
        }
        let (accepted, fault) = fill_with(&queue, 100_000).await;
        assert_eq!(fault, Fault::DiskFull);
        assert!(accepted > 10, "{accepted}");
        assert_eq!(drain(&queue).await, accepted);
        let _ = std::fs::remove_file(&hog);
        until(&queue, |health| *health == Health::Ok).await;
    }
    queue.commit(sized("last", 100_000)).await.expect("commits");
    queue.close().await;
    let queue = open(folder, options()).expect("opens");
    let left = lease(&queue, 10).await;
    assert_eq!(left.iter().map(|leased| leased.event.id.as_str()).collect::<Vec<_>>(), ["last"]);
    queue.close().await;
}

#[test]
fn a_read_only_disk_stops_intake_until_it_is_writable() {
    if !may_mount() {
        eprintln!("skipped: this machine allows no mount");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let script = "unshare -m sh -c 'mount -t tmpfs none $FOLDER && exec $TEST'";
    passed(&run(script, "on_a_read_only_disk", folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run in a mount namespace by the test above"]
async fn on_a_read_only_disk() {
    let Ok(name) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let folder = Path::new(&name);
    // The kernel refuses to remount while a file is open for writing: a bind mount over it does not ask.
    let mount = |options: &[&str]| {
        let done = Command::new("mount").args(options).arg(&name).status().expect("mount runs");
        assert!(done.success(), "mount {options:?}");
    };
    let queue = open(folder, options()).expect("opens");
    queue.commit(new("before")).await.expect("commits");
    queue.close().await;
    mount(&["-o", "remount,ro"]);
    let error = open(folder, options()).expect_err("read-only").to_string();
    assert!(error.contains(&name) && error.contains("must be writable"), "{error}");
    mount(&["-o", "remount,rw"]);
    let queue = open(folder, options()).expect("opens");
    assert_eq!(lease(&queue, 10).await.len(), 1);
    queue.close().await;
}

#[tokio::test]
async fn a_failing_write_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("folder");
    // Files may not grow beyond 4 MiB: writes fail in the middle of a batch, with an error that is not ENOSPC.
    let script = "trap '' XFSZ; ulimit -f 8192; exec $TEST";
    passed(&run(script, "under_a_limit_of_file_size", folder.path()));
    let accepted: u64 =
        std::fs::read_to_string(folder.path().join("accepted")).expect("said").parse().expect("a number");
    let queue = open(folder.path(), options()).expect("opens without the limit");
    let mut there = 0;
    loop {
        let leased = lease(&queue, 500).await;
        if leased.is_empty() {
            break;
        }
        there += leased.len() as u64;
    }
    assert!(there >= accepted, "{there} of {accepted}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run under a limit by the test above"]
async fn under_a_limit_of_file_size() {
    let Ok(folder) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let queue = open(folder, Options { wal_bytes: 512 << 10, ..options() }).expect("opens");
    let (accepted, _) = fill(&queue).await;
    assert!(accepted > 500, "{accepted}");
    assert_ne!(*queue.health().borrow(), Health::Ok);
    std::fs::write(folder.join("accepted"), accepted.to_string()).expect("says");
    queue.close().await;
}
