//! The user's cache folder: what was built once serves every later clone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};

/// `$XDG_CACHE_HOME/zen-mesh`, else `~/.cache/zen-mesh`.
pub fn folder() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    let folder = base.join("zen-mesh");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// Makes what `inputs` describe unless a run before this one finished it.
///
/// `target/.stamp-NAME` holds the hash of the inputs; it is written last, so that an interrupted build is built again.
pub fn once(
    target: &Path,
    name: &str,
    inputs: &[&[u8]],
    make: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let hash = hash(inputs);
    let stamp = target.join(format!(".stamp-{name}"));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return Ok(());
    }
    fs::create_dir_all(target).with_context(|| format!("failed to make {}", target.display()))?;
    make()?;
    fs::write(&stamp, hash).with_context(|| format!("failed to write {}", stamp.display()))
}

/// SHA-256 over the inputs, hexadecimal.
pub fn hash(inputs: &[&[u8]]) -> String {
    hex::encode(digest(&SHA256, &inputs.concat()))
}
