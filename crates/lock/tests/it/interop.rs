//! What the public age tool writes opens here, and what is sealed here it opens (Z-01).

use std::fs;

use zen_lock::{Identity, IdentityError, Keyring, OpenError, Recipient, RecipientError, seal};
use zen_model::Secret;

use crate::oracle::run;

/// Around the boundaries of age's chunks, and the most that a key may have.
const SIZES: [usize; 7] = [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 300_000, zen_lock::MAX_PLAINTEXT];

fn plaintext(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * 31 % 251).expect("below 251")).collect()
}

/// A key pair of age-keygen: its file, and the identity that is read from it.
fn pair() -> (tempfile::TempDir, String, Identity) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key.txt").to_str().expect("a path").to_owned();
    run("age-keygen", &["-o", &file], b"").expect("a key");
    let text = fs::read_to_string(&file).expect("the file");
    let mut identities = Identity::parse_file(&text).expect("age-keygen's file is read");
    (folder, file, identities.remove(0))
}

#[test]
fn the_age_tool_opens_what_is_sealed_here() {
    let (_folder, file, identity) = pair();
    let to = [Identity::generate().recipient(), identity.recipient()];
    for size in SIZES {
        let sealed = seal(&Secret::new(plaintext(size)), &to).expect("seals");
        let opened = run("age", &["--decrypt", "--identity", &file], sealed.as_bytes()).expect("age opens it");
        assert!(opened == plaintext(size), "of {size} bytes");
    }
    let others = seal(&Secret::new("x"), &[Identity::generate().recipient()]).expect("seals");
    let refused = run("age", &["--decrypt", "--identity", &file], others.as_bytes()).expect_err("another's");
    assert!(refused.contains("no identity matched"), "{refused}");
}

#[test]
fn what_the_age_tool_writes_opens_here() {
    let (_folder, _, identity) = pair();
    let (ours, other) = (identity.recipient().to_string(), Identity::generate().recipient().to_string());
    let ring = Keyring::new(vec![identity]);
    for size in SIZES {
        let arguments = ["--encrypt", "--armor", "--recipient", &other, "--recipient", &ours];
        let sealed = String::from_utf8(run("age", &arguments, &plaintext(size)).expect("age writes it")).expect("text");
        let opened = ring.open(&sealed).expect("opens");
        assert!(opened.plaintext == Secret::new(plaintext(size)), "of {size} bytes");
        assert_eq!((opened.with.as_str(), opened.newest), (ours.as_str(), true));
    }
    let sealed = run("age", &["--encrypt", "--armor", "--recipient", &other], b"x").expect("age writes it");
    let refused = ring.open(&String::from_utf8(sealed).expect("text")).expect_err("another's");
    assert_eq!(refused, OpenError::UnknownKey);
}

#[test]
fn keys_are_interchangeable() {
    let (folder, file, identity) = pair();
    let public = run("age-keygen", &["-y", &file], b"").expect("the public key");
    let public: Recipient = String::from_utf8(public).expect("text").parse().expect("a public key");
    assert_eq!(public, identity.recipient());
    let ours = Identity::generate();
    let file = folder.path().join("ours.txt");
    fs::write(&file, ours.to_file("2026-01-02T03:04:05Z".parse().expect("a time")).expose()).expect("writes");
    let public = run("age-keygen", &["-y", file.to_str().expect("a path")], b"").expect("age-keygen reads ours");
    assert_eq!(String::from_utf8(public).expect("text").trim(), ours.recipient().as_str());
}

#[test]
fn post_quantum_keys_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pq.txt").to_str().expect("a path").to_owned();
    run("age-keygen", &["-pq", "-o", &file], b"").expect("a key");
    let text = fs::read_to_string(&file).expect("the file");
    assert_eq!(Identity::parse_file(&text).expect_err("of another kind"), IdentityError::NotX25519 { line: 3 });
    let public = String::from_utf8(run("age-keygen", &["-y", &file], b"").expect("its public key")).expect("text");
    assert_eq!(public.parse::<Recipient>(), Err(RecipientError::NotX25519));
    let sealed = run("age", &["--encrypt", "--armor", "--recipient", public.trim()], b"x").expect("age writes it");
    let refused = zen_lock::inspect(&String::from_utf8(sealed).expect("text")).expect_err("of another kind");
    assert_eq!(refused, OpenError::NoX25519Recipient);
}
