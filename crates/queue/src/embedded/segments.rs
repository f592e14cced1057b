//! Large records lie in append-only files beside the tables: `SQLite` would write each of them twice, page by page, first
//! into its log and then into its file.
//!
//! A batch's large records are appended and synced before the commit that names them, so that what the tables name is
//! always there. What they do not name, the tail of a batch that was cut off or a file without a record, is nothing: it
//! is removed or written over. A file goes when no record in it is named any more; one in which little is left is copied
//! together with others ([`Segments::sparse`]).

mod place;
mod read;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tracing::error;

pub(crate) use place::Place;
pub(crate) use read::{Records, is_gone};

use super::sql::uint;

/// One segment's file.
fn file(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016x}.seg"))
}

/// The folder of a queue's segments.
pub(crate) fn folder(queue: &Path) -> PathBuf {
    queue.join("bodies")
}

/// Less than this share of a file in use: what is left is copied elsewhere.
const SPARSE: u64 = 4;

/// The writer's view of all segments.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    /// A segment is full at this size.
    size: u64,
    current: Option<Current>,
    /// Every segment that has a file, by number.
    all: BTreeMap<u64, Segment>,
    last: u64,
    /// A file that is written over by the next segment: its blocks are there, so that syncing it costs no journal.
    spare: Option<u64>,
    /// No shorter record lies in any of them.
    shortest: u32,
    appended: Vec<Place>,
    freed: Vec<Place>,
    /// Bytes of all files, for the statistics.
    bytes: Arc<AtomicU64>,
}

/// What the tables say of a segment, as of the last commit.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// Bytes of records that are named.
    live: u64,
    /// Where the last of them ended.
    end: u64,
    /// It cannot be read: nothing is copied from it.
    stuck: bool,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Current {
    segment: u64,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// Something was appended since the last sync.
    dirty: bool,
    /// The file's name is not durable yet.
    new: bool,
}

impl Segments {
    /// Reads what the tables name and looks after the files. What is missing is reported; its records are damaged ones.
    pub(crate) fn open(queue: &Path, conn: &Connection, size: u64, bytes: Arc<AtomicU64>) -> rusqlite::Result<Self> {
        let folder = folder(queue);
        let mut all = BTreeMap::new();
        let mut shortest = u32::MAX;
        let mut select = conn.prepare(
            "SELECT segment, sum(length), max(start + length), count(*), min(length) FROM body GROUP BY segment",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (segment, live, end, records) = (uint(row, 0)?, uint(row, 1)?, uint(row, 2)?, uint(row, 3)?);
            shortest = shortest.min(row.get(4)?);
            let there = fs::metadata(file(&folder, segment)).map_or(0, |file| file.len());
            let stuck = there < end;
            if stuck {
                error!(file = %file(&folder, segment).display(), there, expected = end, records,
                    "a segment of the queue is cut or missing: the records in the rest of it are damaged");
            }
            all.insert(segment, Segment { live, end, stuck });
        }
        let last = all.last_key_value().map_or(0, |(segment, _)| *segment);
        let (current, spare, appended, freed) = (None, None, Vec::new(), Vec::new());
        let mut segments = Self { folder, size, current, all, last, spare, shortest, appended, freed, bytes };
        segments.tidy();
        segments.go_on();
        segments.measure();
        Ok(segments)
    }

    /// Removes files that no record lies in: they were begun by a batch that was cut off.
    fn tidy(&mut self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            let segment = number.and_then(|number| u64::from_str_radix(number, 16).ok());
            if segment.is_some_and(|segment| !self.all.contains_key(&segment)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Goes on behind the last record that is named, if there is room.
    fn go_on(&mut self) {
        let Some((&segment, Segment { end, stuck: false, .. })) = self.all.last_key_value() else { return };
        let end = *end;
        if end < self.size
            && let Ok(file) = OpenOptions::new().read(true).write(true).open(file(&self.folder, segment))
            && file.set_len(end).is_ok()
        {
            self.current = Some(Current { segment, file, end, dirty: false, new: false });
        }
    }

    /// Appends a record. It counts when the batch is committed.
    pub(crate) fn append(&mut self, sealed: &[u8]) -> io::Result<Place> {
        let length = sealed.len() as u64;
        if self.current.as_ref().is_none_or(|current| current.end > 0 && current.end + length > self.size) {
            self.begin()?;
        }
        let current = self.current.as_mut().ok_or_else(|| io::Error::other("no segment was begun"))?;
        current.dirty = true;
        current.file.write_all_at(sealed, current.end)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        let place = Place { segment: current.segment, start: current.end, length };
        current.end += u64::from(length);
        self.shortest = self.shortest.min(length);
        self.appended.push(place);
        Ok(place)
    }

    /// Whether a record of this sealed length may lie in a segment.
    pub(crate) fn may_hold(&self, length: usize) -> bool {
        length >= self.shortest as usize
    }

    /// Begins the next segment. Its name is durable with the next sync.
    fn begin(&mut self) -> io::Result<()> {
        self.sync()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let segment = self.last + 1;
        let path = file(&self.folder, segment);
        if let Some(spare) = self.spare.take() {
            fs::rename(file(&self.folder, spare), &path)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        self.last = segment;
        self.all.insert(segment, Segment::default());
        self.current = Some(Current { segment, file, end: 0, dirty: false, new: true });
        Ok(())
    }

    /// Makes durable what was appended: before the commit that names it.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|current| current.dirty) else { return Ok(()) };
        current.file.sync_data()?;
        if current.new {
            File::open(&self.folder)?.sync_all()?;
            if let Some(queue) = self.folder.parent() {
                File::open(queue)?.sync_all()?;
            }
        }
        (current.dirty, current.new) = (false, false);
        Ok(())
    }

    /// Whether something was appended that is not committed.
    pub(crate) fn is_dirty(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.dirty)
    }

    /// A record's row is deleted by the batch under way.
    pub(crate) fn free(&mut self, place: Place) {
        self.freed.push(place);
    }

    /// The batch was committed. Files without a record go, or wait to be written over.
    pub(crate) fn committed(&mut self) {
        if self.appended.is_empty() && self.freed.is_empty() {
            return;
        }
        for place in self.appended.drain(..) {
            let segment = self.all.entry(place.segment).or_default();
            segment.live += u64::from(place.length);
            segment.end = segment.end.max(place.end());
        }
        for place in self.freed.drain(..) {
            if let Some(segment) = self.all.get_mut(&place.segment) {
                segment.live = segment.live.saturating_sub(u64::from(place.length));
            }
        }
        self.sweep();
    }

    /// The batch failed: nothing of it was stored.
    pub(crate) fn rolled_back(&mut self) {
        self.appended.clear();
        self.freed.clear();
        if let Some(current) = &mut self.current {
            current.end = self.all.get(&current.segment).map_or(0, |segment| segment.end);
            current.dirty = false;
            // On a full disk others need the room.
            let _ = current.file.set_len(current.end);
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        if let Some(current) = &mut self.current
            && let Some(segment) = self.all.get_mut(&current.segment)
            && segment.live == 0
            && !current.dirty
        {
            // Nothing in it is named: from the beginning again, over the same blocks.
            (segment.end, current.end) = (0, 0);
        }
        let now = self.current.as_ref().map(|current| current.segment);
        let gone: Vec<u64> =
            self.all.iter().filter(|(id, segment)| segment.live == 0 && Some(**id) != now).map(|(id, _)| *id).collect();
        for segment in gone {
            let was = self.all.remove(&segment);
            if self.spare.is_none() && was.is_some_and(|was| was.end > self.size / 2 && !was.stuck) {
                self.spare = Some(segment);
            } else {
                let _ = fs::remove_file(file(&self.folder, segment));
            }
        }
        self.measure();
    }

    /// Gives back to the disk what is kept for the next records.
    pub(crate) fn give_back(&mut self) {
        if let Some(spare) = self.spare.take() {
            let _ = fs::remove_file(file(&self.folder, spare));
        }
        if let Some(current) = &self.current {
            let _ = current.file.set_len(current.end);
        }
        self.measure();
    }

    fn measure(&self) {
        let spare = if self.spare.is_some() { self.size } else { 0 };
        let used = self.all.values().map(|segment| segment.end).sum::<u64>();
        self.bytes.store(used + spare, Ordering::Relaxed);
    }

    /// Segments of which little is in use, and that are not appended to: at most `max` of them.
    pub(crate) fn sparse(&self, max: usize) -> Vec<u64> {
        let now = self.current.as_ref().map(|current| current.segment);
        let sparse = |(id, segment): &(&u64, &Segment)| {
            Some(**id) != now && !segment.stuck && segment.live * SPARSE < segment.end
        };
        self.all.iter().filter(sparse).map(|(id, _)| *id).take(max).collect()
    }

    /// Reads a record as it is stored.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        read::read(&self.folder, place)
    }

    /// The segment cannot be read; its records stay where they are.
    pub(crate) fn is_stuck(&mut self, segment: u64) {
        error!(file = %file(&self.folder, segment).display(), "a segment of the queue cannot be read");
        if let Some(segment) = self.all.get_mut(&segment) {
            segment.stuck = true;
        }
    }
}
