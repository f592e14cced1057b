//! Folders of manifests through reader, compiler and watcher.

mod check;
mod cluster;
mod examples;
mod manifests;
mod reader;
mod reasons;
mod reload;
mod zen_locks;

use std::path::Path;

use zen_live::{Finding, Overrides};

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        write(dir.path(), path, text);
    }
    dir
}

/// Writes one file, its folders included.
pub(crate) fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("beneath the folder")).expect("creates folders");
    std::fs::write(path, text).expect("writes");
}

/// The findings of a folder with these files.
pub(crate) fn check(files: &[(&str, &str)]) -> Vec<Finding> {
    let dir = folder(files);
    zen_live::check(dir.path(), &Overrides::new()).expect("the folder can be read")
}
