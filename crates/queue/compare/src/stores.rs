//! The same rows on each store.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use rusqlite::{Connection, params};

use crate::{BATCH, Seqs};

/// A claim is about 70 bytes, an entry of the history about 120.
const CLAIMS: usize = 70 * BATCH as usize;
const HISTORY: usize = 120 * BATCH as usize;

pub trait Store {
    /// One durable batch: `new` are appended, `old` are read and deleted.
    fn batch(&mut self, new: Seqs, old: Seqs, record: &[u8]);
    /// Counts the line, as start-up does.
    fn count(&mut self, waiting: &mut u64);
    /// Gives disk space back, as far as the store can.
    fn tidy(&mut self);
}

pub struct Sqlite {
    conn: Connection,
    batches: u64,
}

impl Sqlite {
    pub fn open(folder: &Path) -> Self {
        let conn = Connection::open(folder.join("db")).expect("opens");
        conn.execute_batch(
            "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             PRAGMA wal_autocheckpoint=8192; PRAGMA cache_size=-16384;
             CREATE TABLE IF NOT EXISTS event(seq INTEGER PRIMARY KEY, webhook INTEGER, id TEXT, at INTEGER, dests BLOB,
               refs INTEGER, record BLOB);
             CREATE TABLE IF NOT EXISTS ready(dest INTEGER, seq INTEGER, at INTEGER, bytes INTEGER, webhook INTEGER,
               PRIMARY KEY(dest, seq)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS claims(id INTEGER PRIMARY KEY, webhook INTEGER, expires INTEGER, body BLOB);
             CREATE TABLE IF NOT EXISTS journal(batch INTEGER PRIMARY KEY, at INTEGER, seq INTEGER, body BLOB);",
        )
        .expect("set up");
        let batches = conn.query_row("SELECT coalesce(max(batch), 0) FROM journal", [], |row| row.get::<_, i64>(0));
        Self { conn, batches: batches.expect("reads").cast_unsigned() }
    }
}

impl Store for Sqlite {
    fn batch(&mut self, new: Seqs, old: Seqs, record: &[u8]) {
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
            self.conn.prepare_cached(sql).expect("prepares").execute(values).expect("runs")
        };
        run("BEGIN IMMEDIATE", &[]);
        for seq in new.clone() {
            let seq = seq.cast_signed();
            run(
                "INSERT INTO event VALUES (?1, 1, ?2, ?3, ?4, 1, ?5)",
                params![seq, "0198c0de-0000-7000-8000-000000000000", 1_790_000_000_000_i64, [0_u8, 0, 0, 1], record],
            );
            run("INSERT INTO ready VALUES (1, ?1, ?2, 1200, 1)", params![seq, 1_790_000_000_000_i64]);
        }
        for seq in old {
            let seq = seq.cast_signed();
            let mut read = self.conn.prepare_cached("SELECT record FROM event WHERE seq = ?1").expect("prepares");
            let record: Vec<u8> = read.query_row([seq], |row| row.get(0)).expect("there");
            std::hint::black_box(record);
            run("DELETE FROM ready WHERE dest = 1 AND seq = ?1", params![seq]);
            run("DELETE FROM event WHERE seq = ?1 AND refs <= 1", params![seq]);
        }
        self.batches += 1;
        let batch = self.batches.cast_signed();
        if !new.is_empty() {
            run("INSERT INTO claims VALUES (?1, 1, 0, ?2)", params![batch, vec![1_u8; CLAIMS]]);
        }
        run("INSERT INTO journal VALUES (?1, 0, 0, ?2)", params![batch, vec![1_u8; HISTORY]]);
        if batch > 8192 {
            run("DELETE FROM journal WHERE batch <= ?1", params![batch - 8192]);
        }
        run("COMMIT", &[]);
    }

    fn count(&mut self, waiting: &mut u64) {
        let count = self.conn.query_row("SELECT count(*) FROM ready", [], |row| row.get::<_, i64>(0));
        *waiting = count.expect("counts").cast_unsigned();
    }

    fn tidy(&mut self) {
        let mut vacuum = self.conn.prepare("PRAGMA incremental_vacuum").expect("prepares");
        let mut rows = vacuum.query([]).expect("runs");
        while rows.next().expect("steps").is_some() {}
        drop(rows);
        drop(vacuum);
        let folded = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        folded.expect("folds");
    }
}

pub struct Fjall {
    db: Database,
    event: Keyspace,
    ready: Keyspace,
    claims: Keyspace,
    journal: Keyspace,
    batches: u64,
}

impl Fjall {
    pub fn open(folder: &Path) -> Self {
        let db = Database::builder(folder.join("db")).cache_size(16 << 20).open().expect("opens");
        let open = |name| db.keyspace(name, KeyspaceCreateOptions::default).expect("opens");
        let (event, ready, claims, journal) = (open("event"), open("ready"), open("claims"), open("journal"));
        let last = journal.last_key_value().and_then(|last| last.key().ok());
        let batches = last.and_then(|key| key.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        Self { db, event, ready, claims, journal, batches }
    }
}

fn ready_key(seq: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[3] = 1;
    key[4..].copy_from_slice(&seq.to_be_bytes());
    key
}

impl Store for Fjall {
    fn batch(&mut self, new: Seqs, old: Seqs, record: &[u8]) {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for seq in new.clone() {
            batch.insert(&self.event, seq.to_be_bytes(), record);
            batch.insert(&self.ready, ready_key(seq), [0; 20]);
        }
        for seq in old {
            std::hint::black_box(self.event.get(seq.to_be_bytes()).expect("reads").expect("there"));
            batch.remove(&self.event, seq.to_be_bytes());
            batch.remove(&self.ready, ready_key(seq));
        }
        self.batches += 1;
        if !new.is_empty() {
            batch.insert(&self.claims, self.batches.to_be_bytes(), vec![1; CLAIMS]);
        }
        batch.insert(&self.journal, self.batches.to_be_bytes(), vec![1; HISTORY]);
        if self.batches > 8192 {
            batch.remove(&self.journal, (self.batches - 8192).to_be_bytes());
        }
        batch.commit().expect("commits");
    }

    fn count(&mut self, waiting: &mut u64) {
        *waiting = self.ready.len().expect("counts") as u64;
    }

    fn tidy(&mut self) {
        for keyspace in [&self.event, &self.ready, &self.journal] {
            keyspace.rotate_memtable_and_wait().expect("flushes");
            keyspace.major_compact().expect("compacts");
        }
    }
}

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const EVENT: Table = TableDefinition::new("event");
const READY: Table = TableDefinition::new("ready");
const CLAIMS_TABLE: Table = TableDefinition::new("claims");
const JOURNAL: Table = TableDefinition::new("journal");

pub struct Redb {
    db: redb::Database,
    batches: u64,
}

impl Redb {
    pub fn open(folder: &Path) -> Self {
        let db = redb::Database::builder().set_cache_size(32 << 20).create(folder.join("db")).expect("opens");
        let begun = db.begin_write().expect("begins");
        let journal = begun.open_table(JOURNAL).expect("opens");
        let last = journal.last().expect("reads").map(|(key, _)| key.value().try_into().expect("8 bytes"));
        let batches = last.map_or(0, u64::from_be_bytes);
        drop(journal);
        begun.open_table(READY).expect("opens");
        begun.commit().expect("commits");
        Self { db, batches }
    }
}

impl Store for Redb {
    fn batch(&mut self, new: Seqs, old: Seqs, record: &[u8]) {
        let begun = self.db.begin_write().expect("begins");
        {
            let mut event = begun.open_table(EVENT).expect("opens");
            let mut ready = begun.open_table(READY).expect("opens");
            for seq in new.clone() {
                event.insert(&seq.to_be_bytes()[..], record).expect("inserts");
                ready.insert(&ready_key(seq)[..], &[0; 20][..]).expect("inserts");
            }
            for seq in old {
                let old = event.remove(&seq.to_be_bytes()[..]).expect("removes").expect("there");
                std::hint::black_box(old.value().to_vec());
                ready.remove(&ready_key(seq)[..]).expect("removes");
            }
            self.batches += 1;
            let key = self.batches.to_be_bytes();
            if !new.is_empty() {
                let mut claims = begun.open_table(CLAIMS_TABLE).expect("opens");
                claims.insert(&key[..], &[1; CLAIMS][..]).expect("inserts");
            }
            let mut journal = begun.open_table(JOURNAL).expect("opens");
            journal.insert(&key[..], &[1; HISTORY][..]).expect("inserts");
            if self.batches > 8192 {
                journal.remove(&(self.batches - 8192).to_be_bytes()[..]).expect("removes");
            }
        }
        begun.commit().expect("commits");
    }

    fn count(&mut self, waiting: &mut u64) {
        let begun = self.db.begin_read().expect("begins");
        *waiting = begun.open_table(READY).expect("opens").len().expect("counts");
    }

    fn tidy(&mut self) {
        let _ = self.db.compact().expect("compacts");
    }
}
