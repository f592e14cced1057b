//! What an enrolled member asks (T-01, T-05, T-06).

use std::time::Duration;

use serde_json::json;
use zen_enroll::proof::{Proof, Request};
use zen_enroll::{Holds, Sync, Synced, sync_path};
use zen_model::reason::RotationReason;
use zen_model::{Secret, Timestamp};
use zen_pki::{Ca, Identity, Names, Scope, SpiffeId, TrustRoots, signing_request};
use zen_rotation::{Phase, Plan};

use super::stage::{Stage, cluster, csr};
use crate::identity::tests::cluster::domain;

const ID: &str = "team-a/prod-eu";

#[tokio::test]
async fn a_member_is_told_what_changed_and_its_issuing_ca_is_renewed() {
    let stage = Stage::start().await;
    let member = stage.enroll(ID).await;
    let path = sync_path(&member.cluster);
    let identity = member.identity("zen-operator", stage.now());
    stage.until(async || stage.status(ID)["connected"] == true).await;
    let (body, proof) = member.ask(None, stage.now());
    let (status, answer) = stage.raw(&path, Some(&proof.value()), body, Some(&identity)).await.expect("an answer");
    let told: Synced = serde_json::from_value(answer).expect("told");
    assert_eq!((status, &told.given, &told.issued), (200, &member.answer.given, &None));

    let mut settings = (*stage.workloads.borrow().content.clone().expect("settings")).clone();
    settings.hub.as_mut().expect("a hub").relay = "other.example.com:9446".to_owned();
    stage.workloads.send_modify(|now| now.content = Some(settings.into()));
    stage.later(Duration::from_mins(40));
    let identity = member.identity("zen-operator", Timestamp::now());
    let (request, key) = csr(&member.cluster);
    let (body, proof) = member.ask(Some(request), stage.now());
    let (_, answer) = stage.raw(&path, Some(&proof.value()), body, Some(&identity)).await.expect("an answer");
    let told: Synced = serde_json::from_value(answer).expect("told");
    assert_eq!(told.given.relay.as_deref(), Some("other.example.com:9446"));
    let issued = told.issued.expect("renewed");
    let ca = Ca::from_pem(&issued.chain, &key, "the new one", &domain(), stage.now()).expect("of the key");
    assert_eq!(ca.scope(), Some(&Scope::Cluster(cluster(ID))));
    assert_eq!(ca.validity().until, issued.not_after);
    assert!(issued.not_after > member.answer.issued.not_after.plus(Duration::from_mins(39)));
    let expires = written(issued.not_after);
    stage.until(async || stage.status(ID)["certificateExpiresAt"] == expires.as_str()).await;

    // Nobody asks any more.
    stage.later(Duration::from_mins(2));
    stage.until(async || stage.status(ID)["connected"] == false).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &stage.registry).expect("encoded");
    for line in [
        "member_certificates_total{how=\"redeemed\"} 1",
        "member_certificates_total{how=\"renewed\"} 1",
        "member_syncs_total 2",
        "clusters{phase=\"Enrolled\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// T-04, T-01: while the root is exchanged a member is told which one its issuing CA is to be beneath, and renewed beneath it.
#[tokio::test]
async fn a_member_goes_with_the_root_once_its_pods_trust_it() {
    let stage = Stage::start().await;
    let member = stage.enroll(ID).await;
    let path = sync_path(&member.cluster);
    let old = stage.root();
    assert_eq!(member.answer.given.root.as_ref(), Some(&old));
    assert_eq!(stage.status(ID)["certificateRoot"], old.as_str());
    let ask = async |csr: Option<String>, roots: &[&String]| {
        let identity = member.identity("zen-operator", stage.now());
        let roots = roots.iter().map(|root| (*root).clone()).collect();
        let holds = Some(Holds { roots, issuer: member.ca.fingerprint() });
        let sync = Sync { cluster: member.cluster.clone(), csr, holds };
        let (body, proof) = sync.prove(member.key.id(), &member.key.agent(), stage.now()).expect("proven");
        let (_, answer) = stage.raw(&path, Some(&proof.value()), body, Some(&identity)).await.expect("an answer");
        serde_json::from_value::<Synced>(answer).expect("told")
    };
    let new = stage.exchange_root(Phase::RollingOut).await;
    // Its pods do not trust the new yet, and then not for long enough.
    assert_eq!(ask(None, &[&old]).await.given.root.as_ref(), Some(&old));
    let told = ask(None, &[&old, &new]).await;
    assert_eq!(told.given.root.as_ref(), Some(&old));
    assert_eq!(zen_pki::certificates(&told.given.roots).len(), 2, "both are trusted");
    stage.later(Plan::default().settle());
    assert_eq!(ask(None, &[&old, &new]).await.given.root.as_ref(), Some(&new));
    let (request, key) = csr(&member.cluster);
    let issued = ask(Some(request), &[&old, &new]).await.issued.expect("renewed");
    let ca = Ca::from_pem(&issued.chain, &key, "the new one", &domain(), stage.now()).expect("of the key");
    let is_beneath = |root: &str| {
        let bundle = stage.replica.service.bundle().expect("roots");
        ca.verify(&TrustRoots::single(&bundle, root).expect("it is one of them"), stage.now()).is_ok()
    };
    assert!(is_beneath(&new) && !is_beneath(&old));
    stage.until(async || stage.status(ID)["certificateRoot"] == new.as_str()).await;
    // From then on that is its root, whatever it says; and the old one again when all goes back.
    assert_eq!(ask(None, &[&old]).await.given.root.as_ref(), Some(&new));
    stage.exchange_root(Phase::RollingBack { failure: RotationReason::RotationAborted }).await;
    assert_eq!(ask(None, &[&old, &new]).await.given.root.as_ref(), Some(&old));
    ask(Some(csr(&member.cluster).0), &[&old, &new]).await.issued.expect("renewed");
    stage.until(async || stage.status(ID)["certificateRoot"] == old.as_str()).await;
    let clusters = stage.hub.clusters().borrow().clone().expect("known");
    assert_eq!(clusters[0].told.as_ref().map(|told| told.holds.issuer.clone()), Some(member.ca.fingerprint()));
}

fn written(at: Timestamp) -> String {
    serde_json::to_value(super::super::state::time(at)).expect("JSON").as_str().expect("text").to_owned()
}

/// What it is, its path, body and proof, who sends it, and the code.
type Row<'a> = (&'a str, &'a str, (Vec<u8>, String), Option<&'a Identity>, &'a str);

#[tokio::test]
async fn what_is_not_the_members_request_is_refused_with_its_reason() {
    let stage = Stage::start().await;
    let member = stage.enroll(ID).await;
    let other = stage.enroll("team-b/prod-eu").await;
    let now = stage.now();
    let identity = member.identity("zen-operator", now);
    let foreign = other.identity("zen-operator", now);
    let (own, theirs) = (sync_path(&member.cluster), sync_path(&other.cluster));
    let agent = member.key.agent();
    let signed = |sync: &Sync, path: &str, id: &str, key: &Secret, at: Timestamp| {
        let body = serde_json::to_vec(sync).expect("JSON");
        let proof = Proof::sign(&Request { method: "POST", path, body: &body }, id, key, at).value();
        (body, proof)
    };
    let plain = Sync { cluster: member.cluster.clone(), csr: None, holds: None };
    let id = member.key.id().to_owned();
    let of = |sync: &Sync| signed(sync, &own, &id, &agent, now);
    let asking = |csr: String| of(&Sync { cluster: member.cluster.clone(), csr: Some(csr), holds: None });
    let workload = {
        let id = SpiffeId::member(&domain(), &member.cluster, "zen-mesh", "zen-operator").expect("an id");
        signing_request(&Names::Workload(id)).expect("a request").0
    };
    let (body, proof) = of(&plain);
    let late = Timestamp(now.0 - 360_000);
    let made_up = format!("{}-{}", id.split('-').next().expect("an id"), member.key.version() + 1);
    let rows: Vec<Row<'_>> = vec![
        ("no certificate", &own, (body.clone(), proof.clone()), None, "ClientCertificateMissing"),
        ("another tenant's certificate", &own, (body.clone(), proof.clone()), Some(&foreign), "ClusterForeign"),
        ("another tenant's path", &theirs, (body.clone(), proof.clone()), Some(&identity), "ClusterForeign"),
        (
            "another tenant's id in the body",
            &own,
            of(&Sync { cluster: other.cluster.clone(), csr: None, holds: None }),
            Some(&identity),
            "WrongCluster",
        ),
        (
            "another tenant's key",
            &own,
            signed(&plain, &own, other.key.id(), &other.key.agent(), now),
            Some(&identity),
            "KeyNotAccepted",
        ),
        (
            "another tenant's key under our id",
            &own,
            signed(&plain, &own, &id, &other.key.agent(), now),
            Some(&identity),
            "ProofInvalid",
        ),
        (
            "a version that is none",
            &own,
            signed(&plain, &own, &made_up, &agent, now),
            Some(&identity),
            "KeyNotAccepted",
        ),
        ("the link key", &own, signed(&plain, &own, &id, &member.key.link(), now), Some(&identity), "ProofInvalid"),
        ("of another path", &own, signed(&plain, &theirs, &id, &agent, now), Some(&identity), "ProofInvalid"),
        ("six minutes late", &own, signed(&plain, &own, &id, &agent, late), Some(&identity), "ClockSkew"),
        (
            "six minutes early",
            &own,
            signed(&plain, &own, &id, &agent, now.plus(Duration::from_mins(6))),
            Some(&identity),
            "ClockSkew",
        ),
        ("another body", &own, ([&body[..], b" "].concat(), proof.clone()), Some(&identity), "ProofInvalid"),
        ("no body", &own, (Vec::new(), proof.clone()), Some(&identity), "RequestMalformed"),
        ("a huge body", &own, (vec![b' '; 40 << 10], proof.clone()), Some(&identity), "RequestTooLarge"),
        ("no proof", &own, (body.clone(), String::new()), Some(&identity), "RequestMalformed"),
        ("for another tenant's issuing CA", &own, asking(csr(&other.cluster).0), Some(&identity), "CsrNamesDiffer"),
        ("for a workload", &own, asking(workload), Some(&identity), "CsrNamesDiffer"),
        ("for nothing readable", &own, asking("x".to_owned()), Some(&identity), "CsrMalformed"),
    ];
    for (what, path, (body, proof), identity, expected) in rows {
        assert_eq!(stage.code(path, &proof, body, identity).await, expected, "{what}");
    }
    // Whoever may do nothing here does not get through the handshake.
    for account in ["zen-egress", "zen-ingester", "default"] {
        let identity = member.identity(account, now);
        let refused = stage.raw(&own, Some(&proof), body.clone(), Some(&identity)).await;
        assert!(refused.is_err(), "{account}: {refused:?}");
    }
    assert_eq!(stage.code(&own, &proof, body.clone(), Some(&identity)).await, "Issued");
    assert_eq!(stage.code(&own, &proof, body, Some(&identity)).await, "RequestReplayed");
    for number in 0..24 {
        let (body, proof) = member.ask(None, stage.now());
        let code = stage.code(&own, &proof.value(), body, Some(&identity)).await;
        if code == "RateLimited" {
            assert!(number > 10, "a burst is let through");
            return;
        }
    }
    panic!("no limit");
}

#[tokio::test]
async fn what_was_revoked_counts_no_more() {
    let stage = Stage::start().await;
    let member = stage.enroll(ID).await;
    let path = sync_path(&member.cluster);
    let identity = member.identity("zen-operator", stage.now());
    let ask = async |csr: Option<String>| {
        let (body, proof) = member.ask(csr, stage.now());
        stage.code(&path, &proof.value(), body, Some(&identity)).await
    };
    assert_eq!(ask(None).await, "Issued");
    stage.apply(ID, &json!({"disabled": true}));
    stage.until(async || ask(None).await == "EnrollmentDisabled").await;
    let status = stage.phase(ID, "Disabled").await;
    assert!(status["keys"].is_null() && status["keyVersion"] == member.key.version(), "{status}");
    // Let in again: with the keys of before nobody is.
    stage.apply(ID, &json!({}));
    let opened = stage.bundle(ID, None).await;
    assert_eq!(ask(Some(csr(&member.cluster).0)).await, "KeyNotAccepted");
    let again = stage.member(&opened).await;
    assert_eq!(again.key.version(), member.key.version() + 1);
    stage.delete(ID);
    stage.until(async || ask(None).await == "EnrollmentUnknown").await;
}
