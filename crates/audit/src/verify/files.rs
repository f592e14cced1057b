//! Verification of files and folders.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Lenience, Place, Report, Verifier};
use crate::Entry;
use crate::entry::MAX_LINE;
use crate::folder;
use crate::head::Head;

/// Files cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to verify.
    #[error("failed to find an entry in {0}")]
    Nothing(String),
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Read { path: path.clone(), source }
}

/// The files that these mean: a file itself, a folder all chains below it. Files of a chain come in its order.
///
/// # Errors
///
/// When one cannot be read, or a folder holds no chain.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !fs::metadata(path).map_err(failed(path))?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        // The folder of one chain is a folder too.
        let mut add = |folder: &Path| -> Result<(), Error> {
            let segments = folder::segments(folder).map_err(failed(folder))?;
            files.extend(segments.into_iter().map(|segment| segment.path));
            Ok(())
        };
        add(path)?;
        for chain in folder::chains(path).map_err(failed(path))? {
            add(&chain.path)?;
        }
        if files.len() == before {
            return Err(Error::Nothing(path.display().to_string()));
        }
    }
    Ok(files)
}

/// Verifies files against each other and against anchored heads. Reads them twice: what they vouch for has to be known
/// before the first entry is compared.
///
/// # Errors
///
/// When a file cannot be read. What is wrong in it is no error: it is in the report.
pub fn verify(files: &[PathBuf], anchors: &[Head], lenience: Lenience) -> Result<Report, Error> {
    let mut verifier = Verifier::new(lenience);
    for anchor in anchors {
        verifier.anchor(anchor.clone());
    }
    for file in files {
        lines(file, |_, line, _| {
            if let Ok(entry) = Entry::parse(line) {
                verifier.hear(&entry);
            }
        })?;
    }
    let mut any = false;
    for file in files {
        let path: Arc<Path> = Arc::from(file.as_path());
        lines(file, |number, line, whole| {
            any = true;
            let place = Place { file: Arc::clone(&path), line: number };
            if whole {
                verifier.line(place, line);
            } else {
                verifier.torn(&place);
            }
        })?;
    }
    if any {
        Ok(verifier.finish())
    } else {
        Err(Error::Nothing(files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")))
    }
}

/// The entries of files, in their order, whatever [`verify`] would find about them. What is no entry is left out.
///
/// # Errors
///
/// When a file cannot be read.
pub fn entries(files: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for file in files {
        lines(file, |_, line, whole| entries.extend(Entry::parse(line).ok().filter(|_| whole)))?;
    }
    Ok(entries)
}

/// Calls `each` with number, content and whether it is whole, of each line. A line that is longer than any entry is given as
/// far as that can be seen.
///
/// # Errors
///
/// When the file cannot be read.
pub fn lines(file: &Path, mut each: impl FnMut(u64, &[u8], bool)) -> Result<(), Error> {
    let mut reader = BufReader::new(File::open(file).map_err(failed(file))?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = MAX_LINE as u64 + 2;
        if (&mut reader).take(most).read_until(b'\n', &mut line).map_err(failed(file))? == 0 {
            break;
        }
        let ended = line.pop_if(|last| *last == b'\n').is_some();
        let mut whole = ended;
        if !ended && line.len() > MAX_LINE {
            // Too long to be an entry, whatever its rest is.
            whole = true;
            reader.skip_until(b'\n').map_err(failed(file))?;
        }
        each(number, &line, whole);
    }
    Ok(())
}
