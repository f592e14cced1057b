//! The disk's own speed: what any durable commit in this folder must pay at least.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::histogram::Latencies;

/// Appends `bytes` and calls fdatasync, one at a time.
pub fn append_and_sync(folder: &Path, bytes: usize, time: Duration) -> anyhow::Result<Latencies> {
    let path = folder.join("reference.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let record = vec![7; bytes];
    let mut latencies = Latencies::default();
    let began = Instant::now();
    while began.elapsed() < time {
        let one = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        latencies.record(one.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}
