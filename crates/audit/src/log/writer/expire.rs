//! Retention: files whose time is over, or that are too many, go.

use std::fs;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use zen_model::Timestamp;
use zen_model::reason::AuditReason;

use super::Thread;
use crate::folder::{self, Segment};
use crate::names::ChainId;
use crate::record::{Action, Record};

/// How often ages are looked at.
const EVERY: Duration = Duration::from_mins(1);

impl Thread {
    /// Removes the oldest files, never the one in use and none that the store still has to get. The entry that says so is
    /// durable before they go, so that a verifier knows where a chain may begin.
    pub(super) fn expire(&mut self) -> io::Result<()> {
        let options = &self.shared.options;
        let over = self.shared.health.metrics.kept_bytes().saturating_sub(options.keep_bytes);
        let now = Timestamp::now();
        let look = over > 0 || (options.keep_age.is_some() && now.since(self.expired_at) >= EVERY);
        if options.shipped || !look {
            return Ok(());
        }
        self.expired_at = now;
        let due = self.due(over, now)?;
        let mut gone = Vec::new();
        for (chain, segment, reason) in due {
            let through = folder::last_entry(&segment.path)?.map(|entry| entry.head().to_string()).unwrap_or_default();
            let record = Record::new(Action::ExpireChain, &self.head.writer.to_string(), &format!("Chain/{chain}"));
            self.say(record.allowed().reason(reason.code()).detail("through", &through));
            gone.push(segment);
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.append()?;
        self.shared.durable.send_replace(self.head.clone());
        for segment in gone {
            folder::remove(&segment)?;
            self.shared.health.metrics.remove_kept(segment.bytes);
        }
        Ok(())
    }

    fn due(&self, mut over: u64, now: Timestamp) -> io::Result<Vec<(ChainId, Segment, AuditReason)>> {
        let options = &self.shared.options;
        let current = self.file.as_ref().map(|file| file.segment().path.clone());
        let mut due = Vec::new();
        for chain in folder::chains(&options.folder)? {
            for segment in folder::segments(&chain.path)? {
                if Some(&segment.path) == current.as_ref() {
                    break;
                }
                let written = fs::metadata(&segment.path)?.modified()?;
                let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
                let age = now.since(Timestamp(0).plus(since));
                let reason = if over > 0 {
                    over = over.saturating_sub(segment.bytes);
                    AuditReason::RetentionSize
                } else if options.keep_age.is_some_and(|keep| age >= keep) {
                    AuditReason::RetentionAge
                } else {
                    break;
                };
                due.push((chain.chain.clone(), segment, reason));
            }
        }
        Ok(due)
    }
}
