//! What the audit store does with its rights, and what reaches it: certificates and plaintext that were given out, or refused, and
//! whom the listeners of the planes refuse (A-01, A-02, T-05).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use zen_audit::Entry;
use zen_audit::verify::{Lenience, files};
use zen_audit_store::Anchor as _;
use zen_audit_store::anchor::ConfigMapAnchor;
use zen_identity::http::{Client, Peer};
use zen_identity::{Component, Mesh, control};
use zen_link::{Claim, Dialer, Metrics};
use zen_model::reason::LinkRefusal;
use zen_pki::{Identity, mtls_client};

use super::stage::{NAMESPACE, Stage};
use crate::pods::stage::until;

/// Handshakes that are refused one after the other.
const FLOOD: u64 = 30;

pub async fn run(stage: &Stage) {
    refused(stage).await;
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
    let writers = ["zen-audit", "zen-egress", "zen-ingester", "zen-operator", "zenlock-webhook"].map(str::to_owned);
    until("heads are anchored", async || BTreeSet::is_superset(&components().await, &writers.clone().into())).await;
    // Heads before entries, as the page says.
    let anchored = heads().await;
    let report = files::verify(&files::expand(&[stage.entries()]).unwrap(), &anchored, Lenience::default()).unwrap();
    assert_eq!(report.findings, vec![]);
}

/// Each handshake that link, relay door, control API and aggregated API refuse, and each denial there, is an entry; a flood is a
/// handful.
async fn refused(stage: &Stage) {
    let (ingester, egress) = (stage.ingester(), stage.egress());
    let (relay, link) = (ingester.relay.expect("it listens"), egress.link.expect("it listens"));
    let (as_ingester, as_egress) = (stage.proof_of("zen-ingester").await, stage.proof_of("zen-egress").await);
    let mesh = Mesh::of(as_ingester.id()).unwrap();
    let ask = async |identity: &Identity, address: SocketAddr, component: Component, path: &str| {
        let peer = Peer { address, id: mesh.id(component).clone() };
        Client::new(identity).get::<Value>(&peer, path).await.expect_err("refused")
    };
    // An egress has no business with anybody's control API; an ingester has, and not with all of it.
    for _ in 0..FLOOD {
        ask(&as_egress, ingester.control, Component::Ingester, control::DRAIN).await;
    }
    ask(&as_egress, egress.control, Component::Egress, control::REPORT).await;
    for (address, component, path) in
        [(ingester.control, Component::Ingester, control::DRAIN), (egress.control, Component::Egress, control::REPORT)]
    {
        let denied = ask(&as_ingester, address, component, path).await;
        assert_eq!(denied.status().map(|status| status.as_u16()), Some(403), "{denied}");
    }
    let dial = async |identity: &Identity, address: SocketAddr, component: Component| {
        let side =
            zen_link::Egress { instance: "x".into(), incarnation: 0, max_leases: 1, max_bytes: 1, claim: Claim::Own };
        let tls = mtls_client(identity, mesh.id(component).clone()).unwrap();
        Dialer::new(address.into(), tls, side, Metrics::default()).connect().await.expect_err("refused")
    };
    dial(&as_egress, link, Component::Egress).await;
    dial(&as_egress, relay, Component::Ingester).await;
    let refused = dial(&as_ingester, relay, Component::Ingester).await;
    assert!(matches!(refused, zen_link::Error::Refused(LinkRefusal::BehalfMissing)), "{refused}");
    stage.api_directly().await.expect_err("refused");

    let due = [
        "zen-ingester authenticate Listener/control PeerNotAllowed",
        "zen-egress authenticate Listener/control PeerNotAllowed",
        "zen-ingester authorize Listener/control ActionNotPermitted",
        "zen-egress authorize Listener/control ActionNotPermitted",
        "zen-egress authenticate Listener/link PeerNotAllowed",
        "zen-ingester authenticate Listener/relay PeerNotAllowed",
        "zen-ingester authorize Listener/relay BehalfMissing",
        "zen-ingester authenticate Listener/api CertificateMissing",
    ];
    let words = |entry: &Entry| {
        let Entry { writer, action, object, reason, .. } = entry;
        format!("{} {action} {object} {reason}", writer.component())
    };
    let told = || entries(stage).iter().map(words).collect::<BTreeSet<_>>();
    until("whom the planes refused is at the store", async || due.iter().all(|due| told().contains(*due))).await;
    let all = entries(stage);
    let denied = all.iter().filter(|entry| entry.action == "authorize" && entry.reason == "ActionNotPermitted");
    for entry in denied {
        assert_eq!((entry.who.as_str(), entry.allowed), (as_ingester.id().as_str(), false));
        assert!(!entry.correlation.is_empty());
    }
    // One at once and what is left of it at the end of each minute.
    let of_flood = all.iter().filter(|entry| words(entry) == due[0]);
    let counts: Vec<u64> = of_flood.map(|entry| entry.details["count"].parse().unwrap()).collect();
    assert!(counts.len() <= 4 && counts.iter().sum::<u64>() <= FLOOD, "{counts:?}");
}

fn entries(stage: &Stage) -> Vec<Entry> {
    // The last line may be being written.
    files::expand(&[stage.entries()]).and_then(|found| files::entries(&found)).unwrap_or_default()
}
