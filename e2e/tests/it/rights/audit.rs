//! What the audit store does with its rights, and what reaches it: certificates and plaintext that were given out, or refused
//!

use std::collections::BTreeSet;

use zen_audit::Entry;
use zen_audit::verify::{Lenience, files};
use zen_audit_store::Anchor as _;
use zen_audit_store::anchor::ConfigMapAnchor;

use super::stage::{NAMESPACE, Stage};
use crate::pods::stage::until;

pub async fn run(stage: &Stage) {
    // Who did what, as far as the store has it.
    let given = || {
        let of = |entry: &Entry| (entry.action.clone(), entry.who.clone(), entry.allowed);
        entries(stage).iter().map(of).collect::<BTreeSet<_>>()
    };
    let expected = [
        ("administer", "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-operator", true),
        ("certificate.issue", "Pod/zen-mesh/zen-ingester-0", true),
        ("certificate.issue", "Pod/zen-mesh/zen-audit-0", true),
        ("secret.access", "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-ingester", true),
    ];
    let expected = expected.map(|(action, who, allowed)| (action.to_owned(), who.to_owned(), allowed));
    until("what was given out is at the store", async || given().is_superset(&expected.clone().into())).await;

    // What a store that starts again reads.
    let anchor = ConfigMapAnchor::new(stage.client("zen-audit"), NAMESPACE);
    let heads = async || anchor.read().await.unwrap();
    let components = async || heads().await.iter().map(|head| head.writer.component().to_owned()).collect();
    let writers = ["zen-audit", "zen-operator", "zenlock-webhook"].map(str::to_owned);
    until("heads are anchored", async || BTreeSet::is_superset(&components().await, &writers.clone().into())).await;
    // Heads before entries, as the page says.
    let anchored = heads().await;
    let report = files::verify(&files::expand(&[stage.entries()]).unwrap(), &anchored, Lenience::default()).unwrap();
    assert_eq!(report.findings, vec![]);
}

fn entries(stage: &Stage) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in files::expand(&[stage.entries()]).unwrap_or_default() {
        // The last line may be being written.
        let read = files::lines(&file, |_, line, whole| {
            if whole {
                entries.push(Entry::parse(line).expect("an entry"));
            }
        });
        read.unwrap();
    }
    entries
}
