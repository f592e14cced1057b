//! Certificates and roots are exchanged under connections that go on (T-02).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zen_pki::{mtls_client, mtls_server};

use crate::support::{Ends, HOUR, ca, connect, id, identity, refusal};

async fn talk((client, server): &mut Ends) {
    for _ in 0..3 {
        client.write_all(b"ping").await.expect("written");
        client.flush().await.expect("flushed");
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.expect("read");
        server.write_all(&bytes).await.expect("written");
        server.flush().await.expect("flushed");
        client.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"ping");
    }
}

fn serial(ends: &Ends) -> Vec<u8> {
    ends.0.get_ref().1.peer_certificates().expect("a peer")[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_old_ones_go_on() {
    let ca = ca();
    let egress = identity(&ca, "egress");
    let server = mtls_server(&egress, vec![id("ingester")]).expect("configured");
    let client = mtls_client(&identity(&ca, "ingester"), id("egress")).expect("configured");
    let mut old = connect(client.clone(), server.clone()).await.expect("connected");
    egress.replace(&ca.issue_workload(&id("egress"), HOUR).expect("issued")).expect("replaced");
    let mut new = connect(client, server).await.expect("connected");
    talk(&mut old).await;
    talk(&mut new).await;
    assert_ne!(serial(&old), serial(&new));
}

#[tokio::test]
async fn another_workloads_certificate_is_not_swapped_in() {
    let ca = ca();
    let egress = identity(&ca, "egress");
    let before = egress.validity();
    let other = ca.issue_workload(&id("operator"), 2 * HOUR).expect("issued");
    assert!(egress.replace(&other).is_err());
    assert_eq!((egress.id(), egress.validity()), (&id("egress"), before));
}

/// A CA rotation: both roots for a while, then only the new one.
#[tokio::test]
async fn roots_are_swapped_with_overlap() {
    let (old, new) = (ca(), ca());
    let (egress, ingester) = (identity(&old, "egress"), identity(&old, "ingester"));
    let server = mtls_server(&egress, vec![id("ingester")]).expect("configured");
    let client = mtls_client(&ingester, id("egress")).expect("configured");
    let mut first = connect(client.clone(), server.clone()).await.expect("connected");

    let overlap = zen_pki::TrustRoots::from_pem(&format!("{}{}", old.certificate_pem(), new.certificate_pem()));
    let overlap = overlap.expect("two roots");
    for (identity, account) in [(&egress, "egress"), (&ingester, "ingester")] {
        identity.replace_roots(&overlap).expect("replaced");
        // In every mix of old and new they get on with each other.
        connect(client.clone(), server.clone()).await.expect("connected");
        identity.replace(&new.issue_workload(&id(account), HOUR).expect("issued")).expect("replaced");
        if account == "egress" {
            ingester.replace_roots(&overlap).expect("replaced");
        }
        connect(client.clone(), server.clone()).await.expect("connected");
    }
    for identity in [&egress, &ingester] {
        identity.replace_roots(&new.roots().expect("roots")).expect("replaced");
    }
    connect(client.clone(), server.clone()).await.expect("connected");
    talk(&mut first).await;

    let left_behind = mtls_client(&identity(&old, "ingester"), id("egress")).expect("configured");
    refusal(left_behind, server).await;
}

#[test]
fn an_empty_bundle_is_refused() {
    assert!(zen_pki::TrustRoots::from_pem("").is_err());
    assert!(zen_pki::TrustRoots::from_pem("no certificate").is_err());
}
