//! Key files: created 0600 and whole, refused when others can read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::Error;

/// Who may read a key file beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody.
    Owner,
    /// Its group: Kubernetes gives what it mounts, and all that lies in a volume, to the pod's `fsGroup`.
    Group,
}

impl Access {
    const fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::Group => 0o007,
        }
    }
}

/// Reads a key file; none when it does not exist.
pub(crate) fn read(path: &Path, access: Access) -> Result<Option<Zeroizing<String>>, Error> {
    let failed = |source| Error::File { action: "read", path: path.display().to_string(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // The mode of the open file, not of the path: nobody can swap it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & access.forbidden() != 0 {
        return Err(Error::Exposed { path: path.display().to_string(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Creates a key file unless one exists; durable on return. Returns false when another process was first.
pub(crate) fn create(path: &Path, text: &str) -> Result<bool, Error> {
    let failed = |source| Error::File { action: "create", path: path.display().to_string(), source };
    let temporary = write_beside(path, text).map_err(failed)?;
    // A hard link fails where a rename would replace the key that another process has just made.
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => sync_folder(path).map_err(failed).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Replaces a key file in one step; durable on return.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File { action: "replace", path: path.display().to_string(), source };
    let temporary = write_beside(path, text).map_err(failed)?;
    fs::rename(&temporary, path).and_then(|()| sync_folder(path)).map_err(failed)
}

fn write_beside(path: &Path, text: &str) -> io::Result<PathBuf> {
    let mut number = [0; 8];
    crate::ring::random(&mut number);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.tmp", u64::from_be_bytes(number)));
    let temporary = path.with_file_name(name);
    if let Some(folder) = folder(path) {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| temporary)
}

fn folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path).unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
