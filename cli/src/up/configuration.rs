//! What follows a change of the manifests: certificates, quotas, the feed, and a word about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::watch;
use zen_compile::{Snapshot, Verdict};
use zen_ingester::Replica;
use zen_live::{Finding, Published};
use zen_model::Timestamp;

use super::narrate::clock;
use super::printer::Printer;
use super::trust::Trust;
use crate::output::Style;

/// What a configuration is applied to beside the snapshot, which every request looks up by itself.
pub struct Appliances {
    /// Quotas and leases.
    pub replica: Replica,
    /// What the admin API shows.
    pub verdicts: Arc<ArcSwap<Vec<Verdict>>>,
    /// Certificates.
    pub trust: Arc<Trust>,
    /// The address that the intake listens on.
    pub intake: IpAddr,
}

impl Appliances {
    /// Brings everything into line with what was published.
    pub fn apply(&self, published: &Published) {
        let snapshot = self.replica.snapshot.load_full();
        self.verdicts.store(Arc::new(published.verdicts.clone()));
        let hosts: BTreeSet<_> = snapshot.webhooks.values().flat_map(|webhook| webhook.hosts.iter().cloned()).collect();
        if let Err(failure) = self.trust.serve_hosts(self.intake, &hosts) {
            tracing::error!(%failure, "the intake keeps its certificate");
        }
        self.replica.apply(published);
    }

    /// Applies every change and says what it was, until the watch ends.
    pub async fn follow(self, mut changes: watch::Receiver<Arc<Published>>, printer: Printer) {
        let first = changes.borrow_and_update().clone();
        // It may have changed since it was applied, before we followed.
        self.apply(&first);
        let mut before = Known::of(&self.replica.snapshot.load(), &first);
        while changes.changed().await.is_ok() {
            let published = changes.borrow_and_update().clone();
            self.apply(&published);
            let now = Known::of(&self.replica.snapshot.load(), &published);
            now.tell_since(&before, published.generation, &printer);
            before = now;
        }
    }
}

/// What is compared from one configuration to the next.
struct Known {
    /// Revision and whether it serves, by object.
    objects: BTreeMap<String, (u64, bool)>,
    findings: Vec<Finding>,
}

impl Known {
    fn of(snapshot: &Snapshot, published: &Published) -> Self {
        let revision = |verdict: &Verdict| match verdict.kind {
            "Webhook" => snapshot.webhooks.get(&verdict.key).map_or(0, |webhook| webhook.revision),
            _ => snapshot.destinations.get(&verdict.key).map_or(0, |destination| destination.revision),
        };
        let verdicts = published.verdicts.iter();
        let objects =
            verdicts.map(|verdict| (format!("{} {}", verdict.kind, verdict.key), (revision(verdict), verdict.serving)));
        Self { objects: objects.collect(), findings: published.findings.clone() }
    }

    fn tell_since(&self, before: &Self, generation: u64, printer: &Printer) {
        let added = self.objects.keys().filter(|object| !before.objects.contains_key(*object));
        let removed = before.objects.keys().filter(|object| !self.objects.contains_key(*object));
        let changed =
            self.objects.iter().filter(|(object, now)| before.objects.get(*object).is_some_and(|was| was != *now));
        let (added, removed): (Vec<_>, Vec<_>) = (added.collect(), removed.collect());
        let changed: Vec<_> = changed.map(|(object, _)| object).collect();
        let new: Vec<_> = self.findings.iter().filter(|finding| !before.findings.contains(finding)).collect();
        let mended = before.findings.iter().filter(|finding| !self.findings.contains(finding)).count();
        let texts: Vec<_> = new.iter().map(ToString::to_string).collect();
        let record = json!({
            "at": Timestamp::now(), "what": "configuration", "generation": generation, "added": added,
            "changed": changed, "removed": removed, "findings": texts, "mended": mended,
        });
        let lines = |style: Style| {
            let mut parts = Vec::new();
            for (what, objects) in [("new", &added), ("changed", &changed), ("removed", &removed)] {
                parts.extend(objects.iter().map(|object| format!("{what} {object}")));
            }
            if parts.is_empty() {
                let what = match (new.len(), mended) {
                    (1.., _) => "what was in force stays in force",
                    (0, 1..) => "mended",
                    (0, 0) => "nothing that is in force changed",
                };
                parts.push(what.to_owned());
            }
            let mut text = format!(
                "{}  {}  {}\n",
                style.faint(&clock(Timestamp::now())),
                style.strong("reloaded "),
                parts.join(", ")
            );
            for (finding, line) in new.iter().zip(&texts) {
                let line = if finding.warning { style.warn(line) } else { style.bad(line) };
                let _ = writeln!(text, "              {line}");
            }
            text
        };
        printer.say(lines, &record);
    }
}
