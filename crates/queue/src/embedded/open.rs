//! Opening the folder: lock, recovery, schema, and what start-up learns and says.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tracing::{info, warn};
use zen_model::ObjectKey;
use zen_seal::{Aad, Keyring};

use super::claims::Claims;
use super::clock::millis;
use super::journal::Journal;
use super::lane::Lane;
use super::ledger::Ledger;
use super::numbers::{Numbered, Numbers};
use super::options::Options;
use super::sql::{int, uint};
use super::state::State;
use super::{schema, wal};
use crate::Error;

/// Bytes of a database page.
pub(crate) const PAGE_BYTES: u64 = 4096;

const FILE: &str = "queue.db";

/// A folder that was opened and read.
pub(crate) struct Opened {
    pub lock: File,
    pub conn: Connection,
    pub own: Own,
    pub state: State,
    pub ledger: Ledger,
    pub numbers: Numbers,
    pub journal: Journal,
    pub claims: Claims,
    pub seq: u64,
    /// Deliveries that were begun when the last process ended.
    pub begun: Vec<crate::DeliveryId>,
}

/// What tells this queue from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Drawn when the folder was made.
    pub queue: [u8; 16],
    /// The first sequence number that it gives out.
    pub first: u64,
}

/// No queue gives out more sequence numbers: 10,000 a second for three years.
pub(crate) const NUMBERS: u64 = 1 << 40;

impl Own {
    /// Whether this queue may ever give out the number.
    pub(crate) fn gives(&self, seq: u64) -> bool {
        (self.first..self.first.saturating_add(NUMBERS)).contains(&seq)
    }
}

/// The database file of a folder.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(crate) fn open(folder: &Path, keyring: &Keyring, options: &Options, now: u64) -> Result<Opened, Error> {
    let failed = |reason: String| Error::Open { folder: folder.display().to_string(), reason };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(format!("{error}; the folder must exist or be creatable")))?;
    let lock = lock(folder).map_err(failed)?;
    let found = wal::inspect(&folder.join(format!("{FILE}-wal")))
        .map_err(|error| failed(format!("the write-ahead log cannot be read: {error}")))?;
    let conn = connect(folder).map_err(|error| failed(explain(&error)))?;
    prepare(&conn, keyring, options.unique_ids).map_err(failed)?;
    let epoch = next_epoch(&conn).map_err(|error| failed(explain(&error)))?;
    if found.transactions > 0 || found.torn_frames > 0 {
        info!(folder = %folder.display(), batches = found.transactions, torn_frames = found.torn_frames,
            "the last process did not close the queue: its log was recovered; a torn end was never acknowledged");
    }
    let opened = load(conn, lock, State::new(epoch, options.recent_bytes), options, now);
    let opened = opened.map_err(|error| failed(explain(&error)))?;
    let count = |rows: fn(&Lane) -> u64| opened.state.lanes.iter().map(rows).sum::<u64>();
    info!(
        folder = %folder.display(),
        waiting = count(|lane| lane.ready_rows + lane.retry_rows),
        dead = count(|lane| lane.dead_rows),
        claims = opened.claims.len(),
        bytes = opened.ledger.global.load(std::sync::atomic::Ordering::Relaxed),
        "queue opened"
    );
    if !opened.begun.is_empty() {
        warn!(count = opened.begun.len(), "attempts had begun when the last process ended: dead letters, ambiguous");
    }
    Ok(opened)
}

/// One process at a time. The file says which.
fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| format!("{} cannot be written: {error}; the folder must be writable", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&file).take(20).read_to_string(&mut pid);
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            return Err(format!("another process{who} is using it; stop that one, or use another folder"));
        }
        Err(fs::TryLockError::Error(error)) => return Err(format!("the lock file cannot be locked: {error}")),
    }
    // Only for the message above.
    let _ = file.set_len(0);
    let _ = file.seek(SeekFrom::Start(0));
    let _ = write!(file, "{}", std::process::id());
    Ok(file)
}

/// A connection with everything that is set for each of them.
pub(crate) fn connect(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(database(folder), flags)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Before the first table: page size and the ability to shrink can be chosen only then.
    conn.execute_batch(&format!(
        "PRAGMA page_size={PAGE_BYTES};
         PRAGMA auto_vacuum=INCREMENTAL;
         PRAGMA journal_mode=WAL;
         PRAGMA synchronous=FULL;
         PRAGMA wal_autocheckpoint=0;
         PRAGMA cache_size=-16384;
         PRAGMA temp_store=MEMORY;
         PRAGMA trusted_schema=OFF;"
    ))?;
    Ok(conn)
}

/// A connection that only reads.
pub(crate) fn connect_reader(folder: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(folder)?;
    conn.execute_batch("PRAGMA cache_size=-4096; PRAGMA query_only=ON;")?;
    Ok(conn)
}

fn prepare(conn: &Connection, keyring: &Keyring, unique_ids: bool) -> Result<(), String> {
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let version = pragma("user_version").map_err(|error| explain(&error))?;
    let application = pragma("application_id").map_err(|error| explain(&error))?;
    match version {
        0 if application == 0 => create(conn, keyring, unique_ids).map_err(|error| explain(&error))?,
        schema::VERSION if application == schema::APPLICATION => {}
        older if application == schema::APPLICATION && (1..schema::VERSION).contains(&older) => {
            migrate(conn, older).map_err(|error| explain(&error))?;
        }
        newer if application == schema::APPLICATION && newer > schema::VERSION => {
            return Err(format!(
                "it was written by a newer version of this program (format {newer}, this one knows {}); use that version",
                schema::VERSION
            ));
        }
        _ => return Err(format!("{FILE} is not a queue of this program; use another folder")),
    }
    let sealed: Vec<u8> = conn
        .query_row("SELECT value FROM meta WHERE key = 'check'", [], |row| row.get(0))
        .map_err(|error| explain(&error))?;
    keyring.open(&check(), sealed).map(drop).map_err(|error| {
        format!("its records were sealed with other keys ({error}); restore the key file that belongs to this folder")
    })
}

/// Numbers of replicas begin at a random place, so that no two meet: two of a billion events each do by chance once in
/// two million times, and an event that is adopted then gets a new number. Small enough for JSON's numbers.
const FIRSTS: std::ops::Range<u64> = 1 << 41..1 << 52;

fn create(conn: &Connection, keyring: &Keyring, unique_ids: bool) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute_batch(schema::CREATE)?;
    conn.execute_batch(schema::HANDOVER)?;
    conn.execute_batch(schema::BODIES)?;
    identify(conn, unique_ids)?;
    conn.execute("INSERT INTO meta(key, value) VALUES ('check', ?1)", [keyring.seal(&check(), b"zen-mesh queue")])?;
    conn.execute_batch(&format!(
        "PRAGMA application_id={}; PRAGMA user_version={}; COMMIT",
        schema::APPLICATION,
        schema::VERSION
    ))
}

/// Brings an older folder up to date, in one transaction.
fn migrate(conn: &Connection, version: i64) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    if version < 2 {
        conn.execute_batch(schema::HANDOVER)?;
        identify(conn, false)?;
    }
    conn.execute_batch(schema::BODIES)?;
    conn.execute_batch(&format!("PRAGMA user_version={}; COMMIT", schema::VERSION))
}

/// Draws what tells this queue from others.
fn identify(conn: &Connection, unique_ids: bool) -> rusqlite::Result<()> {
    let first = if unique_ids {
        // SQLite draws from the system's generator.
        let drawn: [u8; 8] = conn.query_row("SELECT randomblob(8)", [], |row| row.get(0))?;
        FIRSTS.start + u64::from_be_bytes(drawn) % (FIRSTS.end - FIRSTS.start)
    } else {
        1
    };
    conn.execute("INSERT INTO meta(key, value) VALUES ('queue', randomblob(16)), ('first', ?1)", [int(first)]).map(drop)
}

fn own(conn: &Connection) -> rusqlite::Result<Own> {
    let queue = conn.query_row("SELECT value FROM meta WHERE key = 'queue'", [], |row| row.get(0))?;
    let first = conn.query_row("SELECT value FROM meta WHERE key = 'first'", [], |row| uint(row, 0))?;
    Ok(Own { queue, first })
}

fn check() -> Aad {
    Aad::new("zen-mesh/queue/check", &[])
}

/// Lease numbers begin above those of every earlier process: durable before the first is granted.
fn next_epoch(conn: &Connection) -> rusqlite::Result<u64> {
    let last = conn.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| uint(row, 0)).optional()?;
    let epoch = last.unwrap_or(0) + 1;
    conn.execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('epoch', ?1)", [int(epoch)])?;
    Ok(epoch)
}

fn load(conn: Connection, lock: File, mut state: State, options: &Options, now: u64) -> rusqlite::Result<Opened> {
    let own = own(&conn)?;
    let ledger = Ledger::default();
    let mut numbers = Numbers { destinations: Numbered::new(own.first > 1), ..Numbers::default() };
    for (number, key, bytes) in names(&conn, "SELECT id, key, bytes FROM webhook ORDER BY id")? {
        let namespace = ledger.namespace(&key.namespace);
        namespace.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        ledger.global.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        numbers.webhooks.add(key.clone(), number);
        state.add_webhook(key, namespace);
    }
    for (number, key, _) in names(&conn, "SELECT id, key, 0 FROM destination ORDER BY id")? {
        let account = ledger.destination(&key);
        numbers.destinations.add(key.clone(), number);
        state.add_lane(Lane::new(number, key, account));
    }
    clamp_dues(&conn, &state, now.saturating_add(millis(options.furthest_due)))?;
    count(&conn, &mut state)?;
    for number in state.lanes.iter().map(|lane| lane.number).collect::<Vec<_>>() {
        state.look(number, now);
    }
    let (journal, given_out) = Journal::load(&conn)?;
    // Adopted events keep the numbers of the queue that accepted them.
    let stored = "SELECT coalesce(max(seq), 0) FROM event WHERE seq BETWEEN ?1 AND ?2";
    let last = int(own.first.saturating_add(NUMBERS - 1));
    let stored: u64 = conn.query_row(stored, [int(own.first), last], |row| uint(row, 0))?;
    let claims = Claims::load(&conn, options.claims_per_webhook)?;
    state.counts.claims = claims.len();
    let begun = conn
        .prepare("SELECT dest, seq FROM started")?
        .query_map([], |row| Ok(crate::DeliveryId { destination: row.get(0)?, seq: uint(row, 1)? }))?
        .collect::<Result<_, _>>()?;
    let seq = given_out.max(stored).max(own.first - 1);
    Ok(Opened { lock, conn, own, state, ledger, numbers, journal, claims, seq, begun })
}

fn names(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<(u32, ObjectKey, u64)>> {
    conn.prepare(sql)?
        .query_map([], |row| {
            let key: String = row.get(1)?;
            let key = key.parse().unwrap_or_else(|_| ObjectKey::new("unknown", "unknown"));
            Ok((row.get(0)?, key, uint(row, 2)?))
        })?
        .collect()
}

/// No policy asks for more than `latest`: what lies behind it was stored under a clock that was wrong.
fn clamp_dues(conn: &Connection, state: &State, latest: u64) -> rusqlite::Result<()> {
    for lane in &state.lanes {
        conn.execute("UPDATE retry SET due = ?2 WHERE dest = ?1 AND due > ?2", params![lane.number, int(latest)])?;
    }
    Ok(())
}

fn count(conn: &Connection, state: &mut State) -> rusqlite::Result<()> {
    type Set = fn(&mut Lane, u64, u64);
    let tables: [(&str, Set); 3] = [
        ("ready", |lane, rows, last| (lane.ready_rows, lane.last) = (rows, last)),
        ("retry", |lane, rows, _| (lane.retry_rows, lane.beyond) = (rows, rows)),
        ("dead", |lane, rows, _| lane.dead_rows = rows),
    ];
    for (table, set) in tables {
        let sql = format!("SELECT dest, count(*), sum(bytes), max(seq) FROM {table} GROUP BY dest");
        let mut select = conn.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let Some(lane) = state.lane(row.get(0)?) else { continue };
            set(lane, uint(row, 1)?, uint(row, 3)?);
            lane.account.fetch_add(uint(row, 2)?, std::sync::atomic::Ordering::Relaxed);
        }
    }
    Ok(())
}

fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly};
    let hint = match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "the file is damaged: restore a copy of the folder, or move it away to start with an empty queue \
             (what waited in it is then lost; `sqlite3 queue.db .recover` may save some)"
        }
        Some(DiskFull) => "the disk is full: make room, nothing was lost",
        Some(ReadOnly | CannotOpen) => "the folder must be writable",
        _ => "see the system's log for errors of the disk",
    };
    format!("{error}; {hint}")
}
