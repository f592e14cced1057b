//! The process is killed at random instants and at each step of a write: what was acknowledged is there afterwards,
//! the chains verify, and what was half written is said.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zen_audit::folder::{Point, Steps};
use zen_audit::{Log, Options};

use crate::support::{access, entries, options, verify};

const POINTS: [Point; 4] = [Point::Write, Point::Half, Point::Sync, Point::Durable];

/// Ends the process at the given visit of a point.
struct Abort {
    point: Point,
    visits: AtomicU64,
    at: u64,
}

impl Steps for Abort {
    fn at(&self, point: Point) -> io::Result<()> {
        if point == self.point && self.visits.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            std::process::abort();
        }
        Ok(())
    }
}

fn child(folder: &Path, life: usize, step: Option<(usize, u64)>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "crash::lives_until_it_is_killed", "--nocapture", "--ignored"]);
    command.env("AUDIT_TEST_FOLDER", folder).env("AUDIT_TEST_LIFE", life.to_string());
    if let Some((point, at)) = step {
        command.env("AUDIT_TEST_STEP", format!("{point} {at}"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it as a process of its own"]
async fn lives_until_it_is_killed() {
    let Ok(folder) = std::env::var("AUDIT_TEST_FOLDER") else { return };
    let life: u64 = std::env::var("AUDIT_TEST_LIFE").expect("set").parse().expect("a number");
    let steps = std::env::var("AUDIT_TEST_STEP").ok().map(|step| {
        let (point, at) = step.split_once(' ').expect("two numbers");
        let point = POINTS[point.parse::<usize>().expect("a number")];
        Arc::new(Abort { point, visits: AtomicU64::new(0), at: at.parse().expect("a number") }) as Arc<dyn Steps>
    });
    // Small files, so that a kill meets rotations too.
    let options = Options { steps, file_bytes: 8 << 10, strict: true, ..options(Path::new(&folder)) };
    let log = Log::open(options).expect("opens");
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..6 {
        let log = log.clone();
        tasks.spawn(async move {
            for n in 0.. {
                let id = life * 10_000_000 + producer * 1_000_000 + n;
                let receipt = log.record(access(id)).await.expect("audited");
                assert!(receipt.durable);
                let mut out = io::stdout().lock();
                writeln!(out, "audited r-{id}").and_then(|()| out.flush()).expect("the parent listens");
            }
        });
    }
    tasks.join_all().await;
}

/// Listens until the process is dead; kills it after so many lines, if it does not die by itself.
fn listen(mut child: Child, said: &mut BTreeSet<String>, lines: Option<usize>) {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    for (nth, line) in out.lines().enumerate() {
        // A cut last line says nothing.
        let Ok(line) = line else { break };
        if let Some(id) = line.strip_prefix("audited ") {
            said.insert(id.to_owned());
        }
        if Some(nth) == lines {
            child.kill().expect("alive");
        }
    }
    child.wait().expect("dies");
}

async fn compare(folder: &Path, said: &BTreeSet<String>) -> usize {
    // Opening is what repairs.
    Log::open(options(folder)).expect("opens").close().await;
    let report = verify(folder, &[]);
    assert_eq!(report.findings, vec![]);
    let all = entries(folder);
    let there: BTreeSet<_> = all.iter().map(|entry| entry.correlation.clone()).collect();
    let missing: Vec<_> = said.difference(&there).collect();
    assert!(missing.is_empty(), "{} were acknowledged and are lost: {missing:?}", missing.len());
    all.iter().filter(|entry| entry.action == "chain.repair").count()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut said = BTreeSet::new();
    for life in 0..10 {
        listen(child(folder.path(), life, None), &mut said, Some(fastrand::usize(5..600)));
    }
    assert!(said.len() > 300, "{}", said.len());
    compare(folder.path(), &said).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_at_any_step_of_a_write() {
    let mut repaired = 0;
    for point in 0..POINTS.len() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut said = BTreeSet::new();
        for (life, at) in [1, 2, 7, 30].into_iter().enumerate() {
            listen(child(folder.path(), life, Some((point, at))), &mut said, None);
        }
        repaired += compare(folder.path(), &said).await;
    }
    assert!(repaired >= 3, "torn tails are said: {repaired}");
}
