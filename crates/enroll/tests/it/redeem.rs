//! What the hub takes for a request of a bundle's holder.

use std::time::Duration;

use proptest::prelude::*;
use zen_enroll::proof::{Proof, Request};
use zen_enroll::{Authentic, Received, Redeem, Refused, SecretText, authenticate, path};
use zen_model::reason::{EnrollRefusal as E, TrustRefusal as T};
use zen_model::{ClusterId, Secret, Timestamp};
use zen_pki::{Names, Scope, SpiffeId, issuer_request, signing_request};
use zen_seal::RootKey;

use crate::support::{MADE, WORLD, cluster, csr, domain, opened, redeem, stamp};

fn judged(id: &ClusterId, proof: &str, body: &[u8], now: Timestamp) -> Result<Authentic, Refused> {
    authenticate(&WORLD.branch, &domain(), &Received { cluster: id, proof, body }, now)
}

/// A request with anything in it, proven as its sender can prove it.
fn sent(redeem: &Redeem, key: &Secret, key_id: &str) -> (Vec<u8>, String) {
    let body = serde_json::to_vec(redeem).expect("JSON");
    let request = Request { method: "POST", path: &path(&redeem.cluster), body: &body };
    let proof = Proof::sign(&request, key_id, key, MADE).value();
    (body, proof)
}

#[test]
fn the_holder_of_a_bundle_is_known() {
    let redeem = redeem();
    let (body, proof) = redeem.prove(&opened(), MADE).expect("proven");
    let authentic = judged(&redeem.cluster, &proof.value(), &body, MADE).expect("authentic");
    assert_eq!((&authentic.cluster, &authentic.stamp, &authentic.proof), (&redeem.cluster, &stamp(), &proof));
    let again = judged(&redeem.cluster, &proof.value(), &body, MADE).expect("authentic");
    assert_eq!(again.request.key_digest(), authentic.request.key_digest());
    assert!(!format!("{redeem:?}").contains(&format!("{:?}", redeem.credential.0.expose())));
}

/// What it is, what its sender changed before proving it, and the reason.
type Changed = (&'static str, fn(&mut Redeem), Option<Refused>);

#[test]
fn each_thing_that_is_wrong_has_its_reason() {
    let own = cluster("team-a/prod-eu");
    let key = opened().secrets.key;
    let with = |change: fn(&mut Redeem)| {
        let mut redeem = redeem();
        change(&mut redeem);
        sent(&redeem, &key, "bundle")
    };
    let (body, proof) = with(|_| {});
    let enroll = |reason| Some(Refused::Enroll(reason));
    let csr = |reason| Some(Refused::Trust(reason));
    let late = MADE.plus(Duration::from_millis(300_001));
    let mut rows = vec![
        ("as it is due", own.clone(), (body.clone(), proof.clone()), MADE, None),
        ("in the last moment", own.clone(), (body.clone(), proof.clone()), MADE.plus(Duration::from_mins(5)), None),
        ("too late", own.clone(), (body.clone(), proof.clone()), late, enroll(E::ClockSkew)),
        ("no proof", own.clone(), (body.clone(), String::new()), MADE, enroll(E::RequestMalformed)),
        ("rubbish", own.clone(), (b"rubbish".to_vec(), proof.clone()), MADE, enroll(E::RequestMalformed)),
        (
            "a huge body",
            own.clone(),
            ([body.clone(), vec![b' '; 32 << 10]].concat(), proof.clone()),
            MADE,
            enroll(E::RequestMalformed),
        ),
        ("another key's id", own.clone(), sent(&redeem(), &key, "other"), MADE, enroll(E::RequestMalformed)),
        ("another key", own.clone(), sent(&redeem(), &Secret::new([7; 32]), "bundle"), MADE, enroll(E::BundleTampered)),
        ("to another cluster's path", cluster("team-a/prod-us"), (body, proof), MADE, enroll(E::WrongCluster)),
    ];
    let changes: [Changed; 11] = [
        ("another hub", |redeem| redeem.trust_domain = "other.local".to_owned(), enroll(E::WrongHub)),
        ("another cluster", |redeem| redeem.cluster = cluster("team-b/prod-eu"), enroll(E::WrongCluster)),
        ("another uid", |redeem| redeem.stamp.uid.push('x'), enroll(E::BundleTampered)),
        ("another bundle", |redeem| redeem.stamp.bundle = "2".to_owned(), enroll(E::BundleTampered)),
        ("another time", |redeem| redeem.stamp.issued_at.0 += 1000, enroll(E::BundleTampered)),
        (
            "another credential",
            |redeem| redeem.credential = SecretText(Secret::new([7; 32])),
            enroll(E::BundleTampered),
        ),
        ("no credential", |redeem| redeem.credential = SecretText(Secret::new([])), enroll(E::BundleTampered)),
        ("no signing request", |redeem| redeem.csr.clear(), csr(T::CsrMalformed)),
        (
            "for another cluster's issuing CA",
            |redeem| redeem.csr = crate::support::csr("team-a/prod-us"),
            csr(T::CsrNamesDiffer),
        ),
        (
            "for the hub's issuing CA",
            |redeem| redeem.csr = issuer_request(&domain(), &Scope::Hub).expect("a request").0,
            csr(T::CsrNamesDiffer),
        ),
        (
            "for a workload",
            |redeem| {
                let id = SpiffeId::member(&domain(), &redeem.cluster, "n", "a").expect("an id");
                redeem.csr = signing_request(&Names::Workload(id)).expect("a request").0;
            },
            csr(T::CsrNamesDiffer),
        ),
    ];
    rows.extend(changes.map(|(what, change, refused)| (what, own.clone(), with(change), MADE, refused)));
    for (what, id, (body, proof), now, expected) in rows {
        assert_eq!(judged(&id, &proof, &body, now).err(), expected, "{what}");
    }
}

/// A hub whose root key is another: no bundle of ours says anything there.
#[test]
fn another_hub_of_the_same_name_refuses() {
    let redeem = redeem();
    let (body, proof) = redeem.prove(&opened(), MADE).expect("proven");
    let received = Received { cluster: &redeem.cluster, proof: &proof.value(), body: &body };
    let refused = authenticate(&RootKey::random(), &domain(), &received, MADE).expect_err("another hub");
    assert_eq!(refused, Refused::Enroll(E::BundleTampered));
}

/// A signing request of the right names that its sender has no key for.
#[test]
fn a_key_must_be_proven() {
    let mut redeem = redeem();
    let other = csr("team-a/prod-eu");
    // The signature is at the end of both.
    let at = other.len() - 90;
    redeem.csr.replace_range(at.., &other[at..]);
    let (body, proof) = sent(&redeem, &opened().secrets.key, "bundle");
    let refused = judged(&redeem.cluster, &proof, &body, MADE).expect_err("not proven");
    assert!(matches!(refused, Refused::Trust(T::CsrNotProven | T::CsrMalformed)), "{refused}");
}

proptest! {
    /// Tampered, any byte of what is sent.
    #[test]
    fn every_byte_of_a_request_counts(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let redeem = redeem();
        let (mut body, proof) = redeem.prove(&opened(), MADE).expect("proven");
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        prop_assert!(judged(&redeem.cluster, &proof.value(), &body, MADE).is_err(), "byte {}", at);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300), proof in "\\PC{0,100}") {
        prop_assert!(judged(&cluster("a/b"), &proof, &body, MADE).is_err());
    }
}
