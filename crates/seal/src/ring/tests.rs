use proptest::prelude::*;

use super::*;
use crate::OVERHEAD;

fn aad(id: &str) -> Aad {
    Aad::new("event", &[b"team-a", b"github", id.as_bytes()])
}

#[test]
fn rotation_keeps_old_records_readable_over_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mesh.key");
    let ring = Keyring::load_or_create(&path).expect("made");
    let old = ring.seal(&aad("1"), b"old");
    assert_eq!(ring.rotate().expect("rotates"), 2);
    let new = ring.seal(&aad("2"), b"new");
    assert_ne!(old[1..5], new[1..5], "the envelope names its key");

    let again = Keyring::load_or_create(&path).expect("read");
    assert_eq!(again.current(), 2);
    assert_eq!(again.open(&aad("1"), old).expect("opens"), b"old");
    assert_eq!(again.open(&aad("2"), new).expect("opens"), b"new");
}

#[test]
fn rotation_by_age() {
    let ring = Keyring::ephemeral();
    assert_eq!(ring.rotate_older_than(Duration::from_hours(1)).expect("young"), None);
    let made = ring.keys().newest().wrapped.made;
    assert!(made > 0 && ring.current() == 1);
}

#[test]
fn another_root_key_is_told_apart_from_damage() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("keys");
    Keyring::with_root(RootKey::random(), &path).expect("made");
    assert!(matches!(Keyring::with_root(RootKey::random(), &path), Err(Error::WrongRoot { .. })));
    std::fs::write(&path, "zen-mesh data keys 1\n1 x y\n").expect("write");
    assert!(matches!(Keyring::with_root(RootKey::random(), &path), Err(Error::Damaged { .. })));
}

#[test]
fn unknown_key_and_version_are_named() {
    let ring = Keyring::ephemeral();
    let mut sealed = ring.seal(&aad("1"), b"x");
    sealed[4] = 9;
    assert!(matches!(ring.open(&aad("1"), sealed.clone()), Err(Error::UnknownKey(9))));
    sealed[0] = 2;
    assert!(matches!(ring.open(&aad("1"), sealed), Err(Error::UnknownVersion(2))));
}

#[test]
fn keys_are_in_no_debug_output() {
    let ring = Keyring::ephemeral();
    assert_eq!(format!("{ring:?}"), "Keyring { current: 1, .. }");
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_nothing_else(plain in proptest::collection::vec(any::<u8>(), 0..300),
                                             at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let ring = Keyring::ephemeral();
        let sealed = ring.seal(&aad("1"), &plain);
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
        prop_assert_eq!(ring.open(&aad("1"), sealed.clone()).expect("opens"), plain);
        prop_assert!(ring.open(&aad("2"), sealed.clone()).is_err(), "another event's record");
        let mut flipped = sealed.clone();
        flipped[at.index(sealed.len())] ^= 1 << bit;
        prop_assert!(ring.open(&aad("1"), flipped).is_err(), "a flipped bit");
        prop_assert!(ring.open(&aad("1"), sealed[..at.index(sealed.len())].to_vec()).is_err(), "a cut record");
    }

    #[test]
    fn any_bytes_are_refused_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(Keyring::ephemeral().open(&aad("1"), bytes).is_err());
    }

    #[test]
    fn any_ring_file_is_read_or_refused(text in "(zen-mesh data keys 1\n)?([0-9a-f \n]{0,80})") {
        if let Ok(keys) = stored::parse(&text) {
            prop_assert_eq!(stored::parse(&stored::print(&keys)), Ok(keys));
        }
    }
}
