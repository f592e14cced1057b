//! What earlier processes left in the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use zen_model::reason::AuditReason;

use crate::folder::{self, Appender, Segment};
use crate::head::Head;
use crate::record::{Action, Record};

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
        let object = format!("Chain/{}", chain.chain);
        let end = tail.head.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(damage) = &tail.damage {
            let record = Record::new(Action::FindDamage, "", &object).reason(AuditReason::ChainDamaged.code());
            prior.records.push(record.detail("damage", damage).detail("after", &end));
        } else if tail.torn > 0 {
            cut(&chain.path, tail.torn)?;
            let record = Record::new(Action::RepairChain, "", &object).allowed().reason(AuditReason::TailTorn.code());
            prior.records.push(record.detail("bytes", &tail.torn.to_string()).detail("after", &end));
        }
        prior.bytes += folder::segments(&chain.path)?.iter().map(|segment| segment.bytes).sum::<u64>();
        if tail.head.is_some() {
            prior.after = tail.head;
        }
    }
    Ok(prior)
}

/// Takes so many bytes from the end of a chain.
pub(crate) fn cut(chain: &Path, mut bytes: u64) -> io::Result<()> {
    for segment in folder::segments(chain)?.into_iter().rev() {
        if bytes == 0 {
            break;
        }
        let cut = bytes.min(segment.bytes);
        bytes -= cut;
        Appender::open(Segment { bytes: segment.bytes - cut, ..segment }, None)?;
    }
    Ok(())
}
