//! Small files in the pod's in-memory volume: what a restarted container needs before the API server answers.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Writes a file that is there as a whole or not at all, for its owner alone. It need not survive a power cut: the volume
/// does not either.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // One that a killed process left may have another mode.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    fs::rename(&beside, path)
}

/// As [`write`]; a failure is logged, and concerns nothing but the next restart.
pub(crate) fn keep(path: &Path, content: &[u8]) {
    if let Err(error) = write(path, content) {
        tracing::warn!(file = %path.display(), %error, "failed to keep a file for the next start");
    }
}
