//! What an enrolled member asks (T-01, T-05, T-06).

use std::time::Duration;

use serde_json::json;
use zen_enroll::proof::{Proof, Request};
use zen_enroll::{Sync, Synced, sync_path};
use zen_model::{Secret, Timestamp};
use zen_pki::{Ca, Identity, Names, Scope, SpiffeId, signing_request};

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
