//! Files that are either there as a whole or not at all, and keys that only their owner may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Error;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Owner,
    Everyone,
}

/// Creates the folder for its owner alone; one that exists keeps its mode.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| io_error("create", path, error))
}

/// The file's text; none when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// As [`read`], and refuses a file that group or others may touch. The mode is read from the open file, so that nobody
/// can exchange it between check and use.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, error)),
    };
    let mode = file.metadata().map_err(|error| io_error("read", path, error))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    io::read_to_string(file).map(Some).map_err(|error| io_error("read", path, error))
}

/// Writes beside the target, syncs, renames, syncs the folder: a crash leaves the old file or the new one.
pub(crate) fn write(path: &Path, text: &str, mode: Mode) -> Result<(), Error> {
    write_inner(path, text, mode).map_err(|error| io_error("write", path, error))
}

fn write_inner(path: &Path, text: &str, mode: Mode) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{:016x}", fastrand::u64(..)));
    let mode = match mode {
        Mode::Owner => 0o600,
        Mode::Everyone => 0o644,
    };
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // The original error says more than a failed removal would.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}
