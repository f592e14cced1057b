//! Redemptions (T-01).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zen_audit::verify::files;
use zen_audit::{Entry, Log, Options};
use zen_enroll::proof::{Proof, Request};
use zen_enroll::{Opened, Redeem, SecretText, path};
use zen_model::{Secret, Timestamp};
use zen_pki::{Names, Scope, SpiffeId, issuer_request, signing_request};
use zen_seal::cluster::{AGENT_BRANCH, ClusterKey};

use super::stage::{Member, Stage, cluster, csr};
use crate::identity::tests::cluster::domain;

const ID: &str = "team-a/prod-eu";

/// A request with anything in it, proven as the holder of this key can prove it.
fn sent(redeem: &Redeem, key: &Secret, key_id: &str, at: Timestamp) -> (Vec<u8>, String) {
    let body = serde_json::to_vec(redeem).expect("JSON");
    let request = Request { method: "POST", path: &path(&redeem.cluster), body: &body };
    let proof = Proof::sign(&request, key_id, key, at).value();
    (body, proof)
}

#[tokio::test]
async fn a_bundle_is_redeemed_once_and_the_same_key_gets_the_same_answer() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::open(Options::new(folder.path(), "zen-operator/zen-operator-0".parse().expect("a writer")));
    let log = log.expect("opens");
    stage.replica.service.audit_to(&log);
    stage.apply(ID, &json!({}));
    let opened = stage.bundle(ID, None).await;
    assert_eq!((opened.clear.hub.as_str(), &opened.cluster), ("https://hub.example.com:8445", &cluster(ID)));
    let (request, key) = csr(&opened.cluster);
    let answer = stage.redeem(&opened, &request).await.expect("enrolled");

    // What it got works, for its own cluster alone.
    let member = Member::of(&opened.cluster, &answer, &key, stage.now());
    assert_eq!(member.ca.scope(), Some(&Scope::Cluster(cluster(ID))));
    member.ca.verify(&stage.roots, stage.now()).expect("verifies under the root");
    assert_eq!(answer.given.relay.as_deref(), Some("relay.example.com:9446"));
    let versions: Vec<_> = answer.given.keys.iter().map(|keys| keys.version).collect();
    assert_eq!(versions, [1_767_225_600], "the second in which the enrollment was made");
    let agent = ClusterKey::derive(&stage.root.branch(AGENT_BRANCH), &cluster(ID), versions[0]);
    let link = ClusterKey::derive(&stage.root.branch("zen/signing"), &cluster(ID), versions[0]);
    assert!(answer.given.keys[0].agent_key.0 == agent.secret() && answer.given.keys[0].link_key.0 == link.secret());
    assert!(answer.issued.not_after.since(stage.now()) > Duration::from_hours(89 * 24));

    let status = stage.phase(ID, "Enrolled").await;
    assert_eq!(status["keyVersion"], 1_767_225_600);
    assert_eq!(status["keys"], json!([{"version": 1_767_225_600}]));
    assert!(status["bundle"]["data"].is_null() && status["bundle"]["usedAt"].is_string(), "{status}");
    assert_eq!(status["bundle"]["usedBy"].as_str().map(str::len), Some(64));

    // Its answer was lost.
    let again = stage.redeem(&opened, &request).await.expect("the same answer");
    assert_eq!(again.issued.not_after, answer.issued.not_after);
    assert_eq!(again.given, answer.given);
    let other = csr(&opened.cluster).0;
    assert_eq!(stage.redeem(&opened, &other).await.expect_err("another key"), "BundleReused");

    log.close().await;
    let mut entries = Vec::new();
    for file in files::expand(&[folder.path().to_owned()]).expect("files") {
        files::lines(&file, |_, line, _| entries.push(Entry::parse(line).expect("an entry"))).expect("readable");
    }
    let of = |action: &str| entries.iter().filter(|entry| entry.action == action).collect::<Vec<_>>();
    let shown: Vec<_> = of("certificate.issue")
        .into_iter()
        .filter(|entry| entry.object == format!("ClusterEnrollment/{ID}"))
        .map(|entry| {
            (entry.who.as_str(), entry.allowed, &*entry.reason, entry.details.get("again").map(String::as_str))
        })
        .collect();
    let who = "spiffe://zen-mesh.local/tenant/team-a/cluster/prod-eu";
    let expected = [(who, true, "", Some("false")), (who, true, "", Some("true")), (who, false, "BundleReused", None)];
    assert_eq!(shown, expected, "{entries:#?}");
    let text = format!("{entries:?}");
    let secrets = [&opened.secrets.credential, &opened.secrets.key];
    assert!(secrets.iter().all(|secret| !text.contains(&STANDARD.encode(secret.expose()))));
    assert!(of("administer").iter().any(|entry| entry.details.get("done").is_some_and(|done| done == "made a bundle")));
}

#[tokio::test]
async fn requests_at_one_time_are_one_redemption() {
    let stage = Stage::start().await;
    stage.apply(ID, &json!({}));
    let opened = stage.bundle(ID, None).await;
    let (request, _) = csr(&opened.cluster);
    let before = stage.writes();
    let (a, b, c) =
        tokio::join!(stage.redeem(&opened, &request), stage.redeem(&opened, &request), stage.redeem(&opened, &request));
    let answers = [a.expect("issued"), b.expect("issued"), c.expect("issued")];
    assert!(
        answers
            .iter()
            .all(|answer| answer.issued.not_after == answers[0].issued.not_after && answer.given == answers[0].given)
    );
    assert_eq!(stage.status(ID)["phase"], "Enrolled");
    assert_eq!(stage.writes() - before, 1);

    stage.apply("team-a/two", &json!({}));
    let opened = stage.bundle("team-a/two", None).await;
    let keys = [csr(&opened.cluster).0, csr(&opened.cluster).0];
    let outcomes = tokio::join!(stage.redeem(&opened, &keys[0]), stage.redeem(&opened, &keys[1]));
    let refused: Vec<_> = [outcomes.0, outcomes.1].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, ["BundleReused"], "one of two keys");
}

/// Every refusal leaves the bundle as it was: afterwards it is redeemed.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn what_is_not_the_holders_request_is_refused_with_its_reason() {
    let stage = Stage::start().await;
    for id in [ID, "team-b/prod-eu"] {
        stage.apply(id, &json!({}));
    }
    let opened = stage.bundle(ID, None).await;
    let foreign = stage.bundle("team-b/prod-eu", None).await;
    let own = path(&opened.cluster);
    let key = opened.secrets.key.clone();
    let now = stage.now();
    let due = || Redeem::new(&opened, csr(&opened.cluster).0);
    let with = |change: &dyn Fn(&mut Redeem)| {
        let mut redeem = due();
        change(&mut redeem);
        sent(&redeem, &key, "bundle", now)
    };
    let proven = |key_id: &str, key: &Secret, at: Timestamp| sent(&due(), key, key_id, at);
    let minutes = |minutes: u64| Duration::from_mins(minutes);
    let (body, proof) = with(&|_| {});
    let workload = || {
        let id = SpiffeId::member(&domain(), &cluster(ID), "zen-mesh", "zen-operator").expect("an id");
        signing_request(&Names::Workload(id)).expect("a request").0
    };
    let rows: Vec<(&str, String, String, Vec<u8>, &str)> = [
        ("another key's id", own.clone(), proven("other", &key, now), "RequestMalformed"),
        ("another key", own.clone(), proven("bundle", &Secret::new([7; 32]), now), "BundleTampered"),
        ("another bundle's key", own.clone(), proven("bundle", &foreign.secrets.key, now), "BundleTampered"),
        ("six minutes late", own.clone(), proven("bundle", &key, Timestamp(now.0 - 360_000)), "ClockSkew"),
        ("six minutes early", own.clone(), proven("bundle", &key, now.plus(minutes(6))), "ClockSkew"),
        ("another tenant's path", path(&foreign.cluster), (body.clone(), proof.clone()), "WrongCluster"),
        ("a path of another spelling", format!("{own}?"), (body.clone(), proof.clone()), "NotFound"),
        ("a path of two spellings", own.replace("prod", "pr%6Fd"), (body.clone(), proof.clone()), "NotFound"),
        ("no cluster", "/v1/enrollments/team-a/".to_owned(), (body.clone(), proof.clone()), "NotFound"),
        ("another route", "/v1/events".to_owned(), (body.clone(), proof.clone()), "NotFound"),
        ("a body that is no JSON", own.clone(), (b"{".to_vec(), proof.clone()), "RequestMalformed"),
        ("a huge body", own.clone(), (vec![b' '; 40 << 10], proof.clone()), "RequestTooLarge"),
        ("another body", own.clone(), ([&body[..], b" "].concat(), proof.clone()), "BundleTampered"),
        ("another hub", own.clone(), with(&|it| it.trust_domain = "other.local".to_owned()), "WrongHub"),
        ("another tenant's id", own.clone(), with(&|it| it.cluster = foreign.cluster.clone()), "WrongCluster"),
        ("another uid", own.clone(), with(&|it| it.stamp.uid.push('x')), "BundleTampered"),
        ("another bundle", own.clone(), with(&|it| it.stamp.bundle = "2".to_owned()), "BundleTampered"),
        ("no credential", own.clone(), with(&|it| it.credential = SecretText(Secret::new([]))), "BundleTampered"),
        (
            "another credential",
            own.clone(),
            with(&|it| it.credential = SecretText(foreign.secrets.credential.clone())),
            "BundleTampered",
        ),
        ("no signing request", own.clone(), with(&|it| it.csr.clear()), "CsrMalformed"),
        ("two signing requests", own.clone(), with(&|it| it.csr = it.csr.repeat(2)), "CsrMalformed"),
        (
            "for another tenant's issuing CA",
            own.clone(),
            with(&|it| it.csr = csr(&foreign.cluster).0),
            "CsrNamesDiffer",
        ),
        (
            "for the hub's issuing CA",
            own.clone(),
            with(&|it| it.csr = issuer_request(&domain(), &Scope::Hub).expect("a request").0),
            "CsrNamesDiffer",
        ),
        ("for a workload", own.clone(), with(&|it| it.csr = workload()), "CsrNamesDiffer"),
        ("for one more name", own.clone(), with(&|it| it.csr = odd(&["spiffe://x/y"], rcgen_p256)), "CsrNamesDiffer"),
        (
            "with a weak RSA key",
            own.clone(),
            with(&|it| it.csr = include_str!("weak/rsa-1024.csr").to_owned()),
            "CsrKeyNotSupported",
        ),
        (
            "with a weak curve",
            own.clone(),
            with(&|it| it.csr = include_str!("weak/p-224.csr").to_owned()),
            "CsrKeyNotSupported",
        ),
        ("with another curve", own.clone(), with(&|it| it.csr = odd(&[], rcgen_p384)), "CsrKeyNotSupported"),
        ("with another kind of key", own.clone(), with(&|it| it.csr = odd(&[], rcgen_ed25519)), "CsrKeyNotSupported"),
    ]
    .map(|(what, path, (body, proof), code)| (what, path, proof, body, code))
    .into();
    for (what, path, proof, body, expected) in rows {
        assert_eq!(stage.code(&path, &proof, body, None).await, expected, "{what}");
    }
    let (status, answer) = stage.raw(&own, None, body.clone(), None).await.expect("an answer");
    assert_eq!((status, answer["code"].as_str()), (400, Some("RequestMalformed")), "no proof");
    // Any byte of what was sent.
    for at in (0..body.len()).step_by(body.len() / 40) {
        let mut changed = body.clone();
        changed[at] ^= 1;
        let code = stage.code(&own, &proof, changed, None).await;
        let known = ["BundleTampered", "RequestMalformed", "WrongHub", "WrongCluster"];
        assert!(known.contains(&code.as_str()), "byte {at}: {code}");
    }
    for at in 0..proof.len() {
        let mut changed = proof.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        let changed = String::from_utf8(changed).expect("ASCII");
        if changed != proof {
            let code = stage.code(&own, &changed, body.clone(), None).await;
            assert!(["BundleTampered", "RequestMalformed"].contains(&code.as_str()), "byte {at}: {code}");
        }
    }
    assert_eq!(stage.status(ID)["phase"], "BundleIssued", "none of that has used it");
    assert_eq!(stage.code(&own, &proof, body.clone(), None).await, "Issued");
    assert_eq!(stage.code(&own, &proof, body, None).await, "RequestReplayed");
}

fn rcgen_p256() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn rcgen_p384() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key")
}

fn rcgen_ed25519() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")
}

/// A request for this cluster's issuing CA, with more names, by any key.
fn odd(more: &[&str], key: fn() -> rcgen::KeyPair) -> String {
    let mut params = rcgen::CertificateParams::default();
    let due = Scope::Cluster(cluster(ID)).prefix(&domain());
    params.subject_alt_names = std::iter::once(due.as_str())
        .chain(more.iter().copied())
        .map(|name| rcgen::SanType::URI(name.try_into().expect("ASCII")))
        .collect();
    params.serialize_request(&key()).expect("a request").pem().expect("PEM")
}

#[tokio::test]
async fn a_bundle_is_void_as_soon_as_another_is_asked_for() {
    let stage = Stage::start().await;
    let member = stage.enroll(ID).await;
    stage.apply(ID, &json!({"bundle": "2"}));
    let second = stage.bundle(ID, None).await;
    assert_eq!(stage.phase(ID, "BundleIssued").await["keys"], json!([{"version": 1_767_225_600}]));
    let identity = member.identity("zen-operator", stage.now());
    let sync = zen_enroll::sync_path(&member.cluster);
    let (body, proof) = member.ask(None, stage.now());
    assert_eq!(stage.code(&sync, &proof.value(), body, Some(&identity)).await, "Issued", "until then it works on");

    // Another recipient, while the bundle waits: the one before is for nobody any more.
    stage.later(Duration::from_secs(2));
    stage.apply(ID, &json!({"bundle": "2", "ttl": "20m"}));
    let third = stage.bundle(ID, Some(&second)).await;
    assert_eq!(stage.redeem(&second, &csr(&cluster(ID)).0).await.expect_err("void"), "BundleVoid");
    let again = stage.member(&third).await;
    assert_eq!(again.key.version(), member.key.version() + 1);
    let (body, proof) = member.ask(None, stage.now());
    assert_eq!(
        stage.code(&sync, &proof.value(), body, Some(&identity)).await,
        "KeyNotAccepted",
        "whoever had the keys before"
    );

    // Deleted and made again under the same name.
    stage.delete(ID);
    stage.until(async || stage.redeem(&third, &csr(&cluster(ID)).0).await == Err("BundleVoid".to_owned())).await;
    stage.apply(ID, &json!({}));
    stage.bundle(ID, None).await;
    assert_eq!(stage.redeem(&third, &csr(&cluster(ID)).0).await.expect_err("another"), "BundleVoid");
}

#[tokio::test]
async fn a_bundle_ends_and_a_disabled_enrollment_gives_nothing() {
    let stage = Stage::start().await;
    stage.apply(ID, &json!({}));
    let first = stage.bundle(ID, None).await;
    stage.later(Duration::from_mins(31));
    assert_eq!(stage.redeem(&first, &csr(&first.cluster).0).await.expect_err("late"), "BundleExpired");
    let status = stage.phase(ID, "Expired").await;
    assert!(status["bundle"]["data"].is_null(), "{status}");

    stage.apply(ID, &json!({"bundle": "2"}));
    let second = stage.bundle(ID, None).await;
    let (request, _) = csr(&second.cluster);
    stage.apply(ID, &json!({"bundle": "2", "disabled": true}));
    assert_eq!(stage.redeem(&second, &request).await.expect_err("disabled"), "EnrollmentDisabled");
    stage.phase(ID, "Disabled").await;
    stage.apply(ID, &json!({"bundle": "2"}));
    let third = stage.bundle(ID, Some(&second)).await;
    assert_eq!(stage.redeem(&second, &request).await.expect_err("void"), "BundleVoid");
    assert!(stage.redeem(&third, &request).await.is_ok());
}

#[tokio::test]
async fn whoever_does_not_lead_says_so() {
    let stage = Stage::with("hub: {url: 'https://hub.example.com:8445'}", false).await;
    let opened = forged(&stage);
    assert_eq!(stage.redeem(&opened, &csr(&opened.cluster).0).await.expect_err("no leader"), "NotLeader");
    stage.workloads.send_replace(super::stage::workloads(""));
    assert_eq!(stage.redeem(&opened, &csr(&opened.cluster).0).await.expect_err("no hub"), "NotFound");
}

/// A bundle that this hub never made, by somebody who knows everything but its root key.
fn forged(stage: &Stage) -> Opened {
    let stamp = zen_enroll::Stamp {
        uid: "u".to_owned(),
        bundle: "1".to_owned(),
        issued_at: Timestamp::from_secs(stage.now().as_secs()),
    };
    let root = zen_seal::RootKey::random().branch(zen_enroll::secrets::BRANCH);
    let secrets = zen_enroll::secrets::Secrets::derive(&root, &cluster(ID), &stamp);
    let roots = stage.replica.service.bundle().expect("roots");
    let about = (&domain(), "https://hub.example.com:8445", &*roots);
    let ttl = Duration::from_mins(30);
    let bundle =
        zen_enroll::Bundle::make(&cluster(ID), &stamp, ttl, about, &secrets, &stage.member.recipient()).expect("made");
    let keys = zen_lock::Keyring::new(vec![stage.member.clone()]);
    bundle.open(&keys, &[], stage.now()).expect("opens")
}

#[tokio::test]
async fn a_forged_bundle_enrolls_nobody() {
    let stage = Stage::start().await;
    let opened = forged(&stage);
    assert_eq!(stage.redeem(&opened, &csr(&opened.cluster).0).await.expect_err("forged"), "BundleTampered");
}
