//! Folder → snapshot in effect: reads, compiles, swaps, and tells whoever asks.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use zen_compile::{Compiled, Mode, Reference, Snapshot, Verdict};
use zen_lock::Keyring;
use zen_model::ObjectReason;

use crate::folder::Folder;
use crate::watcher::Watcher;
use crate::{Error, Finding, Overrides};

/// How a folder is compiled.
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses of Services from the command line.
    pub overrides: Overrides,
    /// Who owns the objects.
    pub mode: Mode,
    /// What `ZenLock`s are opened with.
    pub keyring: Keyring,
}

impl Default for Options {
    fn default() -> Self {
        Self { overrides: Overrides::new(), mode: Mode::Standalone, keyring: Keyring::default() }
    }
}

/// A configuration that is in effect, and what is to be said about it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The snapshot's generation.
    pub generation: u64,
    /// One verdict per object, by kind and key.
    pub verdicts: Vec<Verdict>,
    /// Everything that is wrong, by file and line; in a cluster what belongs to no object with a status of its own.
    pub findings: Vec<Finding>,
    /// The Secrets and `ConfigMap`s that accepted objects name.
    pub references: Vec<Reference>,
    /// Every file could be read as it is now, or every watch is in order, so that an object which is not there was
    /// deleted. Else it may stand in a file that is bad, or have come while its watch was broken.
    pub complete: bool,
}

/// A watched folder. Dropping it ends the watch; the snapshot stays in effect.
#[derive(Debug)]
pub struct Live {
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Receiver<Arc<Published>>,
    task: AbortHandle,
}

impl Live {
    /// Reads and compiles the folder, then follows its changes. When this returns, the first configuration is in effect.
    ///
    /// # Errors
    /// The folder is missing or cannot be read. What is wrong inside it is a finding, never an error.
    pub async fn start(dir: &Path, options: Options) -> Result<Self, Error> {
        let follower = Follower {
            folder: Folder::open(dir)?.with_keyring(options.keyring.clone()),
            watcher: Watcher::new(),
            options,
            unreadable: false,
        };
        let (follower, step) = follower.step(None).await?;
        let Step { again, configured } = step?;
        let (snapshot, first) = configured.unwrap_or_default();
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let (sender, published) = watch::channel(Arc::new(first));
        let task = tokio::spawn(follower.follow(again, Arc::clone(&snapshot), sender)).abort_handle();
        Ok(Self { snapshot, published, task })
    }

    /// The snapshot in effect, for everything that serves it.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// What is in effect, and notice of each change: the snapshot is swapped first.
    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks again this often while the folder cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// The task behind [`Live`].
struct Follower {
    folder: Folder,
    watcher: Watcher,
    options: Options,
    /// The folder could not be read the last time.
    unreadable: bool,
}

/// One look at the folder.
struct Step {
    again: Option<Duration>,
    /// None where nothing changed.
    configured: Option<(Snapshot, Published)>,
}

impl Follower {
    async fn follow(
        mut self,
        mut again: Option<Duration>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        sender: watch::Sender<Arc<Published>>,
    ) {
        loop {
            self.watcher.wait(again).await;
            let was_unreadable = self.unreadable;
            let outcome = self.step(Some(snapshot.load_full())).await;
            let Ok((follower, step)) = outcome else { return };
            self = follower;
            match step {
                Ok(step) => {
                    again = step.again;
                    if let Some((next, published)) = step.configured {
                        tracing::info!(
                            generation = published.generation,
                            findings = published.findings.len(),
                            "configuration in effect"
                        );
                        snapshot.store(Arc::new(next));
                        sender.send_replace(Arc::new(published));
                    }
                }
                Err(error) => {
                    again = Some(RETRY);
                    if !was_unreadable {
                        let message = format!("{error}; the last configuration stays in effect");
                        tracing::warn!(message);
                        let mut published = Published::clone(&sender.borrow());
                        published.complete = false;
                        published.findings.push(Finding::new("", 0, ObjectReason::Unreadable, message));
                        sender.send_replace(Arc::new(published));
                    }
                }
            }
        }
    }

    /// Reads and compiles on a thread that may block; a large folder takes a while.
    async fn step(self, previous: Option<Arc<Snapshot>>) -> Result<(Self, Result<Step, Error>), Error> {
        let mut follower = self;
        let task = tokio::task::spawn_blocking(move || {
            let step = follower.look(previous.as_deref());
            follower.unreadable = step.is_err();
            (follower, step)
        });
        task.await.map_err(Error::Ended)
    }

    fn look(&mut self, previous: Option<&Snapshot>) -> Result<Step, Error> {
        // After an outage the findings are published again, without that of the outage.
        let mut changed = previous.is_none() || self.unreadable;
        let mut again;
        loop {
            let listing = self.folder.list()?;
            let new = self.watcher.follow(&listing.folders);
            let refresh = self.folder.refresh_from(&listing, SystemTime::now());
            changed |= refresh.changed;
            again = refresh.again;
            // Before a folder is watched its changes go unseen, so it is listed once more.
            if !new {
                break;
            }
        }
        if !changed {
            return Ok(Step { again, configured: None });
        }
        let (objects, mut findings) = self.folder.objects(&self.options.overrides);
        let Compiled { snapshot, verdicts, references, .. } =
            zen_compile::compile(&objects, previous, self.options.mode);
        findings.extend(self.folder.findings_of(&objects, &verdicts));
        findings.sort();
        findings.dedup();
        let complete = self.folder.is_complete();
        let published = Published { generation: snapshot.generation, verdicts, findings, references, complete };
        Ok(Step { again, configured: Some((snapshot, published)) })
    }
}
