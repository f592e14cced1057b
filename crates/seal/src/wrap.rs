//! A secret that lies where others may read it, sealed under one that does not lie there.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf;
use zen_model::Secret;
use zeroize::Zeroizing;

use crate::{Aad, Error, envelope};

/// Of the derivation: the other secret may have further uses.
const LABEL: &str = "zen-mesh wrap 1";

/// Seals `secret` under `other`, bound to `aad`: AES-256-GCM with a key of HKDF-SHA256 (RFC 5869) over `other`, which must
/// have at least 256 bits that nobody can guess. The nonce is random: for some thousand secrets under one other.
pub fn wrap(other: &Secret, aad: &Aad, secret: &Secret) -> Vec<u8> {
    let mut nonce = [0; 12];
    crate::ring::random(&mut nonce);
    envelope::seal(&key(other), 0, nonce, aad, secret.expose())
}

/// Whether this begins as what [`wrap`] writes.
pub fn is_wrapped(bytes: &[u8]) -> bool {
    bytes.first() == Some(&envelope::VERSION)
}

/// Opens what [`wrap`] sealed.
///
/// # Errors
/// [`Error::Tampered`] for another `other`, another `aad` and changed bytes, [`Error::UnknownVersion`] for what is none.
pub fn unwrap(other: &Secret, aad: &Aad, mut wrapped: Vec<u8>) -> Result<Secret, Error> {
    envelope::key_id(&wrapped)?;
    envelope::open(&key(other), aad, &mut wrapped)?;
    Ok(Secret::new(wrapped))
}

fn key(other: &Secret) -> LessSafeKey {
    let info = envelope::info(LABEL, &[]);
    let mut bytes = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(other.expose())
        .expand(&[&info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *bytes))
        .expect("32 bytes are within HKDF's bound of 255 blocks");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).expect("a key of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_under_the_same_secret_and_place_alone() {
        let (other, secret) = (Secret::new("a key that nobody can guess: 256 bits"), Secret::new("the key"));
        let place = Aad::new("issuer", &[b"zen-mesh"]);
        let wrapped = wrap(&other, &place, &secret);
        assert!(is_wrapped(&wrapped) && !is_wrapped(b"-----BEGIN PRIVATE KEY-----") && !is_wrapped(b""));
        assert!(!wrapped.windows(7).any(|window| window == b"the key"));
        assert_eq!(unwrap(&other, &place, wrapped.clone()).expect("opens").expose(), b"the key");
        assert_ne!(wrap(&other, &place, &secret), wrapped, "a nonce of its own");
        let rows = [(Secret::new("another"), place.clone()), (other.clone(), Aad::new("issuer", &[b"other"]))];
        for (other, place) in rows {
            assert!(matches!(unwrap(&other, &place, wrapped.clone()), Err(Error::Tampered)));
        }
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            // The key's id, which this form has no use for, is bound by its place alone.
            let unused = (1..5).contains(&at);
            assert_eq!(unwrap(&other, &place, changed).is_ok(), unused, "byte {at}");
        }
        unwrap(&other, &place, Vec::new()).expect_err("nothing");
    }
}
