use std::fs;
use std::io;
use std::path::Path;

use zen_model::reason::AuditReason;

use super::segments;
use crate::Entry;
use crate::head::Head;
use crate::names::ChainId;
use crate::record::{Action, Record};

/// How a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The last entry that is whole; none when there is none.
    pub head: Option<Head>,
    /// Bytes after it that are no entry: what a killed process left.
    pub torn: u64,
    /// What is in its last file is not as it was written: say so, and touch nothing.
    pub damage: Option<String>,
}

impl Tail {
    /// What there is to say about it: damage, or a half-written end that is cut off. None: it ends as it should.
    pub fn record(&self, who: &str, chain: &ChainId) -> Option<Record> {
        let object = format!("Chain/{chain}");
        let head = self.head.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(damage) = &self.damage {
            let record = Record::new(Action::FindDamage, who, &object).reason(AuditReason::ChainDamaged.code());
            return Some(record.detail("damage", damage).detail("after", &head));
        }
        let record = Record::new(Action::RepairChain, who, &object).allowed().reason(AuditReason::TailTorn.code());
        (self.torn > 0).then(|| record.detail("bytes", &self.torn.to_string()).detail("after", &head))
    }
}

/// Reads how a chain ends. Of its entries only those of the last file are looked at.
///
/// # Errors
///
/// When a file cannot be read.
pub fn tail(folder: &Path) -> io::Result<Tail> {
    let mut end = Tail { head: None, torn: 0, damage: None };
    for segment in segments(folder)?.iter().rev() {
        let content = fs::read(&segment.path)?;
        let read = read(&content);
        end.torn += read.torn;
        let first = read.first.map_or(segment.first, |seq| if end.damage.is_none() { seq } else { segment.first });
        end.damage = end.damage.or(read.damage).or_else(|| {
            let text = format!("{} begins with entry {first}", segment.path.display());
            (first != segment.first).then_some(text)
        });
        if read.head.is_some() || end.damage.is_some() {
            end.head = read.head;
            break;
        }
    }
    Ok(end)
}

/// The last whole entry of one file.
///
/// # Errors
///
/// When it cannot be read.
pub fn last_entry(file: &Path) -> io::Result<Option<Entry>> {
    let content = fs::read(file)?;
    Ok(content.split_inclusive(|byte| *byte == b'\n').rev().find_map(whole))
}

struct Read {
    first: Option<u64>,
    head: Option<Head>,
    torn: u64,
    damage: Option<String>,
}

fn read(content: &[u8]) -> Read {
    let mut read = Read { first: None, head: None, torn: 0, damage: None };
    let mut at = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let Some(entry) = whole(line) else {
            let rest = &content[at..];
            // Entries behind it: this is not what an end looks like.
            if rest.split_inclusive(|byte| *byte == b'\n').any(|line| whole(line).is_some()) {
                read.damage = Some(format!("what follows after {at} bytes is no entry, and entries follow on it"));
            } else {
                read.torn = rest.len() as u64;
            }
            return read;
        };
        let follows = read.head.as_ref().is_none_or(|head| {
            (&head.chain, &head.writer, head.seq + 1, head.hash)
                == (&entry.chain, &entry.writer, entry.seq, entry.previous)
        });
        if !follows {
            read.damage = Some(format!("entry {} does not follow on the one before", entry.seq));
            return read;
        }
        read.first.get_or_insert(entry.seq);
        read.head = Some(entry.head());
        at += line.len();
    }
    read
}

fn whole(line: &[u8]) -> Option<Entry> {
    let entry = Entry::parse(line.strip_suffix(b"\n")?).ok()?;
    (entry.digest() == entry.hash).then_some(entry)
}
