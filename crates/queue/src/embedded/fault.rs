//! What an error of SQLite or of the file system means for the queue.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rusqlite::ErrorCode;

use crate::Fault;

/// The fault behind an error of the store.
pub(crate) fn of(error: &rusqlite::Error, folder: &Path) -> Fault {
    let failure = match error {
        rusqlite::Error::SqliteFailure(failure, _) => failure,
        rusqlite::Error::ToSqlConversionFailure(error) => {
            return error.downcast_ref().map_or(Fault::Io, of_io);
        }
        _ => return Fault::Io,
    };
    match failure.code {
        ErrorCode::DiskFull => Fault::DiskFull,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Fault::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Fault::Corrupt,
        // SQLite says the same for many causes (a shared-memory file that cannot grow on a full disk): ask the disk.
        _ => write_probe(folder).err().map_or(Fault::Io, |error| of_io(&error)),
    }
}

/// The fault behind an error of the file system.
pub(crate) fn of_io(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Fault::ReadOnly,
        _ => Fault::Io,
    }
}

/// Room that unprivileged processes have on the folder's disk; none when the system does not say.
pub(crate) fn room(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Room that a recovering disk must have before commits are tried again.
const PROBE_BYTES: usize = 1 << 20;

/// Writes and syncs a file in the folder, and removes it.
pub(crate) fn write_probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_data()
    });
    let _ = fs::remove_file(&path);
    written
}
