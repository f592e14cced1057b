//! Files of the user: read whole, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zen_live::yaml::MAX_BYTES;
use zeroize::Zeroizing;

use crate::failure::{Context as _, Failure, Outcome};

/// Bits that let the group or others read.
const OTHERS: u32 = 0o077;

/// What is written on the command line for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How a message names it.
pub fn name(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// A file, or standard input for `-` and for none. Wiped when dropped: it may hold plaintext.
pub fn read(path: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let most = MAX_BYTES as u64 + 1;
    // Room for a common size at once; what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 20));
    let read = if is_stdin(path) {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("nothing was given to read").hint("name a file, or pipe it in"));
        }
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.context(format_args!("failed to read {}", name(path))).map_err(|failure| failure.code(2))?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{} is larger than {} MiB", name(path), MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// As [`read`], as text.
pub fn read_text(path: &Path) -> Outcome<Zeroizing<String>> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{} is not UTF-8 text", name(path))))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A file that nobody else may read: a private key.
pub fn read_private(path: &Path) -> Outcome<Zeroizing<String>> {
    if !is_stdin(path) {
        let metadata = fs::metadata(path).context(format_args!("failed to read {}", path.display()));
        let metadata = metadata.map_err(|failure| failure.code(2).hint("zen lock keygen -o FILE makes a key"))?;
        let mode = metadata.mode();
        if metadata.is_file() && mode & OTHERS != 0 {
            let failure = Failure::usage(format!("others may read {} (mode {:04o})", path.display(), mode & 0o7777));
            return Err(failure
                .hint(format!("chmod 600 {0}, and replace the key if somebody may have read it", path.display())));
        }
    }
    read_text(path)
}

/// A new file of this mode; an error when it exists.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
        let failure = Failure::new(format!("failed to write {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure.hint("a file is never overwritten here; name another one"),
            _ => failure,
        }
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context(format_args!("failed to write {}", path.display()))
}

/// Puts a text into the place of a file, with the mode that it has. Never half of it.
pub fn replace(path: &Path, text: &str) -> Outcome {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&target).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut new = tempfile::Builder::new().prefix(".zen-lock-").tempfile_in(folder)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        new.persist(&target)?;
        Ok(())
    };
    write().context(format_args!("failed to write {}", path.display()))
}

/// A folder that only this user can enter, in memory where the system has such a place. Removed when dropped.
pub fn private_folder() -> Outcome<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("zen-lock-").permissions(fs::Permissions::from_mode(0o700));
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { builder.tempdir_in(&memory) } else { Err(io::ErrorKind::NotFound.into()) };
    made.or_else(|_| builder.tempdir()).context("failed to make a private folder")
}
