//! Folders that cannot be used: the message says which folder, why, and what to do.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;
use zen_queue::{DeadFilter, Embedded, Options, Queue};
use zen_seal::Keyring;

use crate::common::{lease, new, open};

fn refused(folder: &Path) -> String {
    let error = open(folder, Options::default()).expect_err("refused").to_string();
    assert!(error.contains(&folder.join("queue").display().to_string()), "names the folder: {error}");
    error
}

async fn filled(folder: &Path, count: usize) {
    let queue = open(folder, Options::default()).expect("opens");
    for n in 0..count {
        queue.commit(new(&format!("e{n}"))).await.expect("commits");
    }
    queue.close().await;
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), Options::default()).expect("opens");
    let error = refused(folder.path());
    assert!(error.contains(&format!("another process (pid {})", std::process::id())), "{error}");
    queue.close().await;
    open(folder.path(), Options::default()).expect("free again").close().await;
}

#[tokio::test]
async fn other_keys_are_told_apart_from_damage() {
    let folder = tempfile::tempdir().expect("folder");
    filled(folder.path(), 1).await;
    fs::remove_file(folder.path().join("mesh.key")).expect("removes");
    fs::remove_file(folder.path().join("mesh.key.ring")).expect("removes");
    let error = refused(folder.path());
    assert!(error.contains("sealed with other keys") && error.contains("restore the key file"), "{error}");
}

#[tokio::test]
async fn a_newer_format_and_a_foreign_file_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    filled(folder.path(), 1).await;
    let file = folder.path().join("queue/queue.db");
    Connection::open(&file).expect("opens").execute_batch("PRAGMA user_version=99").expect("sets");
    let error = refused(folder.path());
    assert!(error.contains("newer version") && error.contains("format 99"), "{error}");
    fs::remove_file(&file).expect("removes");
    Connection::open(&file).expect("opens").execute_batch("CREATE TABLE t(x); PRAGMA user_version=7").expect("sets");
    assert!(refused(folder.path()).contains("not a queue of this program"));
}

#[tokio::test]
async fn a_damaged_file_stops_the_start_with_advice() {
    let folder = tempfile::tempdir().expect("folder");
    filled(folder.path(), 5).await;
    let file = folder.path().join("queue/queue.db");
    fs::write(
        &file,
        b"this is not a database, and it is longer than the head of one would be, so that nobody doubts it",
    )
    .expect("writes");
    let error = refused(folder.path());
    assert!(error.contains("damaged") && error.contains("restore a copy"), "{error}");
}

#[tokio::test]
async fn a_damaged_record_is_a_dead_letter_and_the_others_are_delivered() {
    let folder = tempfile::tempdir().expect("folder");
    filled(folder.path(), 5).await;
    let conn = Connection::open(folder.path().join("queue/queue.db")).expect("opens");
    conn.execute("UPDATE event SET record = zeroblob(length(record)) WHERE id = 'e1'", []).expect("damages");
    // A record moved to another event does not open there either.
    let moved = "UPDATE event SET record = (SELECT record FROM event WHERE id = 'e0') WHERE id = 'e3'";
    conn.execute(moved, []).expect("moves");
    drop(conn);
    let queue = open(folder.path(), Options::default()).expect("opens");
    let ids: Vec<_> = lease(&queue, 10).await.into_iter().map(|leased| leased.event.id).collect();
    assert_eq!(ids, ["e0", "e2", "e4"]);
    // An operation of the writer: what was asked before it is done.
    let none = DeadFilter { ids: vec!["0-0".into()], ..DeadFilter::default() };
    queue.replay(none, 1).await.expect("works");
    let letters = queue.dead_letters(DeadFilter::default()).await.expect("lists");
    let shown: Vec<_> = letters.iter().map(|letter| (letter.event.as_str(), letter.reason.as_str())).collect();
    assert_eq!(shown, [("e1", "RecordDamaged"), ("e3", "RecordDamaged")]);
    let (_, event) = queue.dead_letter(letters[0].id.parse().expect("an id")).await.expect("reads").expect("there");
    assert!(event.body.is_empty());
    queue.close().await;
}

/// a torn tail is recovered; the log is cut anywhere and flipped anywhere.
#[tokio::test]
async fn a_torn_log_is_recovered() {
    let source = tempfile::tempdir().expect("folder");
    filled(source.path(), 1).await;
    let keyring = Keyring::load_or_create(&source.path().join("mesh.key")).expect("keys");
    let queue = open(source.path(), Options::default()).expect("opens");
    let file = source.path().join("queue/queue.db");
    // Whoever reads keeps the log from being folded into the file, however long the commits take.
    let reader = Connection::open(&file).expect("opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").expect("reads");
    for n in 0..200 {
        queue.commit(new(&format!("t{n}"))).await.expect("commits");
    }
    let (database, log) = (fs::read(&file).expect("reads"), fs::read(file.with_extension("db-wal")).expect("a log"));
    drop(reader);
    for round in 0..20 {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("queue.db"), &database).expect("writes");
        let torn = folder.path().join("queue.db-wal");
        fs::write(&torn, &log).expect("writes");
        let mut file = fs::OpenOptions::new().write(true).open(&torn).expect("opens");
        let at = fastrand::u64(0..log.len() as u64);
        if round % 2 == 0 {
            file.set_len(at).expect("cuts");
        } else {
            file.seek(SeekFrom::Start(at)).expect("seeks");
            file.write_all(&[0xAA; 100]).expect("flips");
        }
        let recovered = Embedded::open(folder.path(), keyring.clone(), Options::default()).expect("recovers");
        let ids: Vec<_> = lease(&recovered, 1000).await.into_iter().map(|leased| leased.event.id).collect();
        // A prefix of what was committed: whole batches, none in between missing.
        let whole: Vec<_> = ["e0".to_owned()].into_iter().chain((0..200).map(|n| format!("t{n}"))).collect();
        assert_eq!(ids, whole[..ids.len()]);
        recovered.commit(new("new")).await.expect("goes on");
        recovered.close().await;
    }
    queue.close().await;
}
