//! The user's cache folder: what was built once serves every later clone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};

/// `$XDG_CACHE_HOME/zen-mesh`, else `~/.cache/zen-mesh`.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = zen_charts::cache().context("neither XDG_CACHE_HOME nor HOME is set")?;
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// Makes what `inputs` describe unless a run before this one finished it and all of `made` is still there.
///
/// `target/.stamp-NAME` holds the hash of the inputs; it is written last, so that an interrupted build is built again.
pub fn once(
    target: &Path,
    name: &str,
    inputs: &[&[u8]],
    made: &[&Path],
    build: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let hash = hash(inputs);
    let stamp = target.join(format!(".stamp-{name}"));
    let is_there = made.iter().all(|made| made.exists());
    if is_there && fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return Ok(());
    }
    fs::create_dir_all(target).with_context(|| format!("failed to make {}", target.display()))?;
    build()?;
    fs::write(&stamp, hash).with_context(|| format!("failed to write {}", stamp.display()))
}

/// SHA-256 over the inputs, hexadecimal.
pub fn hash(inputs: &[&[u8]]) -> String {
    hex::encode(digest(&SHA256, &inputs.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_or_is_gone_is_made_again() {
        let folder = tempfile::tempdir().expect("room");
        let program = folder.path().join("etcd");
        let made = |inputs: &[u8]| {
            let mut made = false;
            let build = || {
                made = true;
                fs::write(&program, inputs).map_err(anyhow::Error::from)
            };
            once(folder.path(), "etcd", &[inputs], &[&program], build).expect("made");
            made
        };
        assert!(made(b"1") && !made(b"1"), "once");
        assert!(made(b"2"), "another version");
        fs::remove_file(&program).expect("there");
        assert!(made(b"2"), "the stamp alone is no program");
    }
}
