//! The chains on the disk, and how far the store has each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::Entry;
use crate::folder::{self, Segment};
use crate::head::Head;
use crate::names::ChainId;
use crate::wire::MAX_BODY;

/// The most entries of a request.
const ENTRIES: usize = 512;

/// Lines to send.
pub(super) struct Batch {
    pub(super) chain: ChainId,
    pub(super) lines: Bytes,
    pub(super) earliest: u64,
}

/// What came of a conflict.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It can go on from where the store is.
    Moved,
    /// The two histories differ.
    Stuck,
}

/// All chains of a folder.
#[derive(Debug)]
pub(super) struct Chains {
    root: PathBuf,
    known: BTreeMap<ChainId, Chain>,
}

#[derive(Clone, Debug)]
struct Chain {
    folder: PathBuf,
    /// The first entry that the store does not have.
    next: u64,
    /// Its last entry here, where it is not the current chain.
    last: u64,
    /// Where `next` stands, as far as it is known: file and offset.
    at: Option<(PathBuf, u64)>,
    /// It cannot go on: the store has another history of it, or it cannot be read here.
    stuck: bool,
}

impl Chains {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), known: BTreeMap::new() }
    }

    /// Takes on chains that are new on the disk.
    pub(super) async fn look(&mut self, current: &Head) {
        if self.known.contains_key(&current.chain) {
            return;
        }
        let root = self.root.clone();
        let found = blocking(move || {
            let mut found = Vec::new();
            for chain in folder::chains(&root)? {
                let first = folder::segments(&chain.path)?.first().map_or(1, |segment| segment.first);
                let last = folder::tail(&chain.path)?.head.map_or(0, |head| head.seq);
                found.push((chain, first, last));
            }
            Ok(found)
        });
        match found.await {
            Ok(found) => {
                for (chain, next, last) in found {
                    let fresh = Chain { folder: chain.path, next, last, at: None, stuck: false };
                    self.known.entry(chain.chain).or_insert(fresh).last = last;
                }
            }
            Err(error) => tracing::warn!(%error, "failed to read the folder of the audit log"),
        }
    }

    pub(super) fn ids(&self) -> Vec<ChainId> {
        self.known.keys().cloned().collect()
    }

    /// Whether what is written now does not reach the store.
    pub(super) fn is_stuck(&self, chain: &ChainId) -> bool {
        self.known.get(chain).is_some_and(|chain| chain.stuck)
    }

    /// Where the store is. A chain that it does not have goes from the first entry that is here.
    pub(super) async fn resumed(&mut self, heads: &[Head]) {
        for (id, chain) in &mut self.known {
            chain.at = None;
            let has = heads.iter().find(|head| head.chain == *id);
            chain.next = match has {
                Some(head) => head.seq + 1,
                None => earliest(chain.folder.clone()).await,
            };
        }
    }

    /// Entries that the store does not have.
    pub(super) fn outstanding(&self, durable: &Head) -> u64 {
        let of = |(id, chain): (&ChainId, &Chain)| {
            let last = if *id == durable.chain { durable.seq } else { chain.last };
            (last + 1).saturating_sub(chain.next)
        };
        self.known.iter().map(of).sum()
    }

    /// The next lines to send, of the chain that was begun first. Chains of which nothing is left are forgotten.
    pub(super) async fn batch(&mut self, durable: &Head) -> Option<Batch> {
        let ids = self.ids();
        for id in ids {
            let Some(chain) = self.known.get_mut(&id).filter(|chain| !chain.stuck) else { continue };
            let through = if id == durable.chain { durable.seq } else { chain.last };
            if chain.next > through {
                continue;
            }
            let (folder, next, at) = (chain.folder.clone(), chain.next, chain.at.clone());
            let read = blocking(move || read(&folder, next, through, at)).await;
            match read {
                Ok(Read { lines, earliest, at }) if !lines.is_empty() => {
                    chain.at = at;
                    return Some(Batch { chain: id, lines: lines.into(), earliest });
                }
                // Damaged, or not there: the entry that says so was written when the log was opened.
                Ok(_) => {
                    tracing::warn!(chain = %id, next, through, "entries cannot be read and do not go to the store");
                }
                Err(error) => tracing::warn!(chain = %id, %error, "entries cannot be read and do not go to the store"),
            }
            chain.stuck = true;
        }
        None
    }

    /// The store has everything up to here: files of which nothing is left go. Returns how many bytes that are.
    pub(super) async fn stored(&mut self, head: &Head, durable: &Head) -> u64 {
        let Some(chain) = self.known.get_mut(&head.chain) else { return 0 };
        if chain.next != head.seq + 1 {
            // Where the batch ended is not where the store is: look again.
            chain.next = head.seq + 1;
        }
        let current = head.chain == durable.chain;
        let whole = !current && head.seq >= chain.last;
        let (folder, seq) = (chain.folder.clone(), head.seq);
        if whole {
            self.known.remove(&head.chain);
        }
        blocking(move || remove(&folder, seq, whole)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to remove files that the store has");
            0
        })
    }

    /// The store is somewhere else than was thought.
    pub(super) async fn conflict(&mut self, id: &ChainId, head: Option<&Head>) -> Outcome {
        let Some(chain) = self.known.get_mut(id) else { return Outcome::Moved };
        chain.at = None;
        let Some(head) = head.cloned() else {
            let first = earliest(chain.folder.clone()).await;
            // It was sent from the first already, and is not taken.
            chain.stuck = chain.next == first;
            chain.next = first;
            return if chain.stuck { Outcome::Stuck } else { Outcome::Moved };
        };
        let (folder, seq) = (chain.folder.clone(), head.seq);
        let here = blocking(move || read(&folder, seq, seq, None)).await.ok();
        let here = here.and_then(|read| Entry::parse(read.lines.strip_suffix(b"\n")?).ok());
        let same = here.map(|entry| entry.head() == head);
        // What was removed here was acknowledged before.
        let moves = same.unwrap_or(head.seq + 1 < chain.next || head.seq < chain.next) && chain.next != head.seq + 1;
        if moves {
            chain.next = head.seq + 1;
            Outcome::Moved
        } else {
            chain.stuck = true;
            Outcome::Stuck
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn earliest(folder: PathBuf) -> u64 {
    let segments = blocking(move || folder::segments(&folder)).await.unwrap_or_default();
    segments.first().map_or(1, |segment| segment.first)
}

struct Read {
    lines: Vec<u8>,
    earliest: u64,
    at: Option<(PathBuf, u64)>,
}

/// Reads entries from `next` to `through` as far as a request takes them, all of one file. `at` is where `next` may stand.
fn read(folder: &Path, next: u64, through: u64, at: Option<(PathBuf, u64)>) -> io::Result<Read> {
    let segments = folder::segments(folder)?;
    let earliest = segments.first().map_or(next, |segment| segment.first);
    let mut read = Read { lines: Vec::new(), earliest, at: None };
    let Some(Segment { path, .. }) = segments.iter().rev().find(|segment| segment.first <= next) else {
        return Ok(read);
    };
    let mut offset = at.filter(|(file, _)| file == path).map_or(0, |(_, offset)| offset);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for _ in 0.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        let Some(entry) = line.strip_suffix(b"\n").and_then(|line| Entry::parse(line).ok()) else { break };
        if entry.seq > through || read.lines.len() + length > MAX_BODY {
            break;
        }
        offset += length as u64;
        if entry.seq >= next {
            read.lines.extend_from_slice(&line);
            if entry.seq + 1 >= next + ENTRIES as u64 {
                break;
            }
        }
    }
    read.at = Some((path.clone(), offset));
    Ok(read)
}

/// Removes files all of whose entries are up to `seq`; the last one only when the chain is `whole`.
fn remove(folder: &Path, seq: u64, whole: bool) -> io::Result<u64> {
    let segments = folder::segments(folder)?;
    let mut freed = 0;
    for (index, segment) in segments.iter().enumerate() {
        let done = match segments.get(index + 1) {
            Some(next) => next.first <= seq + 1,
            None => whole,
        };
        if !done {
            break;
        }
        folder::remove(segment)?;
        freed += segment.bytes;
    }
    Ok(freed)
}
