//! How chains lie on a disk: a folder for each chain, in it files named by the number of their first entry.
//!
//! A file ends where the last durable entry ends, or in what a killed process left half written ([`Tail::torn`]).

mod append;
mod tail;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use append::{Appender, Point, Steps};
pub use tail::{Tail, last_entry, tail};

use crate::names::ChainId;

/// The ending of the files: JSON lines.
const EXTENSION: &str = "jsonl";
/// Folders below folders are looked into this deep: `<component>/<instance>/<chain>` has three.
const DEPTH: usize = 4;

/// One file of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first entry.
    pub first: u64,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A chain's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFolder {
    /// The chain that its name says.
    pub chain: ChainId,
    /// Where it lies.
    pub path: PathBuf,
}

/// The name of the file that begins with this entry.
pub fn file_name(first: u64) -> String {
    format!("{first:020}.{EXTENSION}")
}

/// The files of a chain in their order; none when there is no such folder.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in read_dir(folder)? {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let Some(first) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) else { continue };
        let bytes = entry.metadata()?.len();
        found.push(Segment { first, path, bytes });
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// The chains below a folder, those that began first first.
///
/// # Errors
///
/// When a folder cannot be read.
pub fn chains(root: &Path) -> io::Result<Vec<ChainFolder>> {
    let mut found = Vec::new();
    collect(root, DEPTH, &mut found)?;
    found.sort_by(|a, b| (&a.chain, &a.path).cmp(&(&b.chain, &b.path)));
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<ChainFolder>) -> io::Result<()> {
    for entry in read_dir(folder)? {
        if depth == 0 || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        let chain = entry.file_name().to_str().and_then(|name| name.parse().ok());
        match chain {
            Some(chain) if !segments(&path)?.is_empty() => found.push(ChainFolder { chain, path }),
            _ => collect(&path, depth - 1, found)?,
        }
    }
    Ok(())
}

/// What is in a folder; nothing when it does not exist.
fn read_dir(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Takes so many bytes from the end of a chain: what [`Tail::torn`] says. Nothing of it was acknowledged, for receipts wait
/// for the sync.
///
/// # Errors
///
/// When its files cannot be read or written.
pub fn cut(chain: &Path, mut bytes: u64) -> io::Result<()> {
    for segment in segments(chain)?.into_iter().rev() {
        if bytes == 0 {
            break;
        }
        let cut = bytes.min(segment.bytes);
        bytes -= cut;
        Appender::open(Segment { bytes: segment.bytes - cut, ..segment }, None)?;
    }
    Ok(())
}

/// Removes a file of a chain, and the folder with the last one.
///
/// # Errors
///
/// When it cannot be removed.
pub fn remove(segment: &Segment) -> io::Result<()> {
    fs::remove_file(&segment.path)?;
    if let Some(folder) = segment.path.parent() {
        // Fails while there are others in it.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}
