//! Finds what was done to chains after they were written: an edit, a deletion, a reorder, an insertion, a truncation.
//!
//! [`Verifier`] is pure: it takes lines and says which is the first bad one of its chain. [`files`] reads files and folders.

mod fault;
pub mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub use fault::Fault;

use crate::Entry;
use crate::head::{Hash, Head};
use crate::names::{ChainId, Writer};

/// The component that keeps the chains of all others.
const KEEPER: &str = "zen-audit";

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// From 1.
    pub line: u64,
}

/// The first bad entry of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file; none when a whole chain is not there.
    pub file: Option<PathBuf>,
    /// The line in it; for what is missing at an end the last one that is there.
    pub line: u64,
    /// Whose chain; none when the line does not say.
    pub writer: Option<Writer>,
    /// Which chain.
    pub chain: Option<ChainId>,
    /// The number that the line has.
    pub seq: Option<u64>,
    /// What is wrong: a stable label.
    pub fault: &'static str,
    /// The same for people.
    pub message: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries that are as they were written.
    pub entries: u64,
    /// Of them, those that were written while something did not work.
    pub degraded: u64,
    /// Entries that the writers say they lost.
    pub lost: u64,
    /// Where each chain stands.
    pub heads: Vec<Head>,
    /// Heads that were compared.
    pub compared: u64,
    /// Heads of chains that are not among what was read.
    pub not_given: Vec<Head>,
    /// The first bad entry of each chain; empty: all is intact.
    pub findings: Vec<Finding>,
}

/// What may be missing without being a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lenience {
    /// Chains may begin in their middle: somebody gives only some of the files.
    pub partial: bool,
    /// Anchored chains may be missing as a whole.
    pub absent: bool,
}

/// Follows any number of chains, each in its order.
#[derive(Debug)]
pub struct Verifier {
    lenience: Lenience,
    chains: BTreeMap<ChainId, Chain>,
    /// Heads that somebody vouched for, by chain and number.
    claims: BTreeMap<ChainId, BTreeMap<u64, BTreeSet<Hash>>>,
    claimed_by: BTreeMap<ChainId, Writer>,
    /// Chains that have to be there: an anchor names them.
    anchored: BTreeSet<ChainId>,
    /// Through which entry a chain's beginning was removed by its keeper, and the hash of that entry.
    expired: BTreeMap<ChainId, BTreeMap<u64, Hash>>,
    /// The chain of the line before: what cannot be read belongs to it.
    current: Option<ChainId>,
    report: Report,
}

#[derive(Debug)]
struct Chain {
    head: Head,
    last: Place,
    /// Nothing is compared any more after the first bad entry.
    broken: bool,
}

impl Verifier {
    /// Knows no chain yet.
    pub fn new(lenience: Lenience) -> Self {
        Self {
            lenience,
            chains: BTreeMap::new(),
            claims: BTreeMap::new(),
            claimed_by: BTreeMap::new(),
            anchored: BTreeSet::new(),
            expired: BTreeMap::new(),
            current: None,
            report: Report::default(),
        }
    }

    /// A head that was kept elsewhere: its chain has to reach it. Before the first line.
    pub fn anchor(&mut self, head: Head) {
        self.anchored.insert(head.chain.clone());
        self.claim(head);
    }

    /// What the entries of the same files vouch for: heads of other chains, and what was removed. Before the first line.
    pub fn hear(&mut self, entry: &Entry) {
        // Whoever writes one chain must not be able to excuse, or accuse, another's.
        let own = entry.writer.component();
        let may = |head: &Head| own == KEEPER || own == head.writer.component();
        for head in entry.claims().filter(may) {
            self.claim(head);
        }
        if let Some(Head { chain, seq, hash, .. }) = entry.expired().filter(may) {
            self.expired.entry(chain).or_default().insert(seq, hash);
        }
    }

    fn claim(&mut self, head: Head) {
        self.claimed_by.insert(head.chain.clone(), head.writer);
        self.claims.entry(head.chain).or_default().entry(head.seq).or_default().insert(head.hash);
    }

    /// The next line, without its end.
    pub fn line(&mut self, place: Place, line: &[u8]) {
        let entry = match Entry::parse(line) {
            Ok(entry) => entry,
            Err(error) => {
                self.unreadable(&place, &Fault::Malformed(error.to_string()));
                return;
            }
        };
        self.current = Some(entry.chain.clone());
        let broken = self.chains.get(&entry.chain).is_some_and(|chain| chain.broken);
        if broken {
            return;
        }
        let fault = self.judge(&entry);
        if let Some(fault) = &fault {
            self.find(Some(&place), Some(&entry.head()), Some(entry.seq), fault);
        } else {
            self.report.entries += 1;
            self.report.degraded += u64::from(entry.degraded);
            self.report.lost += entry.lost;
        }
        let chain = Chain { head: entry.head(), last: place, broken: fault.is_some() };
        self.chains.insert(entry.chain, chain);
    }

    /// The line before was the last of its file, and is cut.
    pub fn torn(&mut self, place: &Place) {
        self.unreadable(place, &Fault::Torn);
    }

    /// What cannot be read takes the place of an entry of the chain around it.
    fn unreadable(&mut self, place: &Place, fault: &Fault) {
        let around = self.current.as_ref().and_then(|chain| self.chains.get_mut(chain));
        let mut head = None;
        if let Some(chain) = around {
            if std::mem::replace(&mut chain.broken, true) {
                return;
            }
            head = Some(chain.head.clone());
        }
        let seq = head.as_ref().map(|head| head.seq + 1);
        self.find(Some(place), head.as_ref(), seq, fault);
    }

    fn judge(&mut self, entry: &Entry) -> Option<Fault> {
        if entry.digest() != entry.hash {
            return Some(Fault::Altered);
        }
        match self.chains.get(&entry.chain) {
            Some(Chain { head, .. }) => {
                let expected = head.seq + 1;
                if entry.writer != head.writer {
                    return Some(Fault::OtherWriter(head.writer.clone()));
                } else if entry.seq > expected {
                    return Some(Fault::Missing { expected, found: entry.seq });
                } else if entry.seq < expected {
                    return Some(Fault::Displaced { expected, found: entry.seq });
                } else if entry.previous != head.hash {
                    return Some(Fault::Unlinked);
                }
            }
            None => {
                if let Some(fault) = self.beginning(entry) {
                    return Some(fault);
                }
            }
        }
        let claimed = self.claims.get(&entry.chain)?.get(&entry.seq)?;
        self.report.compared += 1;
        claimed.iter().any(|claimed| *claimed != entry.hash).then_some(Fault::Rewritten)
    }

    /// The first entry that is there of a chain.
    fn beginning(&self, entry: &Entry) -> Option<Fault> {
        if entry.seq == 1 {
            let opens = entry.previous.is_none() && entry.action == crate::Action::OpenChain.label();
            return (!opens).then_some(Fault::NotOpened);
        }
        let before = entry.seq - 1;
        let removed = self.expired.get(&entry.chain).and_then(|removed| removed.get(&before));
        match removed {
            Some(hash) if *hash == entry.previous => None,
            _ if self.lenience.partial => None,
            _ => Some(Fault::NoBeginning { found: entry.seq }),
        }
    }

    /// Compares the ends with what is anchored. Nothing may follow.
    pub fn finish(mut self) -> Report {
        let claims = std::mem::take(&mut self.claims);
        for (id, heads) in claims {
            let Some((&seq, hashes)) = heads.last_key_value() else { continue };
            let Some(&hash) = hashes.first() else { continue };
            match self.chains.get(&id) {
                Some(chain) if !chain.broken && chain.head.seq < seq => {
                    let (head, place) = (chain.head.clone(), chain.last.clone());
                    let fault = Fault::Truncated { last: head.seq, anchored: seq };
                    self.find(Some(&place), Some(&head), Some(head.seq), &fault);
                }
                Some(_) => {}
                None => {
                    let through = self.expired.get(&id).and_then(|removed| removed.keys().next_back());
                    if through.is_some_and(|through| *through >= seq) {
                        continue;
                    }
                    let Some(writer) = self.claimed_by.get(&id).cloned() else { continue };
                    let head = Head { writer, chain: id.clone(), seq, hash };
                    if self.anchored.contains(&id) && !self.lenience.absent {
                        self.find(None, Some(&head), None, &Fault::Absent { anchored: seq });
                    } else {
                        self.report.not_given.push(head);
                    }
                }
            }
        }
        self.report.heads = self.chains.into_values().filter(|chain| !chain.broken).map(|chain| chain.head).collect();
        self.report
    }

    fn find(&mut self, place: Option<&Place>, head: Option<&Head>, seq: Option<u64>, fault: &Fault) {
        self.report.findings.push(Finding {
            file: place.map(|place| place.file.to_path_buf()),
            line: place.map_or(0, |place| place.line),
            writer: head.map(|head| head.writer.clone()),
            chain: head.map(|head| head.chain.clone()),
            seq,
            fault: fault.label(),
            message: fault.to_string(),
        });
    }
}
