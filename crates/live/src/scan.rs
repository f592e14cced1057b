//! Which files a folder of manifests has: recursive, hidden names left out, symbolic links followed, all of it bounded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Deepest folder below the root.
const MAX_DEPTH: usize = 16;
/// Most manifest files and folders.
const MAX_ENTRIES: usize = 50_000;

/// Size, time and identity of a file: as long as they are the same, so is its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) len: u64,
    pub(crate) modified: Option<SystemTime>,
    inode: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Manifest files by path relative to the root.
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// Folders that were looked into, the root included: these are watched.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// Folders and files that could not be looked at, relative to the root.
    pub(crate) unreadable: BTreeMap<PathBuf, io::Error>,
    /// There was more than [`MAX_ENTRIES`] or deeper than [`MAX_DEPTH`].
    pub(crate) cut: bool,
    seen: HashSet<PathBuf>,
}

/// Lists the root; an error only where the root itself cannot be read.
pub(crate) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    folder(root, Path::new(""), 0, &mut listing)?;
    Ok(listing)
}

fn folder(root: &Path, relative: &Path, depth: usize, listing: &mut Listing) -> io::Result<()> {
    let path = root.join(relative);
    // Links may lead in circles; the resolved path tells.
    if !listing.seen.insert(fs::canonicalize(&path)?) {
        return Ok(());
    }
    if depth > MAX_DEPTH {
        listing.cut = true;
        return Ok(());
    }
    let entries = fs::read_dir(&path)?;
    listing.folders.insert(path);
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // A mounted ConfigMap has its files in `..2026_…`, linked from names that are not hidden.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if listing.files.len() + listing.folders.len() >= MAX_ENTRIES {
            listing.cut = true;
            return Ok(());
        }
        let relative = relative.join(&name);
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // Deleted meanwhile, or a link that leads nowhere: there is no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                if is_manifest(&relative) {
                    listing.unreadable.insert(relative, error);
                }
                continue;
            }
        };
        if metadata.is_dir() {
            if let Err(error) = folder(root, &relative, depth + 1, listing) {
                listing.unreadable.insert(relative, error);
            }
        } else if metadata.is_file() && is_manifest(&relative) {
            listing.files.insert(relative, stamp(&metadata));
        }
    }
    Ok(())
}

/// A kustomization lies among manifests and is none: it may leave out its kind.
fn is_manifest(path: &Path) -> bool {
    let known = |extension: &OsStr| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known) && path.file_stem() != Some(OsStr::new("kustomization"))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Stamp { len: metadata.len(), modified: metadata.modified().ok(), inode }
}
