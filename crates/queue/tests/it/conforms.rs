//! The conformance suite on the embedded queue.

use std::sync::Arc;

use tempfile::TempDir;
use zen_queue::conformance::{Store, cases};
use zen_queue::{BoxFuture, Embedded, Options, Queue};
use zen_seal::Keyring;

struct Folder {
    dir: TempDir,
    keyring: Keyring,
    options: Options,
}

impl Folder {
    fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { dir: tempfile::tempdir().expect("folder"), keyring: Keyring::ephemeral(), options })
    }
}

impl Store for Folder {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Queue>> {
        Box::pin(async {
            let opened = Embedded::open(self.dir.path(), self.keyring.clone(), self.options.clone());
            opened.expect("opens") as Arc<dyn Queue>
        })
    }

    fn another(&self) -> Arc<dyn Store> {
        Self::new(self.options.clone())
    }
}

async fn run(options: Options) {
    let only = std::env::var("CASE").ok();
    for case in cases().into_iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only))) {
        if case.name == "a_delivery_id_outlives_the_move" && !options.unique_ids {
            continue;
        }
        println!("{}", case.name);
        (case.run)(Folder::new(Options { hold_paused_clock: true, ..options.clone() })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn embedded_queue_conforms() {
    run(Options::default()).await;
}

/// As one of several replicas.
#[tokio::test(start_paused = true)]
async fn conforms_with_unique_ids() {
    run(Options { unique_ids: true, ..Options::default() }).await;
}

/// Nothing may depend on what memory happens to remember, or on a batch's size.
#[tokio::test(start_paused = true)]
async fn conforms_with_the_smallest_bounds() {
    run(Options { recent_bytes: 0, batch_commands: 1, wal_bytes: 64 << 10, ..Options::default() }).await;
}

/// Every record beside the tables, in segments of a few.
#[tokio::test(start_paused = true)]
async fn conforms_with_every_record_in_a_segment() {
    let segments = Options { large_record_bytes: 1, large_batch_bytes: 1, segment_bytes: 2000, ..Options::default() };
    run(Options { recent_bytes: 0, ..segments }).await;
}
