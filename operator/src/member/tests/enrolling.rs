//! From nothing to a member: every step, and a crash after each.

use std::collections::BTreeSet;

use zen_model::Timestamp;
use zen_pki::{Ca, Scope, TrustRoots};
use zen_pod::keys;
use zen_seal::cluster::ClusterKey;
use zen_testkit::api_server::{Call, Reply};

use super::super::keep::Next;
use super::super::{AGENT, MEMBER, PENDING};
use super::cluster::{Cluster, SECRETS, domain};
use super::hub::Hub;
use crate::identity::ISSUER;
use crate::names;

/// What an enrolled member has, looked at from outside.
fn check(cluster: &Cluster, hub: &Hub) {
    assert_eq!(cluster.trust(), hub.roots());
    let key = zen_model::Secret::new(cluster.entry(ISSUER, "tls.key"));
    let ca = Ca::from_pem(&cluster.entry(ISSUER, "tls.crt"), &key, ISSUER, &domain(), Timestamp::now()).expect("a CA");
    assert_eq!(ca.scope(), Some(&Scope::Cluster(hub.cluster.clone())));
    ca.verify(&TrustRoots::from_pem(&hub.roots()).expect("roots"), Timestamp::now()).expect("of the hub's root");
    let member = keys::Member::from_json(cluster.entry(names::EGRESS_KEYS, keys::MEMBER).as_bytes()).expect("keys");
    assert_eq!((&member.cluster, &member.relay), (&hub.cluster, &hub.state().relay));
    let versions: Vec<_> = member.keys.iter().map(ClusterKey::version).collect();
    assert_eq!(versions, hub.state().versions);
    let annotation = cluster.secret(names::EGRESS_KEYS).expect("there")["metadata"]["annotations"][names::KEYS].clone();
    assert!(member.keys[0].id().starts_with(annotation.as_str().expect("text")), "{annotation}");
    assert!(cluster.secret(PENDING).is_none(), "no key lies about");
    // The planes have nothing of the operator's keys.
    let agent = cluster.entry(AGENT, "agent.json");
    let agent: serde_json::Value = serde_json::from_str(&agent).expect("JSON");
    let secret = agent["given"]["keys"][0]["agentKey"].as_str().expect("text");
    let planes = cluster.entry(names::EGRESS_KEYS, keys::MEMBER);
    assert!(!planes.contains(&secret[..20]), "an agent key");
}

#[tokio::test]
async fn a_bundle_makes_a_member() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    let recipient = cluster.recipient().await;
    let waits = cluster.drive().await.expect("steps").expect("says what it waits for");
    assert!(waits.contains(&recipient.to_string()) && waits.contains("kubectl zen enroll"), "{waits}");
    assert_eq!(cluster.said(), ["NotEnrolled", "NotEnrolled"][..cluster.said().len().min(2)]);
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    cluster.settle().await;
    check(&cluster, &hub);
    assert!(cluster.said().contains(&"Enrolled".to_owned()));
    let asked: Vec<_> = hub.state().asked.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(asked, ["redeem"], "the answer has all that there is to ask for now");
    let done = format!("{:?}", cluster.records.lock().expect("no panic"));
    assert!(done.contains("redeemed a bundle") && done.contains("team-a/prod-eu"), "{done}");
    // Applied again, or taken away: nothing to do.
    let before = cluster.server.received().iter().filter(|received| received.method == "PATCH").count();
    cluster.settle().await;
    cluster.delete("zen-mesh-enrollment");
    cluster.settle().await;
    let after = cluster.server.received().iter().filter(|received| received.method == "PATCH").count();
    assert_eq!(before, after, "a member that has everything writes nothing");
}

/// Each step is taken by a process that ends after it: the next one goes on from what is stored.
#[tokio::test]
async fn a_process_that_ends_after_any_write_is_followed_by_one_that_goes_on() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    let recipient = cluster.recipient().await;
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    let mut steps = 0;
    while cluster.secret(names::EGRESS_KEYS).is_none() || cluster.secret(PENDING).is_some() {
        let (next, _) = cluster.step().await.expect("a step");
        assert_eq!(next, Next::Again);
        steps += 1;
        assert!(steps < 20);
    }
    assert_eq!(steps, 6, "pending, redeem, trust, issuer, keys, drop");
    check(&cluster, &hub);
    assert_eq!(hub.state().asked.len(), 1, "nothing of that asked the hub twice");
}

/// Between the hub's answer and its place, too.
#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    let recipient = cluster.recipient().await;
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    let agent = format!("{SECRETS}/{AGENT}");
    cluster.server.expect(Call::patch(&agent), Reply::unavailable());
    cluster.drive().await.expect_err("the answer has no place");
    assert!(cluster.secret(AGENT).is_none() && cluster.secret(PENDING).is_some());
    cluster.settle().await;
    check(&cluster, &hub);
    let asked = hub.state().asked.clone();
    let keys: BTreeSet<_> = asked.iter().filter(|(kind, _)| *kind == "redeem").map(|(_, key)| *key).collect();
    assert_eq!((asked.len(), keys.len()), (2, 1), "with the same key: {asked:?}");
}

#[tokio::test]
async fn a_hub_whose_other_replica_leads_is_asked_again_at_once() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    hub.state().not_leader = 3;
    cluster.enroll(&hub).await;
    check(&cluster, &hub);
}

/// T-01: a member that lost its state comes back with a new bundle, and with none else.
#[tokio::test]
async fn a_member_that_lost_its_state_is_enrolled_anew() {
    let (cluster, hub) = (Cluster::new(), Hub::start().await);
    cluster.enroll(&hub).await;
    let first = cluster.entry(ISSUER, "tls.crt");
    for name in [AGENT, ISSUER, names::EGRESS_KEYS] {
        cluster.delete(name);
    }
    let steps = cluster.steps(4).await.expect("steps");
    let problem = steps.last().and_then(|(_, problem)| problem.clone()).expect("a problem");
    assert!(problem.starts_with("BundleReused") && problem.contains("spec.bundle"), "{problem}");
    hub.state().enrollment.bundle = "2".to_owned();
    let recipient = cluster.recipient().await;
    cluster.apply(&hub.bundle("team-a/prod-eu", &recipient, Timestamp::now()));
    cluster.settle().await;
    check(&cluster, &hub);
    assert_ne!(cluster.entry(ISSUER, "tls.crt"), first);
    // The key for bundles, too.
    for name in [MEMBER, AGENT, ISSUER, names::EGRESS_KEYS, "zen-mesh-enrollment"] {
        cluster.delete(name);
    }
    let next = cluster.recipient().await;
    assert_ne!(next, recipient);
    hub.state().enrollment.bundle = "3".to_owned();
    cluster.apply(&hub.bundle("team-a/prod-eu", &next, Timestamp::now()));
    cluster.settle().await;
    check(&cluster, &hub);
}
