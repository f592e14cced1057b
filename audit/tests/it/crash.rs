//! Store and writer are killed at random instants, again and again: what was acknowledged is at the store, and all
//! chains verify.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zen_audit::log::Acknowledge;
use zen_audit::ship::{self, Shipper};
use zen_audit::{Log, Options};
use zen_identity::Component;
use zen_testkit::Reserved;

use crate::support::{Served, access, ids, remote, verify, writer};

fn child(test: &str, root: &Path, address: SocketAddr, life: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture", "--ignored"]);
    command.env("AUDIT_TEST_ROOT", root).env("AUDIT_TEST_ADDRESS", address.to_string());
    command.env("AUDIT_TEST_LIFE", life.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts")
}

fn told() -> Option<(PathBuf, SocketAddr, u64)> {
    let root = std::env::var_os("AUDIT_TEST_ROOT")?;
    let address = std::env::var("AUDIT_TEST_ADDRESS").ok()?.parse().expect("an address");
    Some((root.into(), address, std::env::var("AUDIT_TEST_LIFE").ok()?.parse().expect("a number")))
}

fn say(what: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}").and_then(|()| out.flush()).expect("the parent listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test runs it as a process of its own"]
async fn a_store_that_is_killed() {
    let Some((root, address, _)) = told() else { return };
    let served = Served::start(&root.join("ca"), &root.join("data"), &address.to_string()).await;
    say("serving");
    std::future::pending::<()>().await;
    drop(served);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test runs it as a process of its own"]
async fn a_writer_that_is_killed() {
    let Some((root, address, life)) = told() else { return };
    let remote = Arc::new(remote(&root.join("ca"), Component::ZenLock, address));
    let patience = Duration::from_mins(1);
    let options = Options {
        file_bytes: 4 << 10,
        acknowledge: Acknowledge::Store,
        patience,
        ..Options::new(root.join("run"), writer())
    };
    let log = ship::open(options, remote.as_ref()).await.expect("opens");
    tokio::spawn(Shipper::new(&log, remote).run(CancellationToken::new()));
    for producer in 0..4 {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let id = life * 1_000_000 + producer * 100_000 + n;
                if log.record(access(id)).await.expect("not strict").durable {
                    say(&format!("audited r-{id}"));
                }
            }
        });
    }
    std::future::pending::<()>().await;
}

/// Reads until so many lines came, and kills it.
fn listen(mut child: Child, said: &mut BTreeSet<String>, lines: usize) {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut heard = 0;
    for line in out.lines() {
        // A cut last line says nothing.
        let Ok(line) = line else { break };
        if let Some(id) = line.strip_prefix("audited ") {
            said.insert(id.to_owned());
            heard += 1;
            if heard == lines {
                child.kill().expect("alive");
            }
        }
    }
    child.wait().expect("dies");
}

/// Runs a store and kills it, again and again, until told to stop. `lives` counts those that ended.
fn kill_stores(root: &Path, address: SocketAddr, stop: &std::sync::mpsc::Receiver<()>, lives: &AtomicU64) {
    loop {
        let mut store = child("crash::a_store_that_is_killed", root, address, lives.load(Ordering::Relaxed));
        let mut out = BufReader::new(store.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.starts_with("serving") {
            line.clear();
            assert!(out.read_line(&mut line).expect("readable") > 0, "the store does not start");
        }
        let span = Duration::from_millis(fastrand::u64(30..900));
        let stopped = stop.recv_timeout(span).is_ok();
        store.kill().expect("alive");
        store.wait().expect("dies");
        lives.fetch_add(1, Ordering::Relaxed);
        if stopped {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_at_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    // Whoever comes first makes the CA.
    crate::support::identity(&root.join("ca"), Component::Audit);
    let reserved = Reserved::loopback();
    let address = reserved.address();
    let (stop, stopped) = std::sync::mpsc::channel();
    let lives = Arc::new(AtomicU64::new(0));
    let stores = {
        let (root, lives) = (root.clone(), Arc::clone(&lives));
        std::thread::spawn(move || kill_stores(&root, address, &stopped, &lives))
    };
    let said = {
        let root = root.clone();
        tokio::task::spawn_blocking(move || {
            let mut said = BTreeSet::new();
            // Until both have died often enough, however fast this machine lets them live.
            for life in 0.. {
                if life >= 8 && said.len() > 100 && lives.load(Ordering::Relaxed) >= 3 {
                    break;
                }
                let writer = child("crash::a_writer_that_is_killed", &root, address, life);
                listen(writer, &mut said, fastrand::usize(20..120));
            }
            said
        })
    };
    let said = said.await.expect("no panic");
    stop.send(()).expect("it listens");
    stores.join().expect("no panic");

    let (data, run) = (root.join("data"), root.join("run"));
    let there: BTreeSet<String> = ids(&data).into_iter().collect();
    let missing: Vec<_> = said.difference(&there).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), said.len());

    // A last writer and a store that live: everything that ever was on the writer's disk gets there.
    let left: BTreeSet<String> = ids_of_whole_lines(&run);
    let served = Served::start(&root.join("ca"), &data, "127.0.0.1:0").await;
    let remote = Arc::new(remote(&root.join("ca"), Component::ZenLock, served.address));
    let log = ship::open(Options::new(&run, writer()), remote.as_ref()).await.expect("opens");
    let end = CancellationToken::new();
    let task = tokio::spawn(Shipper::new(&log, remote).run(end.clone()));
    log.close().await;
    end.cancel();
    task.await.expect("no panic");
    served.stop().await;
    let there: BTreeSet<String> = ids(&data).into_iter().collect();
    assert!(left.is_subset(&there));
    let report = verify(&data, &[]);
    assert_eq!((report.findings, report.lost), (vec![], 0));
    drop(Log::open(Options { strict: true, ..Options::new(&run, writer()) }).expect("the folder is free"));
}

fn ids_of_whole_lines(folder: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for file in crate::support::paths(folder) {
        let read = zen_audit::verify::files::lines(&file, |_, line, _| {
            if let Ok(entry) = zen_audit::Entry::parse(line)
                && !entry.correlation.is_empty()
            {
                ids.insert(entry.correlation);
            }
        });
        read.expect("readable");
    }
    ids
}
