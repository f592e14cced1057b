//! Sources that do not stop while something is changed beneath them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::objects::HOOK;
use super::source::Source;
use super::stage::roots;

/// What came of their requests.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    /// Why, when, and after how many requests.
    failed: Mutex<Vec<String>>,
    end: AtomicBool,
}

/// Running sources.
pub struct Load {
    counts: Arc<Counts>,
    sources: Vec<JoinHandle<()>>,
}

impl Load {
    /// A source for each of these intakes. What it trusts stands in this file.
    pub fn start(intakes: &[SocketAddr], trust: &Path) -> Self {
        let counts = Arc::<Counts>::default();
        let source = |(number, intake): (usize, &SocketAddr)| {
            tokio::spawn(Arc::clone(&counts).send(*intake, trust.to_owned(), number))
        };
        let sources = intakes.iter().enumerate().map(source).collect();
        Self { counts, sources }
    }

    /// How many requests there were so far.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Stops; how many requests there were. Not one failed.
    pub async fn end(self) -> usize {
        self.counts.end.store(true, Ordering::Relaxed);
        for source in self.sources {
            source.await.unwrap();
        }
        let sent = self.counts.sent.load(Ordering::Relaxed);
        let failed = std::mem::take(&mut *self.counts.failed.lock().unwrap());
        eprintln!("{sent} requests, {} failed", failed.len());
        assert!(failed.is_empty(), "of {sent} requests: {failed:#?}");
        usize::try_from(sent).unwrap()
    }
}

impl Counts {
    /// Connects anew every few requests.
    async fn send(self: Arc<Self>, address: SocketAddr, trust: PathBuf, number: usize) {
        let mut count = 0_u64;
        let trusted = || roots(&std::fs::read_to_string(&trust).unwrap());
        let mut source = Source::connect(address, trusted()).await;
        while !self.end.load(Ordering::Relaxed) {
            if count.is_multiple_of(10) {
                match Source::reach(address, trusted()).await {
                    Ok(fresh) => source = fresh,
                    Err(error) => self.fail(&format!("{address} took no connection: {error}")),
                }
            }
            count += 1;
            let status = source.post(HOOK, &format!("{{\"id\": \"{number}-{count}\"}}")).await;
            if status != 202 {
                self.fail(&format!("{address} answered {status}"));
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn fail(&self, why: &str) {
        let sent = self.sent.load(Ordering::Relaxed);
        self.failed.lock().unwrap().push(format!("after {sent}, at {}: {why}", zen_model::Timestamp::now()));
    }
}
