//! Wakes up when something in the folder changed, by the system's notifications where they work and by looking again
//! where they do not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode};
use tokio::sync::Notify;

/// Events within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often to look where notifications failed (no descriptors, a file system without them).
const POLL: Duration = Duration::from_secs(1);
/// How often to look where they work: links may lead to places that nobody watches.
const NET: Duration = Duration::from_secs(30);

/// Watches a set of folders, none of them recursively: a state folder inside would wake it at every commit.
pub(crate) struct Watcher {
    inner: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Signal {
    /// Keeps one permit, so that any number of events is one wake-up and none is lost between two waits.
    changed: Notify,
    failed: AtomicBool,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        let signal = Arc::new(Signal::default());
        let sender = Arc::clone(&signal);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            // Reading the files is an event too, and must not wake the reader.
            Ok(event) if is_reading(event.kind) => {}
            Ok(_) => sender.changed.notify_one(),
            Err(_) => {
                sender.failed.store(true, Ordering::Relaxed);
                sender.changed.notify_one();
            }
        });
        if let Err(error) = &inner {
            tracing::warn!(%error, "changes of the folder are not notified; looking every second instead");
        }
        Self { inner: inner.ok(), folders: BTreeSet::new(), signal }
    }

    /// Watches exactly these from now on. Returns whether some were not watched before: what happened in them meanwhile
    /// went unseen.
    pub(crate) fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let mut new = false;
        let Some(inner) = &mut self.inner else { return false };
        for gone in self.folders.difference(folders) {
            // The system forgets deleted folders by itself.
            let _ = notify::Watcher::unwatch(inner, gone);
        }
        for folder in folders {
            // Again for the known ones: a link may lead elsewhere now.
            match notify::Watcher::watch(inner, folder, RecursiveMode::NonRecursive) {
                Ok(()) => new |= !self.folders.contains(folder),
                Err(error) => {
                    if !self.signal.failed.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "a folder cannot be watched; looking every second instead");
                    }
                }
            }
        }
        self.folders.clone_from(folders);
        new
    }

    /// Returns when something may have changed, or after `again`.
    pub(crate) async fn wait(&self, again: Option<Duration>) {
        let works = self.inner.is_some() && !self.signal.failed.load(Ordering::Relaxed);
        let limit = if works { NET } else { POLL };
        let limit = again.map_or(limit, |again| again.min(limit));
        if tokio::time::timeout(limit, self.signal.changed.notified()).await.is_ok() {
            tokio::time::sleep(DEBOUNCE).await;
        }
    }
}

const fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}
