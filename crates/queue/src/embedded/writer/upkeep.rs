//! What the writer does between batches: refills windows, folds the log, gives disk space back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::params;
use tracing::{error, info, warn};

use super::{Writer, gather};
use crate::embedded::command::Answer;
use crate::embedded::fault;
use crate::embedded::inbox::Wait;
use crate::embedded::lane::{Tries, WINDOW, Waiting};
use crate::embedded::options::Point;
use crate::embedded::sql::{int, uint};
use crate::{Fault, Health};

/// Free pages that are kept for the next events: less than this share of the file is never given back.
const KEEP_FREE_SHARE: i64 = 8;
/// Nor less than this many pages.
const KEEP_FREE_PAGES: i64 = 1024;
/// Pages given back in one step: a step must not hold up a batch.
const STEP_PAGES: i64 = 512;
/// So many bytes of large records are written between two steps of copying: at most a quarter of a segment is ever
/// copied, so that half of what comes in is more than enough.
const GATHER_BYTES: u64 = 2 * gather::STEP_BYTES;
/// The disk's room is measured after so many bytes.
const MEASURE_BYTES: u64 = 1 << 20;
/// How long nothing must happen until the log is folded and space given back.
const QUIET: Duration = Duration::from_millis(200);

/// Where upkeep stands.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// The clock's time of the last batch.
    pub now: u64,
    pub history_age: u64,
    /// Bytes written since the last checkpoint was asked for.
    unfolded: u64,
    /// Bytes written since the disk's room was last measured.
    unmeasured: u64,
    /// Bytes written beside the tables since records were last copied together.
    ungathered: u64,
    /// Something was written since the log was last folded in quiet.
    pub untidy: bool,
    /// Space is being given back, step by step.
    giving: bool,
    batches: u64,
}

impl Upkeep {
    pub(crate) fn new(now: u64, history_age: Duration) -> Self {
        let history_age = super::super::clock::millis(history_age);
        let (unfolded, unmeasured, ungathered) = (0, MEASURE_BYTES, 0);
        Self { now, history_age, unfolded, unmeasured, ungathered, untidy: true, giving: false, batches: 0 }
    }

    pub(crate) fn wait(&self) -> Wait {
        match (self.giving, self.untidy) {
            (true, _) => Wait::Not,
            (false, true) => Wait::For(QUIET),
            (false, false) => Wait::Forever,
        }
    }

    /// A batch with so many bytes of records in the tables, and beside them, was written.
    pub(crate) fn wrote(&mut self, bytes: u64, beside: u64) {
        // Index pages, history and the pages that deletions touch.
        let written = bytes + bytes / 2 + (32 << 10);
        self.unfolded += written;
        self.unmeasured += written + beside;
        self.ungathered += beside;
        self.untidy = true;
        self.batches += 1;
    }
}

impl Writer {
    /// A batch with records of these sizes was written.
    pub(super) fn wrote<I: Iterator<Item = usize>>(&mut self, sizes: impl Fn() -> I) {
        let large = super::large(&self.shared.options, sizes());
        let (mut bytes, mut beside) = (0, 0);
        for size in sizes() {
            *if size < large { &mut bytes } else { &mut beside } += size as u64;
        }
        self.upkeep.wrote(bytes, beside);
    }

    /// Reads on behind the windows of lanes.
    pub(crate) fn refill(&mut self, lanes: Vec<(u32, Option<Answer<()>>)>) {
        for (lane, answer) in lanes {
            if let Err(error) = self.refill_lane(lane) {
                warn!(%error, "failed to read which deliveries wait");
                if let Some(lane) = self.shared.state().lane(lane) {
                    lane.refilling = false;
                }
            }
            if let Some(answer) = answer {
                let _ = answer.send(());
            }
        }
    }

    fn refill_lane(&self, number: u32) -> rusqlite::Result<()> {
        let (ready_after, retries_after) = {
            let mut state = self.shared.state();
            let Some(lane) = state.lane(number) else { return Ok(()) };
            (lane.wants_ready().then_some(lane.cursor), lane.wants_retries().then_some(lane.horizon))
        };
        // Nobody else writes, so nothing moves between the reads and the merge, except leases: those are checked there.
        let ready = ready_after.map(|after| self.read_ready(number, after)).transpose()?;
        let retries = retries_after.map(|after| self.read_retries(number, after)).transpose()?;
        let mut state = self.shared.state();
        if let Some(lane) = state.lane(number) {
            lane.refilling = false;
            if let Some(rows) = ready {
                lane.refill_ready(&rows, rows.len() < WINDOW);
            }
            if let Some(rows) = retries {
                lane.refill_retries(&rows, rows.len() < WINDOW);
            }
        }
        let due = state.look(number, self.upkeep.now);
        drop(state);
        self.shared.timer.notify_one();
        if due {
            self.shared.changed();
        }
        Ok(())
    }

    fn read_ready(&self, dest: u32, after: u64) -> rusqlite::Result<Vec<Waiting>> {
        self.conn
            .prepare_cached(
                "SELECT seq, at, bytes, webhook FROM ready WHERE dest = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?
            .query_map(params![dest, int(after), int(WINDOW as u64)], |row| {
                Ok(Waiting { seq: uint(row, 0)?, at: uint(row, 1)?, bytes: row.get(2)?, webhook: row.get(3)? })
            })?
            .collect()
    }

    fn read_retries(&self, dest: u32, after: (u64, u64)) -> rusqlite::Result<Vec<(u64, Waiting, Tries)>> {
        self.conn
            .prepare_cached(
                "SELECT due, seq, at, bytes, webhook, attempts, first, lost FROM retry
                 WHERE dest = ?1 AND (due, seq) > (?2, ?3) ORDER BY due, seq LIMIT ?4",
            )?
            .query_map(params![dest, int(after.0), int(after.1), int(WINDOW as u64)], |row| {
                let waiting =
                    Waiting { seq: uint(row, 1)?, at: uint(row, 2)?, bytes: row.get(3)?, webhook: row.get(4)? };
                let first = row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned);
                Ok((uint(row, 0)?, waiting, Tries { attempts: row.get(5)?, first, lost: row.get(7)? }))
            })?
            .collect()
    }

    /// Keeps log and file small, in steps that hold up no batch.
    pub(crate) fn tend(&mut self, idle: bool) {
        if self.fault.is_some() {
            return;
        }
        if self.upkeep.unfolded > self.shared.options.wal_bytes / 4
            && let Some(checkpointer) = &self.checkpointer
        {
            checkpointer.ask();
            self.upkeep.unfolded = 0;
        }
        let frames = self.shared.wal_frames.load(Ordering::Relaxed);
        if frames * super::super::open::PAGE_BYTES > self.shared.options.wal_bytes {
            // Most of it was folded beside the commits: what is left is little, and the log begins anew.
            self.fold("PRAGMA wal_checkpoint(RESTART)");
        }
        if idle && self.upkeep.untidy {
            self.upkeep.giving = self.gather_some() | self.give_back(KEEP_FREE_PAGES).unwrap_or(false);
            if !self.upkeep.giving {
                self.fold_log();
                self.segments.borrow_mut().give_back();
                self.upkeep.untidy = false;
            }
            return;
        }
        if self.upkeep.batches.is_multiple_of(64) {
            let _ = self.give_back(KEEP_FREE_PAGES);
        }
        if self.upkeep.ungathered > GATHER_BYTES {
            self.gather_some();
            self.upkeep.ungathered = 0;
        }
    }

    /// Looks at the room that the disk has, every few MiB, and stops or resumes intake.
    pub(crate) fn measure(&mut self) {
        if self.upkeep.unmeasured < MEASURE_BYTES && !self.low {
            return;
        }
        self.upkeep.unmeasured = 0;
        let (folder, reserve) = (&self.shared.folder, self.shared.options.reserve_bytes);
        let Some(room) = fault::room(folder) else { return };
        if self.low {
            if room < reserve + reserve / 2 + self.log_bytes() {
                // What was delivered makes room, as soon as it is given back.
                self.fold_log();
                while self.give_back(0).unwrap_or(false) {}
                self.segments.borrow_mut().give_back();
                self.fold_log();
            }
            let room = fault::room(folder).unwrap_or(0);
            if room >= reserve + reserve / 2 + self.log_bytes() {
                info!(folder = %folder.display(), room, "the disk has room again");
                self.low = false;
                if self.fault.is_none() {
                    self.shared.health.send_replace(Health::Ok);
                }
            }
        } else if room < reserve + self.log_bytes() {
            error!(folder = %folder.display(), room, reserve,
                "the disk is nearly full; intake answers 503 until there is room, deliveries go on");
            self.low = true;
            self.shared.metrics.failed(Fault::DiskFull);
            self.shared.health.send_replace(Health::Failing(Fault::DiskFull));
        }
    }

    /// What folding the log may need at most.
    fn log_bytes(&self) -> u64 {
        let mut log = super::super::open::database(&self.shared.folder).into_os_string();
        log.push("-wal");
        std::fs::metadata(log).map_or(0, |log| log.len())
    }

    /// Folds the whole log into the database and empties it.
    pub(crate) fn fold_log(&self) {
        self.fold("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn fold(&self, pragma: &str) {
        self.shared.step(Point::BeforeCheckpoint);
        // A failure shows again, and is reported, when the next batch is written.
        let folded = self.conn.query_row(pragma, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        if let Ok((0, frames)) = folded {
            self.shared.wal_frames.store(u64::try_from(frames).unwrap_or(0), Ordering::Relaxed);
        }
        if pragma.contains("RESTART") {
            self.shared.wal_frames.store(0, Ordering::Relaxed);
        }
        self.shared.step(Point::AfterCheckpoint);
    }

    /// Gives some free pages back to the file system. True: there are more to give.
    fn give_back(&self, keep: i64) -> rusqlite::Result<bool> {
        let free: i64 = self.conn.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free <= keep {
            return Ok(false);
        }
        let pages: i64 = self.conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let keep = if keep == 0 { 0 } else { keep.max((pages - free) / KEEP_FREE_SHARE) + STEP_PAGES };
        if free <= keep {
            return Ok(false);
        }
        let mut step = self.conn.prepare_cached(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
        let mut rows = step.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }
}
