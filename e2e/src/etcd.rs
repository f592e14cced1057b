//! What etcd has written: all keys and all revisions, as raw bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Those of `needles` that stand anywhere in the files of this data folder.
pub fn found<'a>(folder: &Path, needles: &[&'a [u8]]) -> Result<Vec<&'a [u8]>> {
    let mut found = Vec::new();
    for file in files(folder)? {
        let content = std::fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        for needle in needles {
            if memchr::memmem::find(&content, needle).is_some() && !found.contains(needle) {
                found.push(*needle);
            }
        }
    }
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
