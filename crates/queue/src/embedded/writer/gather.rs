//! Copies what is left in segments that are nearly empty, so that their files can go.

use rusqlite::params;

use super::{Writer, begin, sync};
use crate::embedded::batch::Batch;
use crate::embedded::options::Point;
use crate::embedded::segments::{Place, is_gone};
use crate::embedded::sql::{self, int, uint};

/// About how many bytes are copied in one step, and at most how many records of how many segments: a step must not hold
/// up a batch.
pub(super) const STEP_BYTES: u64 = 1 << 20;
const STEP_RECORDS: u64 = 128;
const STEP_SEGMENTS: usize = 8;

impl Writer {
    /// Does one step. True: there is more to copy. A failure is seen, and reported, when the next batch is written.
    pub(super) fn gather_some(&mut self) -> bool {
        let segments = self.segments.borrow().sparse(STEP_SEGMENTS);
        if segments.is_empty() {
            return false;
        }
        if let Ok(bytes) = self.gather(&segments) {
            self.upkeep.wrote(4096, bytes);
            !self.segments.borrow().sparse(1).is_empty()
        } else {
            let _ = self.conn.execute_batch("ROLLBACK");
            self.segments.borrow_mut().rolled_back();
            false
        }
    }

    /// Copies records of these segments behind the newest ones. Returns how many bytes.
    fn gather(&self, from: &[u64]) -> rusqlite::Result<u64> {
        let Self { conn, shared, numbers, claims, segments, .. } = self;
        begin(conn)?;
        let batch = Batch::new(conn, &shared.keyring, numbers, claims, segments, self.seq);
        let (mut bytes, mut left) = (0, STEP_RECORDS);
        for segment in from {
            let rows: Vec<(Place, u64)> = conn
                .prepare_cached("SELECT start, length, seq FROM body WHERE segment = ?1 ORDER BY start LIMIT ?2")?
                .query_map([int(*segment), int(left)], |row| {
                    Ok((Place { segment: *segment, start: uint(row, 0)?, length: row.get(1)? }, uint(row, 2)?))
                })?
                .collect::<Result<_, _>>()?;
            for (place, seq) in rows {
                if bytes >= STEP_BYTES || left == 0 {
                    break;
                }
                bytes += u64::from(place.length);
                left -= 1;
                self.relocate(&batch, place, seq)?;
            }
        }
        sync(segments, shared)?;
        shared.step(Point::BeforeMove);
        conn.prepare_cached("COMMIT")?.execute([])?;
        shared.step(Point::Moved);
        segments.borrow_mut().committed();
        Ok(bytes)
    }

    fn relocate(&self, batch: &Batch<'_>, place: Place, seq: u64) -> rusqlite::Result<()> {
        let Self { conn, segments, .. } = self;
        let named = conn
            .prepare_cached("SELECT 1 FROM event WHERE seq = ?1 AND record = ?2")?
            .exists(params![int(seq), place.encode().as_slice()])?;
        if named {
            let read = segments.borrow().read(place);
            let record = read.map_err(|error| {
                if is_gone(&error) {
                    // Whoever asks for these records finds them damaged; nothing is copied from here any more.
                    segments.borrow_mut().is_stuck(place.segment);
                }
                sql::io(error)
            })?;
            let moved = segments.borrow_mut().append(&record).map_err(sql::io)?;
            conn.prepare_cached("UPDATE event SET record = ?2 WHERE seq = ?1")?
                .execute(params![int(seq), moved.encode().as_slice()])?;
            batch.name(moved, seq)?;
        }
        batch.free(place)
    }
}
