//! The private keys: a folder of `age-keygen` files, from a mounted Secret, a file or a CSI volume (Z-06).
//!
//! The file with the greatest name is the newest key. The folder is looked at again and again, because mounts are exchanged
//! while the process runs; a folder that cannot be used leaves the keys in force that were, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use zen_lock::{Identity, IdentityError, Keyring, Recipient};
use zen_model::Secret;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// An identity file has some hundred bytes.
const LARGEST: u64 = 64 << 10;

/// The keys cannot be loaded. No message repeats any of a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no `*.txt` in the folder.
    #[error("{0} holds no identity file (*.txt)")]
    Empty(PathBuf),
    /// Larger than identity files are.
    #[error("{0} is too large for an identity file")]
    TooLarge(PathBuf),
    /// A file is no identity file.
    #[error("{path}: {reason}")]
    Identity {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: IdentityError,
    },
}

/// The keys in force, and notice of each change. Clones share them.
#[derive(Clone, Debug)]
pub struct Custody(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    keys: ArcSwap<Keys>,
    changed: watch::Sender<u64>,
}

/// Keys as they were loaded at one time.
#[derive(Debug, Default)]
pub struct Keys {
    /// All of them, the newest first.
    pub ring: Keyring,
    /// Each of them alone, in the same order.
    pub each: Vec<(Recipient, Keyring)>,
    /// Rises with every change; 0 before the first keys.
    pub generation: u64,
}

impl Keys {
    /// The public keys as they are published: one a line, the newest first.
    pub fn published(&self) -> String {
        self.each.iter().fold(String::new(), |text, (key, _)| text + key.as_str() + "\n")
    }
}

impl Custody {
    /// No key is loaded yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let (keys, changed) = (ArcSwap::default(), watch::Sender::new(0));
        Self(Arc::new(Inner { folder: folder.into(), keys, changed }))
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.0.keys.load_full()
    }

    /// The generation in force, and notice of the next.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Loads the folder as it is now. What is in force stays when it cannot be used.
    pub fn load(&self) -> Result<(), Error> {
        let identities = read(&self.0.folder)?;
        let generation = self.keys().generation + 1;
        let each = identities.iter().map(|one| (one.recipient(), Keyring::new(vec![one.clone()]))).collect();
        self.0.keys.store(Arc::new(Keys { ring: Keyring::new(identities), each, generation }));
        self.0.changed.send_replace(generation);
        Ok(())
    }

    /// Loads the folder whenever it changed, for as long as it is polled.
    pub async fn follow(&self) {
        let mut seen = None;
        loop {
            let now = fingerprint(&self.0.folder);
            if seen.as_ref() != Some(&now) {
                match self.load() {
                    Ok(()) => {
                        let recipients: Vec<_> =
                            self.keys().ring.recipients().iter().map(ToString::to_string).collect();
                        tracing::info!(recipients = recipients.join(" "), "age identities loaded, the newest first");
                    }
                    Err(error) => {
                        let in_force = self.keys().each.len();
                        tracing::error!(%error, in_force, "the age identities cannot be loaded; those in force stay");
                    }
                }
                seen = Some(now);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The identity files, the greatest name first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Names that begin with a dot are the mount's own.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}

fn read(folder: &Path) -> Result<Vec<Identity>, Error> {
    let mut identities: Vec<Identity> = Vec::new();
    for path in files(folder)? {
        let failed = |source| Error::Read { path: path.clone(), source };
        if std::fs::metadata(&path).map_err(failed)?.len() > LARGEST {
            return Err(Error::TooLarge(path));
        }
        let content = Secret::new(std::fs::read(&path).map_err(failed)?);
        let malformed = |reason| Error::Identity { path: path.clone(), reason };
        let text =
            std::str::from_utf8(content.expose()).map_err(|_| malformed(IdentityError::Malformed { line: 1 }))?;
        for identity in Identity::parse_file(text).map_err(malformed)? {
            // The same key in two files counts where it is newer.
            if identities.iter().all(|other| other.recipient() != identity.recipient()) {
                identities.push(identity);
            }
        }
    }
    if identities.is_empty() { Err(Error::Empty(folder.to_owned())) } else { Ok(identities) }
}

/// What tells that a folder changed, without reading a key.
fn fingerprint(folder: &Path) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files(folder).unwrap_or_default().into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, identity: &Identity) {
        let file = identity.to_file("2026-01-02T03:04:05Z".parse().expect("a time"));
        std::fs::write(folder.join(name), file.expose()).expect("written");
    }

    /// Z-06: several keys, the newest first, and what cannot be read changes nothing.
    #[test]
    fn the_greatest_name_is_the_newest_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let custody = Custody::new(folder.path());
        assert!(matches!(custody.load(), Err(Error::Empty(_))));
        let (old, new) = (Identity::generate(), Identity::generate());
        put(folder.path(), "2026-01.txt", &old);
        put(folder.path(), "2026-02.txt", &new);
        put(folder.path(), "notes.md", &new);
        custody.load().expect("loads");
        assert_eq!(custody.keys().ring.recipients(), [new.recipient(), old.recipient()]);
        std::fs::write(folder.path().join("2026-03.txt"), "AGE-SECRET-KEY-1NONSENSE").expect("written");
        let error = custody.load().expect_err("refused").to_string();
        assert!(error.contains("2026-03.txt") && !error.contains("NONSENSE"), "{error}");
        assert_eq!((custody.keys().each.len(), custody.keys().generation), (2, 1));
        std::fs::remove_file(folder.path().join("2026-03.txt")).expect("removed");
        std::fs::remove_file(folder.path().join("2026-01.txt")).expect("removed");
        custody.load().expect("loads");
        assert_eq!((custody.keys().ring.recipients(), *custody.changes().borrow()), (vec![new.recipient()], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_while_it_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let custody = Custody::new(folder.path());
        let mut changes = custody.changes();
        let following = custody.clone();
        let task = tokio::spawn(async move { following.follow().await });
        tokio::time::sleep(LOOK).await;
        put(folder.path(), "a.txt", &Identity::generate());
        changes.changed().await.expect("loaded");
        put(folder.path(), "b.txt", &Identity::generate());
        changes.changed().await.expect("loaded");
        assert_eq!(custody.keys().each.len(), 2);
        task.abort();
    }
}
