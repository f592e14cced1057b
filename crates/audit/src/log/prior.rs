//! What earlier processes left in the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::folder;
use crate::head::Head;
use crate::record::Record;

/// The file whose lock says that somebody uses the folder.
const LOCK: &str = "lock";

/// What was found.
pub(super) struct Prior {
    /// Held as long as the folder is used.
    pub(super) lock: Lock,
    /// Where the last chain ends.
    pub(super) after: Option<Head>,
    /// What there is to say about it.
    pub(super) records: Vec<Record>,
    /// Size of all files.
    pub(super) bytes: u64,
}

/// The folder is ours until this is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while a process that is being started has a copy of the descriptor.
        let _ = self.0.unlock();
    }
}

/// Takes the folder, reads how the chains in it end, and cuts off what is half written. An entry that was cut was never
/// acknowledged: receipts wait for the sync.
pub(super) fn look(root: &Path) -> io::Result<Prior> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(root.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process uses the folder"));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut prior = Prior { lock: Lock(lock), after: None, records: Vec::new(), bytes: 0 };
    for chain in folder::chains(root)? {
        let tail = folder::tail(&chain.path)?;
        if tail.damage.is_none() {
            folder::cut(&chain.path, tail.torn)?;
        }
        prior.records.extend(tail.record("", &chain.chain));
        prior.bytes += folder::segments(&chain.path)?.iter().map(|segment| segment.bytes).sum::<u64>();
        if tail.head.is_some() {
            prior.after = tail.head;
        }
    }
    Ok(prior)
}
