//! Retention at the store: what goes is said before, in a log that is anchored.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use zen_audit::folder::{self, Segment};
use zen_audit::{Action, ChainId, Record};
use zen_identity::Component;
use zen_model::Timestamp;
use zen_model::reason::AuditReason;

use super::Store;

/// A chain that was written to in this time goes on: its last file stays.
const LIVE: Duration = Duration::from_hours(1);

struct Due {
    chain: ChainId,
    segment: Segment,
    /// Nothing of the chain is left afterwards.
    whole: bool,
    reason: AuditReason,
}

impl Store {
    /// Removes what is too old or too much. Returns how many files that were.
    ///
    /// # Errors
    ///
    /// When the volume cannot be read or written, or the own log does not take the entry that has to be there before.
    pub async fn expire(&self) -> io::Result<usize> {
        let (bytes, due) = self.due(Timestamp::now())?;
        self.metrics.bytes(bytes);
        let count = due.len();
        for due in due {
            if due.whole && !self.forget(&due.chain) {
                continue;
            }
            let through = folder::last_entry(&due.segment.path)?.map(|entry| entry.head().to_string());
            let own = self.log.head().writer.to_string();
            let record = Record::new(Action::ExpireChain, &own, &format!("Chain/{}", due.chain)).allowed();
            let record = record.reason(due.reason.code()).detail("through", &through.unwrap_or_default());
            let written = self.log.record(record).await.map_err(io::Error::other)?;
            if !written.durable {
                return Err(io::Error::other("the store's own log cannot be written"));
            }
            folder::remove(&due.segment)?;
        }
        self.metrics.chains(self.chains().len());
        Ok(count)
    }

    /// Files of chains at rest are not held open, and chains that came to nothing are forgotten.
    pub fn rest(&self) {
        let now = Timestamp::now();
        self.chains().retain(|_, kept| {
            let rests = now.since(kept.at) >= LIVE;
            if rests && let Ok(mut chain) = kept.chain.try_lock() {
                chain.close();
                return chain.head().is_some();
            }
            true
        });
    }

    /// Takes a chain out of what is appended to. False: somebody writes to it again.
    fn forget(&self, chain: &ChainId) -> bool {
        let mut chains = self.chains();
        let lives = chains.get(chain).is_some_and(|kept| Timestamp::now().since(kept.at) < LIVE);
        if !lives {
            chains.remove(chain);
        }
        !lives
    }

    fn due(&self, now: Timestamp) -> io::Result<(u64, Vec<Due>)> {
        let own: PathBuf = self.root.join(Component::Audit.account());
        let mut all = Vec::new();
        let mut total = 0;
        for chain in folder::chains(&self.root)? {
            let segments = folder::segments(&chain.path)?;
            total += segments.iter().map(|segment| segment.bytes).sum::<u64>();
            if chain.path.starts_with(&own) {
                continue;
            }
            let count = segments.len();
            for (index, segment) in segments.into_iter().enumerate() {
                let written = fs::metadata(&segment.path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let age = now.since(Timestamp(0).plus(written));
                let whole = index + 1 == count;
                if !whole || age >= LIVE {
                    all.push((age, chain.chain.clone(), segment, whole));
                }
            }
        }
        // The oldest first; of one chain in its order.
        all.sort_by(|a, b| (b.0, &a.1, a.2.first).cmp(&(a.0, &b.1, b.2.first)));
        let mut over = total.saturating_sub(self.options.keep_bytes);
        let mut due: Vec<Due> = Vec::new();
        for (age, chain, segment, whole) in all {
            let reason = if age >= self.options.keep_age {
                AuditReason::RetentionAge
            } else if over > 0 {
                AuditReason::RetentionSize
            } else {
                continue;
            };
            over = over.saturating_sub(segment.bytes);
            due.push(Due { chain, segment, whole, reason });
        }
        Ok((total, due))
    }
}
