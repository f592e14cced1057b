//! What the rows of the embedded queue cost on three stores: in each durable batch, the sealed records of 64 events of
//! 1 KiB, one entry of a destination's line for each, one row of claims, one of history; and, in steady state, reading
//! and deleting the 64 oldest. One thread, no runtime: the difference is the store's.

mod stores;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stores::{Fjall, Redb, Sqlite, Store};

/// Events in one batch.
pub const BATCH: u64 = 64;
/// A sealed record of an event with a body of 1 KiB.
pub const RECORD: usize = 1_230;

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("compare-stores"), PathBuf::from);
    let mut number = |or| args.next().and_then(|text| text.parse().ok()).unwrap_or(or);
    let waiting: u64 = number(1_000_000);
    let time = Duration::from_secs(number(5));
    let only = args.next();
    println!(
        "{:<42} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "", "events/s", "p50 ms", "p99 ms", "CPU µs", "written", "RSS MiB"
    );
    type Open = fn(&Path) -> Box<dyn Store>;
    let stores: [(&str, Open); 3] = [
        ("sqlite", |folder| Box::new(Sqlite::open(folder))),
        ("fjall", |folder| Box::new(Fjall::open(folder))),
        ("redb", |folder| Box::new(Redb::open(folder))),
    ];
    for (name, open) in stores {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let folder = folder.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("folder");
        measure(name, &folder, open, waiting, time);
        let _ = std::fs::remove_dir_all(&folder);
    }
}

fn measure(name: &str, folder: &Path, open: fn(&Path) -> Box<dyn Store>, waiting: u64, time: Duration) {
    let mut run = Run { store: open(folder), head: 0, tail: 0, bytes: vec![0; RECORD] };
    run.steps(&format!("{name}: append, empty"), time, true, false);
    while run.head < run.tail {
        run.batch(false, true);
    }
    run.steps(&format!("{name}: append + read + delete, empty"), time, true, true);
    while run.tail - run.head < waiting {
        run.batch(true, false);
    }
    println!(
        "{name}: {waiting} waiting, {} MiB of files, RSS {} MiB",
        size(folder) >> 20,
        proc("status", "VmRSS:") / 1024
    );
    run.steps(&format!("{name}: append, behind them"), time, true, false);
    let (head, tail) = (run.head, run.tail);
    drop(run);
    let began = Instant::now();
    let mut run = Run { store: open(folder), head, tail, bytes: vec![0; RECORD] };
    let mut waiting = 0;
    run.store.count(&mut waiting);
    println!("{name}: opened and {waiting} counted in {:.2} s", began.elapsed().as_secs_f64());
    run.steps(&format!("{name}: append + read + delete, behind them"), time, true, true);
    let began = Instant::now();
    let before = run.head;
    while run.head < run.tail {
        run.batch(false, true);
    }
    println!("{name}: drained at {:.0}/s", (run.head - before) as f64 / began.elapsed().as_secs_f64());
    run.store.tidy();
    println!("{name}: {} MiB of files after all are gone and it was asked to tidy up", size(folder) >> 20);
}

struct Run {
    store: Box<dyn Store>,
    /// The oldest that waits.
    head: u64,
    /// The next number.
    tail: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn batch(&mut self, append: bool, delete: bool) {
        let new = self.tail..self.tail + if append { BATCH } else { 0 };
        let old = self.head..(self.head + if delete { BATCH } else { 0 }).min(self.tail);
        // Sealed bytes do not compress.
        fastrand::fill(&mut self.bytes);
        self.store.batch(new.clone(), old.clone(), &self.bytes);
        (self.head, self.tail) = (old.end, new.end);
    }

    fn steps(&mut self, name: &str, time: Duration, append: bool, delete: bool) {
        let (began, cpu, written) = (Instant::now(), cpu(), proc("io", "write_bytes:"));
        let mut took = Vec::new();
        while began.elapsed() < time {
            let began = Instant::now();
            self.batch(append, delete);
            took.push(began.elapsed());
        }
        let seconds = began.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
        let events = took.len() as f64 * BATCH as f64;
        println!(
            "{name:<42} {:>9.0} {:>8.2} {:>8.2} {:>8.1} {:>8.0} {:>9}",
            events / seconds,
            at(50),
            at(99),
            (self::cpu() - cpu) * 1e6 / events,
            (proc("io", "write_bytes:") - written) as f64 / events,
            proc("status", "VmRSS:") / 1024
        );
    }
}

/// Keys as ranges of sequence numbers.
pub type Seqs = Range<u64>;

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    entries.sum()
}

fn proc(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok()).unwrap_or(0)
}
