//! Large records lie in files of their own, beside the tables.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::task::JoinSet;
use zen_model::{DeadReason, Settlement};
use zen_queue::{DeadFilter, Demand, Embedded, Leased, NewEvent, Options, Queue, Settled};

use crate::common::{ack, ci, lease, open, sized};

const LARGE: usize = 64 << 10;

fn options() -> Options {
    Options { segment_bytes: 1 << 20, recent_bytes: 0, large_batch_bytes: 1, ..Options::default() }
}

/// Sizes and names of the segments.
fn segments(folder: &Path) -> Vec<(PathBuf, u64)> {
    let files = fs::read_dir(folder.join("queue/bodies")).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| (file.path(), file.metadata().expect("there").len())).collect();
    files.sort();
    files
}

async fn fill(queue: &Arc<Embedded>, ids: impl Iterator<Item = String>, body: usize) {
    let mut sent = JoinSet::new();
    for id in ids {
        let queue = Arc::clone(queue);
        sent.spawn(async move { queue.commit(NewEvent { claim: None, ..sized(&id, body) }).await.expect("commits") });
    }
    sent.join_all().await;
}

fn ids(leased: &[Leased]) -> BTreeSet<String> {
    leased.iter().map(|leased| leased.event.id.clone()).collect()
}

/// An operation of the writer: what was asked before it is done.
async fn done(queue: &Embedded) {
    queue.replay(DeadFilter { ids: vec!["0-0".into()], ..DeadFilter::default() }, 1).await.expect("works");
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while !is() {
            look.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(1), waiting).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_come_back_from_their_files_which_go_with_them() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), options()).expect("opens");
    fill(&queue, (0..40).map(|n| format!("e{n}")), LARGE).await;
    assert_eq!(segments(folder.path()).len(), 3, "of a MiB each");
    let stored = queue.stats().disk_bytes;
    assert!(stored > 40 * LARGE as u64, "{stored}");
    let database = fs::metadata(folder.path().join("queue/queue.db-wal")).expect("there").len();
    assert!(database < 40 * LARGE as u64 / 4, "the log holds none of it: {database}");
    queue.close().await;
    let queue = open(folder.path(), options()).expect("opens");
    let leased = lease(&queue, 100).await;
    assert_eq!(leased.len(), 40);
    assert!(leased.iter().all(|leased| leased.event.body.len() == LARGE));
    ack(&queue, &leased).await.expect("settles");
    until("all are gone", || segments(folder.path()).iter().map(|(_, bytes)| bytes).sum::<u64>() == 0).await;
    fill(&queue, ["again".to_owned()].into_iter(), LARGE).await;
    let leased = lease(&queue, 100).await;
    assert_eq!(ids(&leased), BTreeSet::from(["again".to_owned()]));
    queue.close().await;
}

#[tokio::test]
async fn a_batch_with_little_of_them_stays_in_the_tables() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), Options::default()).expect("opens");
    queue.commit(sized("e1", 9000)).await.expect("commits");
    assert!(segments(folder.path()).is_empty(), "one file to sync, not two");
    queue.commit(sized("e2", 100_000)).await.expect("commits");
    assert_eq!(segments(folder.path()).len(), 1);
    queue.close().await;
    let queue = open(folder.path(), Options { recent_bytes: 0, ..Options::default() }).expect("opens");
    let sizes: Vec<usize> = lease(&queue, 9).await.iter().map(|leased| leased.event.body.len()).collect();
    assert_eq!(sizes, [9000, 100_000]);
    queue.close().await;
}

/// counted, with a reason, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_cut_and_missing_segments_cost_their_own_records() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), options()).expect("opens");
    fill(&queue, (0..60).map(|n| format!("e{n}")), LARGE).await;
    queue.close().await;
    let files = segments(folder.path());
    assert_eq!(files.len(), 4);
    // One byte of one record; half of the next file; all of the third.
    let file = fs::OpenOptions::new().write(true).open(&files[0].0).expect("opens");
    file.write_all_at(b"!", 100_000).expect("writes");
    fs::OpenOptions::new().write(true).open(&files[1].0).expect("opens").set_len(500_000).expect("cuts");
    fs::remove_file(&files[2].0).expect("removes");
    let queue = open(folder.path(), options()).expect("opens");
    let leased = lease(&queue, 100).await;
    done(&queue).await;
    let all = DeadFilter { limit: 1000, ..DeadFilter::default() };
    let dead = queue.dead_letters(all).await.expect("lists");
    assert!(dead.iter().all(|letter| letter.reason == "RecordDamaged"));
    // 15 in each file; of the second 7 are whole.
    assert_eq!((leased.len(), dead.len()), (60 - 1 - 8 - 15, 1 + 8 + 15));
    ack(&queue, &leased).await.expect("settles");
    queue.commit(sized("after", LARGE)).await.expect("goes on");
    assert_eq!(lease(&queue, 9).await.len(), 1);
    queue.close().await;
}

/// What waits for days must not hold the room of everything that passed by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_records_that_stay_do_not_keep_the_files_of_many() {
    const ROUNDS: usize = 60;
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), options()).expect("opens");
    let mut kept = BTreeSet::new();
    for round in 0..ROUNDS {
        fill(&queue, (0..30).map(|n| format!("{round}-{n}")), LARGE).await;
        let leased = lease(&queue, 100).await;
        let settled = leased.iter().enumerate().map(|(nth, leased)| {
            let reason = DeadReason::Rejected;
            let settlement = if nth == 7 { Settlement::Dead { reason } } else { Settlement::Ack };
            Settled { token: leased.token, settlement, attempt: None }
        });
        let settled = settled.collect();
        kept.insert(leased[7].event.id.clone());
        queue.settle(settled).await.expect("settles");
    }
    // While it is busy, not only when nothing comes any more.
    let live = ROUNDS as u64 * LARGE as u64;
    let held = segments(folder.path()).iter().map(|(_, bytes)| bytes).sum::<u64>();
    assert!(held < 4 * live + (6 << 20), "{held} for {live}");
    until("the figure too", || queue.stats().disk_bytes < 4 * live + (4 << 20)).await;
    queue.close().await;
    let queue = open(folder.path(), options()).expect("opens");
    assert_eq!(queue.replay(DeadFilter::default(), 100).await.expect("replays"), ROUNDS as u64);
    let leased = lease(&queue, 100).await;
    assert_eq!(ids(&leased), kept);
    assert!(leased.iter().all(|leased| leased.event.body.len() == LARGE));
    queue.close().await;
}

/// Records are read while the writer copies them and writes over old files: none is taken for damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_follow_what_is_copied() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), Options { segment_bytes: 200_000, ..options() }).expect("opens");
    fill(&queue, ["kept".to_owned()].into_iter(), 20_000).await;
    let leased = lease(&queue, 1).await;
    let id = leased[0].token.delivery;
    let settlement = Settlement::Dead { reason: DeadReason::Rejected };
    queue.settle(vec![Settled { token: leased[0].token, settlement, attempt: None }]).await.expect("settles");
    let reading = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for _ in 0..3000 {
                let (_, event) = queue.dead_letter(id).await.expect("reads").expect("there");
                assert_eq!(event.body.len(), 20_000);
            }
        }
    });
    while !reading.is_finished() {
        fill(&queue, (0..30).map(|n| format!("e{n}")), 20_000).await;
        let leased = lease(&queue, 100).await;
        ack(&queue, &leased).await.expect("settles");
    }
    reading.await.expect("always whole");
    queue.close().await;
}

/// Without a free descriptor, say: that is no damage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_now_is_delivered_later() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), options()).expect("opens");
    fill(&queue, (0..3).map(|n| format!("e{n}")), LARGE).await;
    let (file, aside) = (segments(folder.path())[0].0.clone(), folder.path().join("aside"));
    fs::rename(&file, &aside).expect("moves");
    std::os::unix::fs::symlink(&file, &file).expect("a link to itself cannot be opened");
    let demand = Demand { destination: ci(), max: 9, max_bytes: usize::MAX, term: Duration::from_hours(1) };
    let refused = queue.lease(demand).await;
    assert!(matches!(refused, Err(zen_queue::Error::Unavailable(_))), "{refused:?}");
    fs::rename(&aside, &file).expect("moves back");
    assert_eq!(lease(&queue, 9).await.len(), 3);
    done(&queue).await;
    assert_eq!(queue.stats().destinations[&ci()].dead, 0);
    queue.close().await;
}

/// Version 2 had none of it.
#[tokio::test]
async fn an_older_folder_opens() {
    let folder = tempfile::tempdir().expect("folder");
    let none = Options { large_record_bytes: usize::MAX, ..Options::default() };
    let queue = open(folder.path(), none).expect("opens");
    queue.commit(sized("old", LARGE)).await.expect("commits");
    queue.close().await;
    let conn = Connection::open(folder.path().join("queue/queue.db")).expect("opens");
    conn.execute_batch("DROP TABLE body; PRAGMA user_version=2").expect("as version 2 left it");
    drop(conn);
    let queue = open(folder.path(), options()).expect("opens");
    queue.commit(sized("new", LARGE)).await.expect("commits");
    let leased = lease(&queue, 9).await;
    assert_eq!(ids(&leased), BTreeSet::from(["old".to_owned(), "new".to_owned()]));
    ack(&queue, &leased).await.expect("settles");
    assert_eq!(queue.stats().bytes, 0);
    queue.close().await;
}
