//! One replica hands everything over to another while both are killed again and again (DESIGN 13): nothing is lost, no
//! dead letter is there twice, and a delivery is made twice only where a process died between making it and saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use zen_model::{DeadReason, ObjectKey, Settlement};
use zen_queue::embedded::{Point, Steps};
use zen_queue::handover::{Budget, Cursor};
use zen_queue::{Committed, DeadFilter, Demand, Embedded, Leased, NewEvent, Options, Queue, Settled};

use crate::common::{ack, lease, new, open, sized};

/// Of a record that lies in a segment.
const LARGE: usize = 3000;

const BUDGET: Budget = Budget { bytes: 20_000, hold: Duration::from_mins(1) };

fn options() -> Options {
    // Large records beside the tables, in small segments, so that those are filled and emptied.
    let segments =
        Options { large_record_bytes: 1500, large_batch_bytes: 1, segment_bytes: 50_000, ..Options::default() };
    Options { unique_ids: true, wal_bytes: 256 << 10, ..segments }
}

async fn hand_over(from: &Embedded, to: &Embedded) {
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let page = from.export(cursor, BUDGET).await.expect("exports");
        to.adopt(page.batch).await.expect("adopts");
        from.forget(page.exported).await.expect("forgets");
        next = page.next;
    }
}

fn is_empty(queue: &Embedded) -> bool {
    let stats = queue.stats();
    stats.bytes == 0 && stats.claims == 0 && stats.destinations.values().all(|to| to.waiting + to.dead == 0)
}

/// Some that wait, some in back-off, some dead. Returns their ids, the dead ones apart.
async fn filled(queue: &Embedded) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut waiting, mut dead) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..240 {
        queue.commit(sized(&format!("e{n}"), if n % 3 == 0 { LARGE } else { 1000 })).await.expect("commits");
    }
    let leased = lease(queue, 160).await;
    let settled = leased.iter().enumerate().map(|(nth, leased)| {
        let settlement = if nth % 2 == 0 {
            dead.insert(leased.event.id.clone());
            Settlement::Dead { reason: DeadReason::Rejected }
        } else {
            waiting.insert(leased.event.id.clone());
            Settlement::Retry { after: Duration::from_millis(1) }
        };
        Settled { token: leased.token, settlement, attempt: None }
    });
    let settled = settled.collect();
    queue.settle(settled).await.expect("settles");
    let ids = (0..240).map(|n| format!("e{n}")).filter(|id| !dead.contains(id) && !waiting.contains(id));
    waiting.extend(ids.collect::<Vec<_>>());
    (waiting, dead)
}

/// Every point of a handover with large records.
fn points() -> Vec<Point> {
    Point::HANDOVER.into_iter().chain([Point::BodiesWritten, Point::BodiesSynced]).collect()
}

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

fn say(what: &str, ids: &[&str]) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {}", ids.join(" ")).and_then(|()| out.flush()).expect("the parent listens");
}

/// Both replicas in one process, so that they die together: what is durable of either is the same as if one died alone.
/// Deliveries go on at both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it as a process of its own"]
async fn hands_over_until_it_is_killed() {
    let Ok(folder) = std::env::var("QUEUE_TEST_FOLDER") else { return };
    let steps = std::env::var("QUEUE_TEST_STEP").ok().map(|step| {
        let (point, at) = step.split_once(' ').expect("two numbers");
        let point = points()[point.parse::<usize>().expect("a number")];
        Arc::new(Abort { point, visits: AtomicU64::new(0), at: at.parse().expect("a number") }) as Arc<dyn Steps>
    });
    let open = |name: &str| open(&Path::new(&folder).join(name), Options { steps: steps.clone(), ..options() });
    let (from, to) = (open("from").expect("opens"), open("to").expect("opens"));
    let mut tasks = tokio::task::JoinSet::new();
    for queue in [Arc::clone(&from), Arc::clone(&to)] {
        tasks.spawn(async move {
            loop {
                let leased = lease(&queue, 2).await;
                let ids: Vec<&str> = leased.iter().map(|leased| leased.event.id.as_str()).collect();
                if !ids.is_empty() {
                    say("delivered", &ids);
                    ack(&queue, &leased).await.expect("settles");
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    loop {
        hand_over(&from, &to).await;
        if is_empty(&from) && to.stats().destinations.values().all(|stats| stats.waiting == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tasks.shutdown().await;
    say("done", &[]);
    from.close().await;
    to.close().await;
}

/// Runs it until it dies. Returns whether it came to its end.
fn live(
    folder: &Path,
    step: Option<(usize, u64)>,
    lines: Option<usize>,
    delivered: &mut BTreeMap<String, u32>,
) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "handover::hands_over_until_it_is_killed", "--nocapture", "--ignored"]);
    command.env("QUEUE_TEST_FOLDER", folder);
    if let Some((point, at)) = step {
        command.env("QUEUE_TEST_STEP", format!("{point} {at}"));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut done = false;
    for (nth, line) in out.lines().enumerate() {
        let Ok(line) = line else { break };
        let mut words = line.split(' ');
        match words.next() {
            Some("delivered") => words.for_each(|id| *delivered.entry(id.to_owned()).or_default() += 1),
            Some("done") => done = true,
            _ => {}
        }
        if Some(nth) == lines {
            child.kill().expect("alive");
        }
    }
    child.wait().expect("ends");
    done
}

async fn compare(
    folder: &Path,
    waiting: &BTreeSet<String>,
    dead: &BTreeSet<String>,
    delivered: &BTreeMap<String, u32>,
) {
    assert_eq!(&delivered.keys().cloned().collect::<BTreeSet<_>>(), waiting, "all are delivered, and no dead letter");
    let (from, to) = (open(&folder.join("from"), options()), open(&folder.join("to"), options()));
    let (from, to) = (from.expect("opens"), to.expect("opens"));
    assert!(is_empty(&from), "{:?}", from.stats());
    let letters = to.dead_letters(DeadFilter { limit: 1000, ..DeadFilter::default() }).await.expect("lists");
    let ids: Vec<String> = letters.iter().map(|letter| letter.event.as_str().to_owned()).collect();
    assert_eq!(&ids.iter().cloned().collect::<BTreeSet<_>>(), dead, "all dead letters");
    assert_eq!(ids.len(), dead.len(), "and none twice");
    for letter in &letters {
        let (_, event) = to.dead_letter(letter.id.parse().expect("an id")).await.expect("reads").expect("there");
        assert_eq!(letter.reason, "Rejected");
        assert!([1000, LARGE].contains(&event.body.len()), "{} is whole", event.id);
    }
    for id in waiting.iter().chain(dead) {
        let repeat = to.commit(new(id)).await.expect("answers");
        assert!(matches!(repeat, Committed::Duplicate { .. }), "{id} has lost its claim: {repeat:?}");
    }
    from.close().await;
    to.close().await;
}

async fn begun(folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    for name in ["from", "to"] {
        std::fs::create_dir(folder.join(name)).expect("a folder");
    }
    let from = open(&folder.join("from"), options()).expect("opens");
    let ids = filled(&from).await;
    from.close().await;
    ids
}

#[tokio::test]
async fn nothing_is_lost_at_any_step_of_a_handover() {
    for (point, name) in points().into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("folder");
        let (waiting, dead) = begun(folder.path()).await;
        let mut delivered = BTreeMap::new();
        for at in [1, 2, 4] {
            let done = live(folder.path(), Some((point, at)), None, &mut delivered);
            assert!(!done, "it dies at {name:?}");
        }
        assert!(live(folder.path(), None, None, &mut delivered), "and comes to an end");
        compare(folder.path(), &waiting, &dead, &delivered).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_when_both_are_killed() {
    let folder = tempfile::tempdir().expect("folder");
    let (waiting, dead) = begun(folder.path()).await;
    let mut delivered = BTreeMap::new();
    for _ in 0..20 {
        live(folder.path(), None, Some(fastrand::usize(4..12)), &mut delivered);
    }
    assert!(live(folder.path(), None, None, &mut delivered), "it comes to an end");
    compare(folder.path(), &waiting, &dead, &delivered).await;
}

/// A crash between adoption and forgetting: what may be at the peer is delivered here only when nobody has settled
/// that for long.
#[tokio::test(start_paused = true)]
async fn what_may_be_at_the_peer_is_held_after_a_crash() {
    let folder = tempfile::tempdir().expect("folder");
    let options = Options { hold_paused_clock: true, ..options() };
    let queue = open(folder.path(), options.clone()).expect("opens");
    for id in ["e1", "e2"] {
        queue.commit(new(id)).await.expect("commits");
    }
    queue.export(Cursor::default(), Budget { bytes: 1, ..BUDGET }).await.expect("exports");
    queue.close().await;
    let queue = open(folder.path(), options).expect("opens");
    let leased = lease(&queue, 9).await;
    assert_eq!(leased.iter().map(|leased| leased.event.id.as_str()).collect::<Vec<_>>(), ["e2"]);
    tokio::time::sleep(Duration::from_mins(10) + Duration::from_millis(20)).await;
    // An operation of the writer: what was asked before it is done.
    queue.replay(DeadFilter { ids: vec!["0-0".into()], ..DeadFilter::default() }, 1).await.expect("works");
    let leased = lease(&queue, 9).await;
    assert_eq!(leased.iter().map(|leased| leased.event.id.as_str()).collect::<Vec<_>>(), ["e1"]);
    queue.close().await;
}

#[tokio::test]
async fn a_damaged_record_moves_as_the_dead_letter_that_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["from", "to"] {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let from = open(&folder.path().join("from"), options()).expect("opens");
    for id in ["e1", "e2"] {
        queue_one(&from, id).await;
    }
    from.close().await;
    let conn = Connection::open(folder.path().join("from/queue/queue.db")).expect("opens");
    conn.execute("UPDATE event SET record = zeroblob(length(record)) WHERE id = 'e1'", []).expect("damages");
    drop(conn);
    let from = open(&folder.path().join("from"), options()).expect("opens");
    let to = open(&folder.path().join("to"), options()).expect("opens");
    hand_over(&from, &to).await;
    assert!(is_empty(&from));
    let letters = to.dead_letters(DeadFilter::default()).await.expect("lists");
    let shown: Vec<_> = letters.iter().map(|letter| (letter.event.as_str(), letter.reason.as_str())).collect();
    assert_eq!(shown, [("e1", "RecordDamaged")]);
    let (letter, event) = to.dead_letter(letters[0].id.parse().expect("an id")).await.expect("reads").expect("there");
    assert!(event.body.is_empty());
    assert_eq!(letter.webhook, ObjectKey::new("team-a", "github"));
    assert_eq!(lease(&to, 9).await.len(), 1);
    from.close().await;
    to.close().await;
}

async fn queue_one(queue: &Embedded, id: &str) {
    queue.commit(new(id)).await.expect("commits");
}

/// Version 1 knew nothing of other replicas: its folders are carried on.
#[tokio::test]
async fn an_older_folder_opens_and_hands_over() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["from", "to"] {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let from = open(&folder.path().join("from"), Options::default()).expect("opens");
    queue_one(&from, "e1").await;
    from.close().await;
    let conn = Connection::open(folder.path().join("from/queue/queue.db")).expect("opens");
    conn.execute_batch(
        "DROP TABLE origin; DROP TABLE adopted; DROP TABLE handing; DROP TABLE body; DELETE FROM meta WHERE key IN ('queue', 'first');
         PRAGMA user_version=1",
    )
    .expect("as version 1 left it");
    drop(conn);
    let from = open(&folder.path().join("from"), Options::default()).expect("opens");
    queue_one(&from, "e2").await;
    let to = open(&folder.path().join("to"), Options::default()).expect("opens");
    queue_one(&to, "e3").await;
    hand_over(&from, &to).await;
    assert!(is_empty(&from));
    let mut ids: Vec<String> = lease(&to, 9).await.into_iter().map(|leased| leased.event.id).collect();
    ids.sort();
    assert_eq!(ids, ["e1", "e2", "e3"]);
    from.close().await;
    to.close().await;
}

/// Adopted events never stand in the way of the numbers that this queue will give out, whatever a peer says.
#[tokio::test]
async fn foreign_numbers_never_block_the_own_ones() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["from", "to"] {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let from = open(&folder.path().join("from"), options()).expect("opens");
    let to = open(&folder.path().join("to"), options()).expect("opens");
    queue_one(&to, "own").await;
    let next = lease(&to, 1).await[0].token.delivery.seq + 1;
    queue_one(&from, "foreign").await;
    let mut page = from.export(Cursor::default(), BUDGET).await.expect("exports");
    page.batch.deliveries[0].seq = next;
    to.adopt(page.batch.clone()).await.expect("adopts");
    assert_eq!(to.adopt(page.batch).await.expect("adopts").known, 1);
    for n in 0..3 {
        queue_one(&to, &format!("own-{n}")).await;
    }
    let mut ids: Vec<String> = lease(&to, 9).await.into_iter().map(|leased| leased.event.id).collect();
    ids.sort();
    assert_eq!(ids, ["foreign", "own-0", "own-1", "own-2"]);
    from.close().await;
    to.close().await;
}

/// A lease that ends puts a delivery back where its line has not been read yet: it must not be read a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_back_far_behind_the_front_is_delivered_once() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), options()).expect("opens");
    let mut sent = tokio::task::JoinSet::new();
    for producer in 0..8 {
        let queue = Arc::clone(&queue);
        sent.spawn(async move {
            for n in 0..1000 {
                let new = NewEvent { claim: None, ..new(&format!("{producer}-{n}")) };
                queue.commit(new).await.expect("commits");
            }
        });
    }
    sent.join_all().await;
    let (mut next, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(cursor) = next {
        let page = queue.export(cursor, Budget { bytes: 1 << 20, ..BUDGET }).await.expect("exports");
        next = page.next;
        pages.push(page.exported);
    }
    let to = ObjectKey::new("team-a", "ci");
    let demand = || Demand { destination: to.clone(), max: 500, max_bytes: usize::MAX, term: Duration::from_mins(5) };
    assert!(queue.lease(demand()).await.expect("leases").is_empty(), "all are held");
    for page in &pages {
        queue.keep(page);
    }
    let mut seen = BTreeSet::new();
    let mut all: Vec<Leased> = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while seen.len() < 8000 && tokio::time::Instant::now() < deadline {
        for leased in queue.lease(demand()).await.expect("leases") {
            assert!(seen.insert(leased.event.id.clone()), "{} twice", leased.event.id);
            all.push(leased);
        }
    }
    assert!(queue.lease(demand()).await.expect("leases").is_empty());
    ack(&queue, &all).await.expect("settles");
    assert_eq!((seen.len(), queue.stats().bytes), (8000, 0));
    queue.close().await;
}
