//! The form of a sealed record.
//!
//! `version (1) ‖ key id (4, big endian) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`
//!
//! AES-256-GCM (NIST SP 800-38D). Nonces are deterministic within a process, see [`Nonces`].

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{self, LessSafeKey, Nonce};

use crate::Error;

/// Version byte of the records that this build writes.
pub const VERSION: u8 = 1;
/// Bytes that sealing adds.
pub const OVERHEAD: usize = HEADER + TAG;

const HEADER: usize = 1 + 4 + 12;
const TAG: usize = 16;

/// What a record is bound to: it opens only under the same label and parts, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aad(Vec<u8>);

impl Aad {
    /// `label` separates kinds of records; parts are length-prefixed, so that no two lists read alike.
    pub fn new(label: &str, parts: &[&[u8]]) -> Self {
        Self(info(label, parts))
    }
}

/// Label and parts, each with its length before it.
pub(crate) fn info(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len() + 4).sum::<usize>() + label.len() + 4;
    let mut bytes = Vec::with_capacity(length);
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Nonces that never repeat under one key: 4 random bytes and a 64-bit counter that begins at a random number, both drawn
/// when the ring is loaded. Inside a process the counter alone makes them distinct. Two processes would have to
/// draw the same 4 bytes and overlapping counter ranges: for 2^40 records each that is less than 2^-54 a pair.
#[derive(Debug)]
pub(crate) struct Nonces {
    prefix: [u8; 4],
    counter: AtomicU64,
}

impl Nonces {
    pub(crate) fn random() -> Self {
        let mut prefix = [0; 4];
        let mut start = [0; 8];
        crate::ring::random(&mut prefix);
        crate::ring::random(&mut start);
        Self { prefix, counter: AtomicU64::new(u64::from_be_bytes(start)) }
    }

    pub(crate) fn next(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.prefix);
        nonce[4..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        nonce
    }
}

/// Seals into one new buffer, reading the plaintext where it lies: one pass, no copy of it.
pub(crate) fn seal(key: &LessSafeKey, key_id: u32, nonce: [u8; 12], aad: &Aad, plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; plain.len() + OVERHEAD];
    sealed[0] = VERSION;
    sealed[1..5].copy_from_slice(&key_id.to_be_bytes());
    sealed[5..HEADER].copy_from_slice(&nonce);
    let (text, tag) = sealed[HEADER..].split_at_mut(plain.len());
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_out_of_place_scatter(nonce, aead::Aad::from(&aad.0), plain, text, &[], tag)
        .expect("the buffers have the lengths that the cipher asks for, and the text is shorter than 64 GiB");
    sealed
}

/// The id of the key that a record names.
pub(crate) fn key_id(sealed: &[u8]) -> Result<u32, Error> {
    match sealed {
        [VERSION, a, b, c, d, ..] if sealed.len() >= OVERHEAD => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [VERSION, ..] | [] => Err(Error::Tampered),
        [version, ..] => Err(Error::UnknownVersion(*version)),
    }
}

/// Opens in place; on success `sealed` holds nothing but the plaintext.
pub(crate) fn open(key: &LessSafeKey, aad: &Aad, sealed: &mut Vec<u8>) -> Result<(), Error> {
    let nonce = sealed.get(5..HEADER).and_then(|nonce| nonce.try_into().ok()).ok_or(Error::Tampered)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = key.open_within(nonce, aead::Aad::from(&aad.0), sealed, HEADER..).map_err(|_| Error::Tampered)?.len();
    sealed.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        assert_ne!(Aad::new("a", &[b"bc", b"d"]), Aad::new("a", &[b"b", b"cd"]));
        assert_ne!(Aad::new("ab", &[b"c"]), Aad::new("a", &[b"bc"]));
        assert_ne!(Aad::new("a", &[b"", b"b"]), Aad::new("a", &[b"b", b""]));
    }

    #[test]
    fn nonces_of_a_process_are_distinct_across_the_wrap() {
        let nonces = Nonces { prefix: [1; 4], counter: AtomicU64::new(u64::MAX - 1) };
        let seen: std::collections::BTreeSet<_> = (0..4).map(|_| nonces.next()).collect();
        assert_eq!(seen.len(), 4);
    }
}
