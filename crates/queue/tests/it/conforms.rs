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

impl Store for Folder {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Queue>> {
        Box::pin(async {
            let opened = Embedded::open(self.dir.path(), self.keyring.clone(), self.options.clone());
            opened.expect("opens") as Arc<dyn Queue>
        })
    }
}

async fn run(options: Options) {
    let only = std::env::var("CASE").ok();
    for case in cases().into_iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only))) {
        println!("{}", case.name);
        let options = Options { hold_paused_clock: true, ..options.clone() };
        let dir = tempfile::tempdir().expect("folder");
        (case.run)(Arc::new(Folder { dir, keyring: Keyring::ephemeral(), options })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn embedded_queue_conforms() {
    run(Options::default()).await;
}

/// Nothing may depend on what memory happens to remember, or on a batch's size.
#[tokio::test(start_paused = true)]
async fn conforms_with_the_smallest_bounds() {
    run(Options { recent_bytes: 0, batch_commands: 1, wal_bytes: 64 << 10, ..Options::default() }).await;
}
