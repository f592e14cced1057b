//! Records of segments, on the reading threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zen_seal::Keyring;

use super::{Place, file};

/// What reads and opens records. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub keyring: Keyring,
    folder: Arc<PathBuf>,
}

impl Records {
    /// Those of the queue in this folder.
    pub(crate) fn new(keyring: Keyring, queue: &Path) -> Self {
        Self { keyring, folder: Arc::new(super::folder(queue)) }
    }

    /// The bytes at a place. The writer may have moved the record meanwhile: then they are others, or none.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        read(&self.folder, place)
    }
}

/// Reads what lies at a place.
pub(super) fn read(folder: &Path, place: Place) -> io::Result<Vec<u8>> {
    let file = File::open(file(folder, place.segment))?;
    // Before so much memory is asked for: the place may be damaged too.
    if file.metadata()?.len() < place.end() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; place.length as usize];
    file.read_exact_at(&mut bytes, place.start)?;
    Ok(bytes)
}

/// Whether the bytes are gone for good, or whether they might be read another time: without descriptors or memory.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let unreadable = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    unreadable || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}
