//! What a member takes for a bundle.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use zen_enroll::secrets::Secrets;
use zen_enroll::{Bundle, OpenError, bundle as of_bundle};
use zen_lock::{Identity, Keyring};
use zen_model::reason::EnrollRefusal as R;
use zen_model::{Secret, Timestamp};
use zen_pki::Ca;

use crate::support::{MADE, TTL, WORLD, bundle, bundle_of, cluster, domain, keys, stamp};

#[test]
fn what_the_hub_made_the_member_opens() {
    let opened = bundle().open(&keys(), &[], MADE.plus(Duration::from_mins(29))).expect("opens");
    assert_eq!((opened.cluster, opened.stamp), (cluster("team-a/prod-eu"), stamp()));
    assert_eq!((opened.clear.hub.as_str(), opened.clear.expires_at), ("https://hub.example.com:9443", MADE.plus(TTL)));
    assert_eq!(opened.roots, WORLD.roots);
    let secrets = Secrets::derive(&WORLD.branch, &cluster("team-a/prod-eu"), &stamp());
    assert!(opened.secrets.key == secrets.key && secrets.is_credential(&opened.secrets.credential));
}

#[test]
fn the_manifest_is_a_secret_with_just_these_values() {
    let bundle = bundle();
    let text = bundle.manifest("zen-mesh");
    let parsed: BTreeMap<String, serde_json::Value> = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(parsed["kind"], "Secret");
    assert_eq!(parsed["metadata"]["name"], of_bundle::SECRET);
    assert_eq!(parsed["metadata"]["namespace"], "zen-mesh");
    assert_eq!(parsed["type"], of_bundle::SECRET_TYPE);
    let data = parsed["stringData"].as_object().expect("a map");
    assert_eq!(data.len(), 2);
    let value = |key: &str| data[key].as_str().expect("text");
    assert_eq!((value(of_bundle::CLEAR), value(of_bundle::SEALED)), bundle.data());
    Bundle::from_data(value(of_bundle::CLEAR), value(of_bundle::SEALED))
        .and_then(|bundle| bundle.open(&keys(), &[], MADE))
        .expect("opens");
    assert!(
        text.starts_with(
            "# Enrolls this cluster as team-a/prod-eu with https://hub.example.com:9443, once, before 2023-"
        )
    );
    // In clear: who and where. Sealed: what only the member may have.
    let secrets = Secrets::derive(&WORLD.branch, &cluster("team-a/prod-eu"), &stamp());
    for secret in [&secrets.credential, &secrets.key] {
        assert!(!text.contains(&hex::encode(secret.expose())));
    }
    assert!(!text.contains("BEGIN CERTIFICATE"));
    assert!(!format!("{:?}", bundle.open(&keys(), &[], MADE)).contains(&format!("{:?}", secrets.key.expose())));
}

/// What it is, with which keys, which roots expected, when, and the reason.
type Row<'a> = (&'static str, &'a Keyring, Vec<String>, Timestamp, Option<R>);

#[test]
fn when_and_by_whom_a_bundle_is_not_used() {
    let stranger = Keyring::new(vec![Identity::generate()]);
    let root_of = |roots: &str| of_bundle::fingerprint(roots).expect("a root");
    let (own, other) = (root_of(&WORLD.roots), {
        let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
        root_of(root.certificate_pem())
    });
    let keys = keys();
    let rows: [Row<'_>; 8] = [
        ("as it is due", &keys, vec![], MADE, None),
        ("of the hub that is expected", &keys, vec![other.clone(), own.clone()], MADE, None),
        ("of another hub", &keys, vec![other], MADE, Some(R::WrongHub)),
        ("for another cluster", &stranger, vec![], MADE, Some(R::WrongCluster)),
        ("just before its end", &keys, vec![], Timestamp(MADE.plus(TTL).0 - 1), None),
        ("at its end", &keys, vec![], MADE.plus(TTL), Some(R::BundleExpired)),
        ("a clock a little behind", &keys, vec![], Timestamp(MADE.0 - 300_000), None),
        ("a clock far behind", &keys, vec![], Timestamp(MADE.0 - 300_001), Some(R::ClockSkew)),
    ];
    for (what, keys, pins, now, expected) in rows {
        let refused = bundle().open(keys, &pins, now).err().map(|error| error.reason());
        assert_eq!(refused, expected, "{what}");
    }
}

/// The roots that the member was told to expect are the only ones: another beside them would let its owner in as well.
#[test]
fn every_root_must_be_expected() {
    let other = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    let roots = format!("{}{}", WORLD.roots, other.certificate_pem());
    let (id, domain) = (cluster("team-a/prod-eu"), domain());
    let secrets = Secrets::derive(&WORLD.branch, &id, &stamp());
    let hub = (&domain, "https://hub.example.com", roots.as_str());
    let both = Bundle::make(&id, &stamp(), TTL, hub, &secrets, &WORLD.member.recipient()).expect("a bundle");
    let pin = of_bundle::fingerprint(&WORLD.roots).expect("a root");
    let refused = both.open(&keys(), std::slice::from_ref(&pin), MADE).expect_err("one is not expected");
    assert_eq!(refused.reason(), R::WrongHub);
    let second = of_bundle::fingerprint(other.certificate_pem()).expect("a root");
    both.open(&keys(), &[pin, second], MADE).expect("both are");
}

/// Parts of two bundles of the same hub for the same member.
#[test]
fn a_part_of_another_bundle_is_seen() {
    let later = zen_enroll::Stamp { bundle: "2".to_owned(), ..stamp() };
    let (one, other) = (bundle(), bundle_of("team-a/prod-eu", &later));
    let mixed = Bundle::from_data(one.data().0, other.data().1).expect("reads");
    assert_eq!(mixed.open(&keys(), &[], MADE).expect_err("mixed"), OpenError::Tampered);
    let respelled = one.data().0.replace("\"version\":1", "\"version\": 1");
    let respelled = Bundle::from_data(&respelled, one.data().1).expect("reads");
    assert_eq!(respelled.open(&keys(), &[], MADE).expect_err("another spelling"), OpenError::Tampered);
}

#[test]
fn what_no_bundle_may_hold_is_not_made_and_not_read() {
    let made = |id: &str, change: fn(&mut zen_enroll::Stamp), hub: &str, roots: &str, ttl: Duration| {
        let mut stamp = stamp();
        change(&mut stamp);
        let (id, domain) = (cluster(id), domain());
        let secrets = Secrets::derive(&WORLD.branch, &id, &stamp);
        Bundle::make(&id, &stamp, ttl, (&domain, hub, roots), &secrets, &WORLD.member.recipient())
    };
    let (hub, roots) = ("https://hub.example.com", WORLD.roots.as_str());
    assert!(made("a/b", |_| {}, hub, roots, TTL).is_ok());
    for hub in ["", "http://hub", "https://", "https://hub/path", "https://u@hub", "https://hub'x", "https://hub\n"] {
        assert!(made("a/b", |_| {}, hub, roots, TTL).is_err(), "{hub:?}");
    }
    assert!(made("a/b", |_| {}, hub, "", TTL).is_err(), "no root");
    assert!(made("a/b", |_| {}, hub, "-----BEGIN CERTIFICATE-----\n!\n", TTL).is_err(), "no certificate");
    assert!(made("a/b", |_| {}, hub, roots, Duration::ZERO).is_err(), "no time");
    assert!(made("a/b", |stamp| stamp.uid.clear(), hub, roots, TTL).is_err());
    assert!(made("a/b", |stamp| stamp.bundle = "1'".to_owned(), hub, roots, TTL).is_err());
    assert!(made("a/b", |stamp| stamp.issued_at.0 += 1, hub, roots, TTL).is_err(), "a part of a second");

    let (clear, sealed) = (bundle().data().0.to_owned(), bundle().data().1.to_owned());
    for wrong in [
        String::new(),
        "{}".to_owned(),
        clear.replace("\"version\":1", "\"version\":2"),
        clear.replace("\"version\":1", "\"version\":1,\"more\":1"),
        clear.replace("team-a", "Team-A"),
        clear.replace("team-a", "../team-b"),
        clear.replace("https:", "http:"),
        format!("{clear}{}", " ".repeat(4 << 10)),
    ] {
        let refused = Bundle::from_data(&wrong, &sealed).expect_err("malformed");
        assert_eq!(refused.reason(), R::BundleMalformed, "{wrong}");
    }
    for (sealed, reason) in [
        (String::new(), R::BundleMalformed),
        ("rubbish".to_owned(), R::BundleMalformed),
        (zen_lock::seal(&Secret::new("{}"), &[WORLD.member.recipient()]).expect("sealed"), R::BundleMalformed),
    ] {
        let refused = Bundle::from_data(&clear, &sealed).and_then(|bundle| bundle.open(&keys(), &[], MADE).map(drop));
        assert_eq!(refused.expect_err("refused").reason(), reason, "{sealed}");
    }
}

/// T-01: tampered, any byte. One flipped bit at each place of both parts, one after the other.
#[test]
fn every_byte_counts() {
    let bundle = bundle();
    let (clear, sealed) = bundle.data();
    let refuses = |clear: &[u8], sealed: &[u8]| match (std::str::from_utf8(clear), std::str::from_utf8(sealed)) {
        (Ok(clear), Ok(sealed)) => {
            Bundle::from_data(clear, sealed).and_then(|bundle| bundle.open(&keys(), &[], MADE)).is_err()
        }
        _ => true,
    };
    assert!(!refuses(clear.as_bytes(), sealed.as_bytes()));
    for (part, text) in [clear, sealed].into_iter().enumerate() {
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            // The line end after the armour says nothing; that it is one is not worth refusing for.
            if part == 1 && text.as_bytes()[at] == b'\n' && at + 1 == text.len() {
                continue;
            }
            let seen =
                if part == 0 { refuses(&changed, sealed.as_bytes()) } else { refuses(clear.as_bytes(), &changed) };
            assert!(seen, "part {part}, byte {at}, {:?}", &text[at..=at]);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_bundle(clear in "\\PC{0,200}", sealed in "\\PC{0,200}") {
        let refused = Bundle::from_data(&clear, &sealed).and_then(|bundle| bundle.open(&keys(), &[], MADE));
        prop_assert!(refused.is_err());
        let own = bundle();
        let refused = Bundle::from_data(own.data().0, &sealed).and_then(|bundle| bundle.open(&keys(), &[], MADE));
        prop_assert!(refused.is_err());
    }
}
