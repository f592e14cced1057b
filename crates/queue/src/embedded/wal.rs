//! What a crash left in SQLite's write-ahead log, read before SQLite recovers it, so that start-up can report it.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whole transactions, which recovery keeps.
    pub transactions: u64,
    /// Frames behind the last whole transaction, of the same generation: a batch that was cut off before it was
    /// durable, so that nobody was told of it. Recovery discards them.
    pub torn_frames: u64,
}

/// Reads a log file; a missing one is empty.
pub fn inspect(path: &Path) -> io::Result<Found> {
    match File::open(path) {
        Ok(file) => scan(BufReader::with_capacity(1 << 20, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::default()),
        Err(error) => Err(error),
    }
}

/// Reads a log from its beginning. Any bytes are taken; what does not belong together ends the scan.
pub fn scan(mut log: impl Read) -> io::Result<Found> {
    let mut found = Found::default();
    let mut header = [0; 32];
    if !fill(&mut log, &mut header)? {
        return Ok(found);
    }
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Ok(found),
    };
    let page = word(&header, 8) as usize;
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24), word(&header, 28)) || !(512..=65536).contains(&page) || !page.is_power_of_two() {
        return Ok(found);
    }
    let mut frame = vec![0; 24 + page];
    let mut valid = true;
    loop {
        // A frame that the file's end cuts off is torn too, if its head says that it is of this generation.
        let got = fill_some(&mut log, &mut frame)?;
        if got < 24 || frame[8..16] != header[16..24] {
            return Ok(found);
        }
        if valid && got == frame.len() {
            sum = checksum(checksum(sum, &frame[..8], big_endian), &frame[24..], big_endian);
            valid = sum == (word(&frame, 16), word(&frame, 20));
        } else {
            valid = false;
        }
        if valid && word(&frame, 4) != 0 {
            found = Found { transactions: found.transactions + 1, torn_frames: 0 };
        } else {
            found.torn_frames += 1;
        }
        if got < frame.len() {
            return Ok(found);
        }
    }
}

fn checksum((mut a, mut b): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = |bytes: &[u8]| {
        let word = bytes.first_chunk().copied().unwrap_or_default();
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(read(pair)).wrapping_add(b);
        b = b.wrapping_add(read(&pair[4..])).wrapping_add(a);
    }
    (a, b)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_be_bytes(*word))
}

fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    Ok(fill_some(log, buffer)? == buffer.len())
}

fn fill_some(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match log.read(&mut buffer[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    fn log() -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("db");
        let conn = Connection::open(&path).expect("opens");
        conn.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);").expect("set up");
        for _ in 0..5 {
            conn.execute("INSERT INTO t VALUES (zeroblob(9000))", []).expect("inserts");
        }
        (std::fs::read(folder.path().join("db-wal")).expect("a log"), 6)
    }

    #[test]
    fn whole_transactions_are_counted_and_a_cut_one_is_torn() {
        let (log, transactions) = log();
        assert_eq!(scan(&log[..]).expect("reads"), Found { transactions, torn_frames: 0 });
        let cut = scan(&log[..log.len() - 10]).expect("reads");
        assert_eq!(cut.transactions, transactions - 1);
        assert!(cut.torn_frames > 0, "{cut:?}");
        let mut flipped = log.clone();
        let at = flipped.len() - 100;
        flipped[at] ^= 1;
        assert_eq!(scan(&flipped[..]).expect("reads"), cut);
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_scan(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            scan(&bytes[..]).expect("total");
        }
    }
}
