//! Who is turned away before a word is said stands in the audit log, with a reason (T-05, A-01; issue 6, point 8).

use std::collections::BTreeSet;
use std::time::Duration;

use zen_audit::verify::files;
use zen_audit::{Entry, Log, Options};
use zen_model::Timestamp;
use zen_pki::{Ca, Identity, Scope, SpiffeId};

use super::stage::{Stage, cluster};
use crate::identity::tests::cluster::domain;

const ID: &str = "team-a/prod-eu";

#[tokio::test]
async fn a_refused_handshake_is_an_entry_with_its_reason() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::open(Options::new(folder.path(), "zen-operator/zen-operator-0".parse().expect("a writer")));
    let log = log.expect("opens");
    stage.replica.service.audit_to(&log);
    let member = stage.enroll(ID).await;
    let now = stage.now();
    let issued = |ca: &Ca, id: &SpiffeId, at: Timestamp| {
        let pair = ca.issue_workload_at(id, at, Duration::from_hours(1)).expect("issued");
        Identity::new(&pair, &stage.roots).expect("an identity")
    };
    let operator = Scope::Cluster(cluster(ID)).workload(&domain(), "zen-mesh", "zen-operator").expect("an id");
    let stranger = Ca::new_root(&domain(), now).expect("a root");
    let stranger = stranger.issue_issuer(&Scope::Cluster(cluster(ID)), now).expect("an issuer");
    let expected = [
        ("PeerNotAllowed", member.identity("zen-egress", now)),
        // A CA of the same name, with another key.
        ("SignatureWrong", issued(&stranger, &operator, now)),
        ("CertificateExpired", issued(&member.ca, &operator, Timestamp(now.0 - 7_200_000))),
    ];
    for (reason, identity) in &expected {
        for _ in 0..20 {
            assert!(stage.raw("/", None, Vec::new(), Some(identity)).await.is_err(), "{reason}");
        }
    }
    // Who may connect stands in no such entry.
    assert!(stage.raw("/", None, Vec::new(), Some(&member.identity("zen-operator", now))).await.is_ok());
    log.close().await;

    let mut entries = Vec::new();
    for file in files::expand(&[folder.path().to_owned()]).expect("files") {
        files::lines(&file, |_, line, _| entries.push(Entry::parse(line).expect("an entry"))).expect("readable");
    }
    entries.retain(|entry| entry.action == "authenticate");
    let reasons: BTreeSet<_> = entries.iter().map(|entry| entry.reason.clone()).collect();
    assert_eq!(reasons, expected.iter().map(|(reason, _)| (*reason).to_owned()).collect(), "{entries:#?}");
    assert_eq!(entries.len(), expected.len(), "twenty of one kind within a minute are told at once, and at its end");
    for entry in &entries {
        assert_eq!((&*entry.who, &*entry.object, entry.allowed), ("Address/127.0.0.1", "Listener/hub", false));
        assert!(!entry.details["detail"].is_empty() && entry.details["count"] == "1", "{entry:?}");
    }
}
