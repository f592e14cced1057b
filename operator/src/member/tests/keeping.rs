//! What an enrolled member does: follows its hub, renews, and goes on without it (T-04, T-06, T-07).

use std::sync::Arc;
use std::time::Duration;

use zen_enroll::bundle::fingerprint;
use zen_model::Timestamp;
use zen_pki::{Ca, TrustRoots};
use zen_pod::keys;
use zen_seal::cluster::ClusterKey;

use super::super::keep::Next;
use super::super::{AGENT, PENDING};
use super::cluster::{Cluster, domain};
use super::hub::{DAY, Hub};
use crate::identity::ISSUER;
use crate::names;

fn versions(cluster: &Cluster) -> Vec<u32> {
    let member = keys::Member::from_json(cluster.entry(names::EGRESS_KEYS, keys::MEMBER).as_bytes()).expect("keys");
    member.keys.iter().map(ClusterKey::version).collect()
}

#[tokio::test]
async fn what_the_hub_changes_is_followed_and_restarts_nothing() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    let annotation =
        || cluster.secret(names::EGRESS_KEYS).expect("there")["metadata"]["annotations"][names::KEYS].clone();
    let (issuer, before) = (cluster.entry(ISSUER, "tls.crt"), annotation());
    // A rotation of keys: the new version beside the old one, then alone.
    hub.state().versions = vec![2, 1];
    cluster.settle().await;
    assert_eq!(versions(&cluster), [2, 1]);
    hub.state().versions = vec![2];
    cluster.settle().await;
    assert_eq!(versions(&cluster), [2]);
    assert_eq!(annotation(), before, "pods are not restarted for a version");
    // Another root beside the one in use, and another relay.
    let second = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    hub.state().more_roots = second.certificate_pem().to_owned();
    hub.state().relay = None;
    cluster.settle().await;
    assert_eq!(cluster.trust(), hub.roots());
    let planes = cluster.entry(names::EGRESS_KEYS, keys::MEMBER);
    assert!(!planes.contains("relay.example.com"), "{planes}");
    assert_eq!(cluster.entry(ISSUER, "tls.crt"), issuer, "the issuing CA stays");
}

#[tokio::test]
async fn the_issuing_ca_is_renewed_with_a_new_key_that_is_stored_before() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    // What the hub gives is 60 of its 90 days old.
    hub.state().age = 60 * DAY;
    let recipient = cluster.recipient().await;
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    // Pending, redeem, trust, issuer, keys.
    for _ in 0..5 {
        cluster.step().await.expect("a step");
    }
    let (chain, key) = (cluster.entry(ISSUER, "tls.crt"), cluster.entry(ISSUER, "tls.key"));
    hub.state().age = Duration::ZERO;
    cluster.step().await.expect("a step");
    let pending = cluster.entry(PENDING, "tls.key");
    assert_ne!(pending, key, "a new key");
    assert_eq!(cluster.entry(ISSUER, "tls.crt"), chain, "the old one is in use until the hub has signed");
    cluster.settle().await;
    assert_eq!(cluster.entry(ISSUER, "tls.key"), pending);
    assert_ne!(cluster.entry(ISSUER, "tls.crt"), chain);
    assert!(cluster.secret(PENDING).is_none());
    let redeemed = hub.state().asked.iter().filter(|(kind, _)| *kind == "redeem").count();
    assert_eq!(redeemed, 1, "over the channel, without a bundle");
    let done = format!("{:?}", cluster.records.lock().expect("no panic"));
    assert!(done.contains("had the issuing CA renewed by the hub"), "{done}");
}

/// T-04: it asks for an issuing CA beneath the root that the hub says, once, and says what it has.
#[tokio::test]
async fn the_issuing_ca_goes_with_the_hubs_root_and_back() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    cluster.settle().await;
    let chain = || cluster.entry(ISSUER, "tls.crt");
    let fingerprint = || zen_pki::certificates(&chain()).remove(0).0;
    let (old, first) = (hub.root.fingerprint(), chain());
    let said = || hub.state().holds.clone().expect("said");
    assert_eq!((said().roots, said().issuer), ([old.clone()].into(), fingerprint()));
    // Both are trusted first.
    let second = Arc::new(Ca::new_root(&domain(), Timestamp::now()).expect("a root"));
    hub.state().more_roots = second.certificate_pem().to_owned();
    hub.identity.replace_roots(&TrustRoots::from_pem(&hub.roots()).expect("roots")).expect("used");
    cluster.settle().await;
    assert_eq!(chain(), first);
    cluster.settle().await;
    assert_eq!(said().roots, [old.clone(), second.fingerprint()].into());
    hub.state().next = Some(Arc::clone(&second));
    cluster.settle().await;
    cluster.settle().await;
    let is_beneath = |root: &Ca| {
        let key = zen_model::Secret::new(cluster.entry(ISSUER, "tls.key"));
        let ca = Ca::from_pem(&chain(), &key, ISSUER, &domain(), Timestamp::now()).expect("usable");
        ca.verify(&root.roots().expect("roots"), Timestamp::now()).is_ok()
    };
    assert!(is_beneath(&second) && !is_beneath(&hub.root));
    let moved = chain();
    cluster.settle().await;
    assert_eq!((chain(), said().issuer), (moved, fingerprint()), "once, and it says so");
    assert!(cluster.secret(PENDING).is_none());
    hub.state().next = None;
    cluster.settle().await;
    cluster.settle().await;
    assert!(is_beneath(&hub.root), "and back");
}

/// T-01, T-04: after an exchange of the root the next bundle is beneath one that nobody has pinned; the hub told of it under the
/// one that was.
#[tokio::test]
async fn a_root_that_the_hub_told_of_needs_no_pin() {
    let (mut cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.pins = vec![fingerprint(hub.root.certificate_pem()).expect("a certificate")];
    cluster.enroll(&hub).await;
    let recipient = cluster.recipient().await;
    let second = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    hub.state().more_roots = second.certificate_pem().to_owned();
    hub.state().enrollment.bundle = "2".to_owned();
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    cluster.step().await.expect("a step");
    assert_eq!(cluster.said().last().map(String::as_str), Some("WrongHub"), "before it was told");
    cluster.settle().await;
    assert_eq!(cluster.trust(), hub.roots());
    let redeemed = hub.state().asked.iter().filter(|(kind, _)| *kind == "redeem").count();
    assert_eq!(redeemed, 2, "and then it is used");
}

/// T-07: a hub that is away, that answers nothing of use or that is another one costs nothing.
#[tokio::test]
async fn without_the_hub_everything_stays() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    let all = || [AGENT, ISSUER, names::EGRESS_KEYS].map(|name| cluster.secret(name));
    let before = all();
    hub.state().is_broken = true;
    cluster.steps(3).await.expect("steps");
    hub.state().is_broken = false;
    // Roots that do not cover what pods present here are not taken.
    let whole = hub.roots();
    assert_eq!(cluster.trust(), whole);
    hub.state().not_leader = u32::MAX;
    cluster.steps(2).await.expect("steps");
    assert_eq!(all(), before);
    let address = hub.address;
    drop(hub);
    // Another process takes the port, perhaps; nobody of ours.
    let steps = cluster.steps(3).await.expect("steps");
    assert!(steps.iter().any(|(next, _)| matches!(next, Next::Wait(_))), "{address}: {steps:?}");
    assert_eq!(all(), before);
    assert!(cluster.identity().is_some(), "certificates are issued as before");
}

#[tokio::test]
async fn a_hub_that_disabled_the_enrollment_is_told_of_and_an_end_needs_a_bundle() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    let before = cluster.secret(AGENT);
    hub.state().enrollment.disabled = true;
    cluster.steps(3).await.expect("steps");
    assert!(cluster.said().contains(&"EnrollmentDisabled".to_owned()), "{:?}", cluster.said());
    assert_eq!(cluster.secret(AGENT), before);
    cluster.later(91 * DAY);
    let problem = cluster.drive().await.expect("steps").expect("a problem");
    assert!(problem.contains("has ended") && problem.contains("spec.bundle"), "{problem}");
}

/// What somebody changed in the cluster is put back from what the hub gave.
#[tokio::test]
async fn what_drifts_is_put_back() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    cluster.delete(names::EGRESS_KEYS);
    cluster.settle().await;
    assert_eq!(versions(&cluster), [1]);
    // The issuing key is nowhere else.
    cluster.delete(ISSUER);
    let problem = cluster.drive().await.expect("steps").expect("a problem");
    assert!(problem.contains("key of the issuing CA is lost"), "{problem}");
}
