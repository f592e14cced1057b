//! Memory and disk of a long line.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zen_queue::{NewEvent, Options, Queue};

use crate::common::{ack, lease, new, open};

/// The disk space of what was delivered is given back, while the process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_space_is_given_back() {
    const COUNT: usize = 60_000;
    let folder = tempfile::tempdir().expect("folder");
    let options = Options { history_bytes: 1 << 20, wal_bytes: 4 << 20, ..Options::default() };
    let queue = open(folder.path(), options).expect("opens");
    let mut sent = tokio::task::JoinSet::new();
    for producer in 0..64 {
        let queue = Arc::clone(&queue);
        sent.spawn(async move {
            for n in 0..COUNT / 64 {
                let new = NewEvent { claim: None, ..new(&format!("{producer}-{n}")) };
                queue.commit(new).await.expect("commits");
            }
        });
    }
    sent.join_all().await;
    let full = size(folder.path());
    assert!(full > 60 << 20, "{full}");
    loop {
        let leased = lease(&queue, 512).await;
        if leased.is_empty() {
            break;
        }
        ack(&queue, &leased).await.expect("settles");
    }
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let shrunk = async {
        while size(folder.path()) > full / 10 {
            look.tick().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), shrunk).await;
    waited.unwrap_or_else(|_| panic!("{} of {full} bytes are still there", size(folder.path())));
    queue.close().await;
}

fn size(folder: &Path) -> u64 {
    let files = ["queue.db", "queue.db-wal"].map(|name| std::fs::metadata(folder.join("queue").join(name)));
    files.into_iter().flatten().map(|file| file.len()).sum()
}
