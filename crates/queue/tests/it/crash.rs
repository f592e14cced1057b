//! The process is killed, again and again, at random instants and at every step of a batch: what was
//! acknowledged is there afterwards, what was not has claimed nothing, what was settled does not come back.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zen_model::{DeadReason, Settlement};
use zen_queue::embedded::{Point, Steps};
use zen_queue::{Committed, DeadFilter, Options, Queue, Settled};

use crate::common::{ack, lease, new, open, sized};

/// What a process said before it died.
#[derive(Default)]
struct Said {
    sent: BTreeSet<String>,
    accepted: BTreeSet<String>,
    settling: BTreeSet<String>,
    settled: BTreeSet<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let set = match words.next() {
            Some("sent") => &mut self.sent,
            Some("accepted") => &mut self.accepted,
            Some("settling") => &mut self.settling,
            Some("settled") => &mut self.settled,
            _ => return,
        };
        set.extend(words.map(str::to_owned));
    }
}

fn say(what: &str, ids: &[&str]) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {}", ids.join(" ")).and_then(|()| out.flush()).expect("the parent listens");
}

/// Ends the process at the given visit of a point.
struct Abort {
    point: Point,
    visits: AtomicU64,
    at: u64,
}

impl Steps for Abort {
    fn at(&self, point: Point) {
        if point == self.point && self.visits.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            std::process::abort();
        }
    }
}

/// Bodies that lie in segments.
const LARGE: usize = 20_000;

/// Every point that a queue with such bodies comes to.
fn points() -> Vec<Point> {
    Point::ALL.into_iter().chain(Point::BODIES).collect()
}

fn child(folder: &Path, life: u32, step: Option<(usize, u64)>, body: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "crash::lives_until_it_is_killed", "--nocapture", "--ignored"]);
    command.env("QUEUE_TEST_FOLDER", folder).env("QUEUE_TEST_LIFE", life.to_string());
    command.env("QUEUE_TEST_BODY", body.to_string());
    if let Some((point, at)) = step {
        command.env("QUEUE_TEST_STEP", format!("{point} {at}"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it as a process of its own"]
async fn lives_until_it_is_killed() {
    let Ok(folder) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let life = std::env::var("QUEUE_TEST_LIFE").expect("set");
    let steps = std::env::var("QUEUE_TEST_STEP").ok().map(|step| {
        let (point, at) = step.split_once(' ').expect("two numbers");
        let point = points()[point.parse::<usize>().expect("a number")];
        Arc::new(Abort { point, visits: AtomicU64::new(0), at: at.parse().expect("a number") }) as Arc<dyn Steps>
    });
    let body: usize = std::env::var("QUEUE_TEST_BODY").expect("set").parse().expect("a number");
    // A small log and small segments, so that they are folded, emptied and copied often.
    let small = Options { wal_bytes: 256 << 10, segment_bytes: 400_000, large_batch_bytes: 1, ..Options::default() };
    let options = Options { steps, ..small };
    let queue = open(Path::new(&folder), options).expect("opens");
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..8 {
        let (queue, life) = (Arc::clone(&queue), life.clone());
        tasks.spawn(async move {
            for n in 0.. {
                let id = format!("{life}-{producer}-{n}");
                say("sent", &[&id]);
                match queue.commit(sized(&id, body)).await {
                    Ok(Committed::Accepted { .. }) => say("accepted", &[&id]),
                    other => say("error", &[&format!("{other:?}")]),
                }
            }
        });
    }
    tasks.spawn(async move {
        loop {
            let leased = lease(&queue, 20).await;
            if leased.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let ids: Vec<&str> = leased.iter().map(|leased| leased.event.id.as_str()).collect();
            say("settling", &ids);
            // Every eighth large one stays as a dead letter, so that segments get sparse.
            let (dead, done): (Vec<_>, Vec<_>) =
                leased.iter().cloned().partition(|leased| body == LARGE && leased.token.delivery.seq % 8 == 0);
            let reason = DeadReason::Rejected;
            let bury = |leased: &zen_queue::Leased| Settled {
                token: leased.token,
                settlement: Settlement::Dead { reason },
                attempt: None,
            };
            queue.settle(dead.iter().map(bury).collect()).await.expect("settles");
            if ack(&queue, &done).await.is_ok() {
                say("settled", &ids);
            }
        }
    });
    tasks.join_all().await;
}

/// Listens until the process is dead; kills it after so many lines, if it does not die by itself.
fn listen(mut child: Child, said: &mut Said, lines: Option<u64>) {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    for (nth, line) in out.lines().enumerate() {
        // A cut last line says nothing.
        let Ok(line) = line else { break };
        said.hear(&line);
        if Some(nth as u64) == lines {
            child.kill().expect("alive");
        }
    }
    child.wait().expect("dies");
}

/// Opens what is left and compares.
async fn compare(folder: &Path, said: &Said) {
    let queue = open(folder, Options::default()).expect("opens after a crash");
    let mut waiting = BTreeSet::new();
    loop {
        let leased = lease(&queue, 500).await;
        if leased.is_empty() {
            break;
        }
        for leased in leased {
            assert!(waiting.insert(leased.event.id.clone()), "{} waits twice", leased.event.id);
        }
    }
    for id in &said.accepted {
        assert!(waiting.contains(id) || said.settling.contains(id), "{id} was acknowledged and is lost");
    }
    // What was buried can still be read, whole.
    let all = DeadFilter { limit: 10_000, ..DeadFilter::default() };
    for letter in queue.dead_letters(all).await.expect("lists") {
        let id = letter.id.parse().expect("an id");
        let (letter, event) = queue.dead_letter(id).await.expect("reads").expect("there");
        assert_eq!(letter.reason, "Rejected", "{}", letter.event);
        assert!([1000, LARGE].contains(&event.body.len()), "{}", letter.event);
    }
    for id in &said.settled {
        assert!(!waiting.contains(id), "{id} was settled and came back");
    }
    for id in &waiting {
        assert!(said.sent.contains(id), "{id} waits and was never sent");
    }
    let unanswered: Vec<&String> = said.sent.difference(&said.accepted).collect();
    for id in unanswered {
        match queue.commit(new(id)).await.expect("answers") {
            Committed::Accepted { .. } => {}
            Committed::Duplicate { .. } => {
                let stored = waiting.contains(id) || said.settling.contains(id);
                assert!(stored, "{id} holds a claim and is not stored");
            }
        }
    }
    queue.close().await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().expect("folder");
    let mut said = Said::default();
    for life in 0..26 {
        let lines = fastrand::u64(50..3000);
        // Large ones and small ones in turn: they lie side by side.
        let body = if life % 2 == 0 { 1000 } else { LARGE };
        listen(child(folder.path(), life, None, body), &mut said, Some(lines));
    }
    assert!(said.accepted.len() > 1000 && said.settled.len() > 100, "{} accepted", said.accepted.len());
    compare(folder.path(), &said).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_at_any_step_of_a_batch() {
    for point in 0..Point::ALL.len() {
        let folder = tempfile::tempdir().expect("folder");
        let mut said = Said::default();
        for (life, at) in [1, 2, 9].into_iter().enumerate() {
            let child = child(folder.path(), u32::try_from(life).expect("few"), Some((point, at)), 1000);
            listen(child, &mut said, None);
        }
        compare(folder.path(), &said).await;
    }
}

#[tokio::test]
async fn nothing_large_is_lost_at_any_step_either() {
    for point in 0..points().len() {
        let folder = tempfile::tempdir().expect("folder");
        let mut said = Said::default();
        for (life, at) in [1, 2, 5].into_iter().enumerate() {
            let child = child(folder.path(), u32::try_from(life).expect("few"), Some((point, at)), LARGE);
            listen(child, &mut said, None);
        }
        compare(folder.path(), &said).await;
    }
}
