//! `ZenLock` manifests as text: found, edited where they stand, and written anew.
//!
//! Manifests lie in Git and belong to people: comments, order, quoting and every other document stay byte for byte as they
//! are; only the values that change are written. What cannot be edited that way is refused, never reformatted.

mod locate;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use write::{NewManifest, SubjectRef, render};

/// The `ZenLock`s of a text.
#[derive(Clone, Debug)]
pub struct Manifests {
    text: String,
    locks: Vec<Located>,
}

/// One `ZenLock` of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where it is stated.
    pub namespace: Option<String>,
    /// The line that the document begins on, counted from 1.
    pub line: usize,
    /// Values of `spec.encryptedData`, in order.
    pub entries: Vec<Entry>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// The armoured file.
    pub armored: String,
    /// The line of the key, counted from 1.
    pub line: usize,
    /// Bytes of the value: of the scalar, or of a block scalar's lines with the `|`.
    value: Range<usize>,
    /// Bytes of the whole entry, line end included; none in flow style, where it has no lines of its own.
    lines: Option<Range<usize>>,
    /// Columns before the key.
    indent: usize,
}

/// A text that cannot be read or not be edited. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML.
    #[error("line {line}: {message}")]
    Syntax {
        /// Which line.
        line: usize,
        /// What the parser says; it quotes no value.
        message: String,
    },
    /// A value that is no text.
    #[error("line {line}: the value of {key:?} in encryptedData must be text")]
    NotText {
        /// Which line.
        line: usize,
        /// Which key.
        key: String,
    },
    /// Keys cannot be added or removed where the map stands in one line or is written with an anchor.
    #[error("line {line}: encryptedData is not written as a block, one key a line; write it so, or make a new file")]
    NotABlock {
        /// Which line.
        line: usize,
    },
    /// An edit would not have done what it should.
    #[error("line {line}: this manifest is written in a way that cannot be edited; make a new file")]
    CannotEdit {
        /// Which line.
        line: usize,
    },
}

/// What becomes of the values of one `ZenLock`: a new armoured file, or none to remove the key. Keys that are not there
/// stay as they are.
pub type Edits = BTreeMap<String, Option<String>>;

impl Manifests {
    /// Finds every `ZenLock` in a text of any number of documents of any kinds.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        Ok(Self { text: text.to_owned(), locks: locate::locate(text)? })
    }

    /// The `ZenLock`s, in order.
    pub fn locks(&self) -> &[Located] {
        &self.locks
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Edits the `ZenLock` of this index, and nothing else.
    pub fn edit(&mut self, index: usize, edits: &Edits) -> Result<(), ManifestError> {
        let Some(lock) = self.locks.get(index) else { return Ok(()) };
        let expected = expected(lock, edits);
        let text = edited(&self.text, lock, edits)?;
        // The text is only taken when reading it again gives exactly what was asked for.
        let error = ManifestError::CannotEdit { line: lock.line };
        let locks = locate::locate(&text).map_err(|_| error.clone())?;
        let others_same = locks.len() == self.locks.len()
            && self.locks.iter().zip(&locks).enumerate().all(|(at, (old, new))| {
                (&old.name, &old.namespace) == (&new.name, &new.namespace)
                    && (at == index || contents(old) == contents(new))
            });
        if !others_same || locks.get(index).map(contents) != Some(expected) {
            return Err(error);
        }
        (self.text, self.locks) = (text, locks);
        Ok(())
    }
}

fn contents(lock: &Located) -> BTreeMap<&str, &str> {
    lock.entries.iter().map(|entry| (entry.key.as_str(), entry.armored.trim_end())).collect()
}

fn expected<'a>(lock: &'a Located, edits: &'a Edits) -> BTreeMap<&'a str, &'a str> {
    let mut expected = contents(lock);
    for (key, value) in edits {
        match value {
            Some(armored) => expected.insert(key, armored.trim_end()),
            None => expected.remove(key.as_str()),
        };
    }
    expected
}

fn edited(text: &str, lock: &Located, edits: &Edits) -> Result<String, ManifestError> {
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let known: BTreeSet<&str> = lock.entries.iter().map(|entry| entry.key.as_str()).collect();
    let mut splices: Vec<(Range<usize>, String)> = Vec::new();
    for entry in &lock.entries {
        match (edits.get(&entry.key), &entry.lines) {
            (None, _) => {}
            (Some(Some(armored)), _) => {
                splices.push((entry.value.clone(), write::value(text, entry, armored, line_end)));
            }
            (Some(None), Some(lines)) => splices.push((lines.clone(), String::new())),
            (Some(None), None) => return Err(ManifestError::NotABlock { line: entry.line }),
        }
    }
    let new: Vec<_> = edits.iter().filter(|(key, _)| !known.contains(key.as_str())).collect();
    let new: Vec<_> = new.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).collect();
    if !new.is_empty() {
        let last = lock.entries.last().ok_or(ManifestError::NotABlock { line: lock.line })?;
        let lines = last.lines.as_ref().ok_or(ManifestError::NotABlock { line: last.line })?;
        let mut added = String::new();
        if !text[..lines.end].ends_with('\n') {
            added.push_str(line_end);
        }
        for (key, armored) in new {
            write::entry(&mut added, key, armored, last.indent, line_end);
        }
        splices.push((lines.end..lines.end, added));
    }
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in &splices {
        result.push_str(text.get(at..range.start).ok_or(ManifestError::CannotEdit { line: lock.line })?);
        result.push_str(new);
        at = range.end;
    }
    result.push_str(&text[at..]);
    Ok(result)
}

#[cfg(test)]
mod tests;
