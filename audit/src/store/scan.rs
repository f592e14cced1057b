//! What is on the volume when the store starts.

use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use zen_audit::ChainId;
use zen_audit::folder::{self, Segment, Tail};
use zen_identity::Component;
use zen_model::Timestamp;

use super::chain::last_segment;

/// A chain that is there.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub chain: ChainId,
    /// How it ends, before the repair.
    pub tail: Tail,
    /// Its last file, after the repair.
    pub(super) last: Option<Segment>,
    /// When it was written last.
    pub(super) at: Timestamp,
}

impl Found {
    /// Whether it is the store's own.
    pub fn is_own(&self) -> bool {
        let own = |head: &zen_audit::Head| head.writer.component() == Component::Audit.account();
        self.tail.head.as_ref().is_some_and(own)
    }
}

/// Reads how every chain ends, and cuts off half-written ends of others' chains: nothing of them was acknowledged. The own
/// ones are the own log's to repair.
///
/// # Errors
///
/// When the volume cannot be read or written.
pub fn scan(root: &Path) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    for chain in folder::chains(root)? {
        let tail = folder::tail(&chain.path)?;
        let mut found = Found { chain: chain.chain, tail, last: None, at: Timestamp(0) };
        if !found.is_own() && found.tail.damage.is_none() {
            folder::cut(&chain.path, found.tail.torn)?;
        }
        found.last = last_segment(&chain.path)?;
        if let Some(last) = &found.last {
            let since = fs::metadata(&last.path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            found.at = Timestamp(0).plus(since);
        }
        all.push(found);
    }
    Ok(all)
}
