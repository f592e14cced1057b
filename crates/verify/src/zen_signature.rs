//! `X-Zen-Signature`: `v=1,t=<unix seconds>,n=<nonce>,k=<key id>,s=<base64url HMAC-SHA256>` over
//! `1.<t>.<n>.<k>.<event id>.<SHA-256 of the body, hex>` (W-12).
//!
//! No part of the signed text but the event id may contain a dot, and the hash after it has a fixed length, so that no
//! two different sets of fields give one text.
//!
//! While keys are exchanged a target gets several such values with a space between them, the newest first, as in Standard
//! Webhooks: it takes the event when one verifies, and `k` says which of its keys that is. A reader that knows of no list and
//! takes the fields as they come ends with the last, which is of the key that it had all along.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zen_model::{Secret, Timestamp};

use crate::nonce::nonce;

/// The header's name, lower case.
pub const HEADER: &str = "x-zen-signature";

/// A key ring: signs with the first of its keys or with all of them, verifies with any. Whoever holds it follows when it is
/// exchanged.
pub struct Keys(ArcSwap<Ring>);

struct Ring {
    keys: Vec<(Box<str>, hmac::Key)>,
    /// So many of them sign, from the first.
    signing: usize,
}

/// More values than this are no list of ours.
const MOST: usize = zen_model::signing::MOST;

/// Why a key ring cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// There must be one to sign with.
    #[error("a key ring needs at least one key")]
    Empty,
    /// Ids are `[A-Za-z0-9_-]`, 1 to 32 of them.
    #[error("{0:?} is not a key id: 1 to 32 of A-Z, a-z, 0-9, _ and -")]
    Id(String),
    /// Two keys of one id.
    #[error("the key id {0} stands twice")]
    Duplicate(String),
    /// Fewer than 16 bytes.
    #[error("the key {0} is shorter than 16 bytes")]
    Short(String),
}

/// Why a signature does not verify. For logs by label only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form above.
    #[error("the signature is malformed")]
    Malformed,
    /// The key id is not in the ring.
    #[error("the signature names an unknown key")]
    UnknownKey,
    /// The signature is right, its time is not.
    #[error("the signature is too old or from the future")]
    Stale,
    /// The signature is wrong.
    #[error("the signature does not match")]
    Mismatch,
}

impl Keys {
    /// Keys newest first, each with its id (`[A-Za-z0-9_-]`, 1 to 32). The first signs.
    pub fn new(keys: Vec<(String, Secret)>) -> Result<Self, InvalidKeys> {
        Ring::new(keys, 1).map(|ring| Self(ArcSwap::from_pointee(ring)))
    }

    /// As [`Keys::new`], but each of them signs: towards somebody of whom it is not known which of them he has.
    pub fn signing_with_each(keys: Vec<(String, Secret)>) -> Result<Self, InvalidKeys> {
        let signing = keys.len();
        Ring::new(keys, signing).map(|ring| Self(ArcSwap::from_pointee(ring)))
    }

    /// Puts other keys in the place of these, for everybody who holds this ring.
    pub fn replace(&self, with: &Self) {
        self.0.store(with.0.load_full());
    }

    /// The header's value for an event, whose content hash is the SHA-256 of its body (32 bytes). A fresh random nonce
    /// each time.
    pub fn sign(&self, event_id: &str, content_hash: &[u8], now: Timestamp) -> String {
        self.0.load().sign(event_id, content_hash, now, nonce)
    }

    /// Checks a value against the event, or several with a space between them, of which one has to verify. `tolerance` bounds
    /// the age both ways.
    pub fn verify(
        &self,
        value: &str,
        event_id: &str,
        content_hash: &[u8],
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<(), Error> {
        let ring = self.0.load();
        let mut why = None;
        for (at, value) in value.split(' ').enumerate() {
            if at >= MOST {
                return Err(Error::Malformed);
            }
            match ring.verify(value, event_id, content_hash, now, tolerance) {
                Ok(()) => return Ok(()),
                Err(Error::Malformed) => return Err(Error::Malformed),
                // What a key says that is known here counts for more than one that is not.
                Err(error) => why = why.filter(|known| *known != Error::UnknownKey).or(Some(error)),
            }
        }
        Err(why.unwrap_or(Error::Malformed))
    }
}

impl Ring {
    fn new(keys: Vec<(String, Secret)>, signing: usize) -> Result<Self, InvalidKeys> {
        let mut ring: Vec<(Box<str>, hmac::Key)> = Vec::with_capacity(keys.len());
        for (id, secret) in keys {
            if !is_token(&id, 32) {
                return Err(InvalidKeys::Id(id));
            }
            if secret.expose().len() < 16 {
                return Err(InvalidKeys::Short(id));
            }
            if ring.iter().any(|(other, _)| **other == id) {
                return Err(InvalidKeys::Duplicate(id));
            }
            ring.push((id.into(), hmac::Key::new(hmac::HMAC_SHA256, secret.expose())));
        }
        if ring.is_empty() { Err(InvalidKeys::Empty) } else { Ok(Self { keys: ring, signing }) }
    }

    fn sign(&self, event_id: &str, content_hash: &[u8], now: Timestamp, nonce: impl Fn() -> [u8; 16]) -> String {
        // v=1,t=<20>,n=<22>,k=<32>,s=<43>: never grows.
        let mut value = String::with_capacity(136 * self.signing);
        for (id, key) in &self.keys[..self.signing] {
            if !value.is_empty() {
                value.push(' ');
            }
            // Writing to a String cannot fail.
            let _ = write!(value, "v=1,t=");
            let time = value.len();
            let _ = write!(value, "{}", now.as_secs());
            let time = time..value.len();
            value.push_str(",n=");
            URL_SAFE_NO_PAD.encode_string(nonce(), &mut value);
            let nonce = time.end + 3..value.len();
            let mac = mac(key, [&value[time], &value[nonce], id], event_id, content_hash);
            let _ = write!(value, ",k={id},s=");
            URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        }
        value
    }

    fn verify(
        &self,
        value: &str,
        event_id: &str,
        content_hash: &[u8],
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<(), Error> {
        let fields = parse(value).ok_or(Error::Malformed)?;
        let time = crate::parse::timestamp(fields.time.as_bytes(), crate::TimestampFormat::Unix);
        let time = time.ok_or(Error::Malformed)?;
        let mut sent = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(fields.signature, &mut sent) {
            Ok(32) => {}
            _ => return Err(Error::Malformed),
        }
        let (_, key) = self.keys.iter().find(|(id, _)| **id == *fields.key).ok_or(Error::UnknownKey)?;
        let expected = mac(key, [fields.time, fields.nonce, fields.key], event_id, content_hash);
        constant_time::verify_slices_are_equal(&sent, expected.as_ref()).map_err(|_| Error::Mismatch)?;
        if time.abs_diff(now) > tolerance { Err(Error::Stale) } else { Ok(()) }
    }
}

/// Ids only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")?;
        f.debug_list().entries(self.0.load().keys.iter().map(|(id, _)| id)).finish()
    }
}

/// The fields of a value, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Unix seconds.
    pub time: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// The key id.
    pub key: &'a str,
    /// The signature, base64url without padding.
    pub signature: &'a str,
}

/// Splits a value: each of `v`, `t`, `n`, `k` and `s` exactly once, in any order, nothing else.
pub fn parse(value: &str) -> Option<Fields<'_>> {
    if value.len() > 512 {
        return None;
    }
    let mut version = None;
    let mut fields = [None; 4];
    for field in value.split(',') {
        let (name, text) = field.split_once('=')?;
        let slot = match name {
            "v" => &mut version,
            "t" => &mut fields[0],
            "n" => &mut fields[1],
            "k" => &mut fields[2],
            "s" => &mut fields[3],
            _ => return None,
        };
        if slot.replace(text).is_some() {
            return None;
        }
    }
    let [Some(time), Some(nonce), Some(key), Some(signature)] = fields else { return None };
    let sound = version == Some("1") && is_token(time, 20) && is_token(nonce, 64) && is_token(key, 32);
    (sound && is_token(signature, 64)).then_some(Fields { time, nonce, key, signature })
}

/// The MAC over time, nonce, key id, event id and hash.
fn mac(key: &hmac::Key, [time, nonce, id]: [&str; 3], event_id: &str, content_hash: &[u8]) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    for piece in ["1.", time, ".", nonce, ".", id, ".", event_id, "."] {
        mac.update(piece.as_bytes());
    }
    let mut hash = [0; 64];
    match hex::encode_to_slice(content_hash, &mut hash) {
        Ok(()) => mac.update(&hash),
        // Not a SHA-256: nothing that a verifier computes will be equal.
        Err(_) => mac.update(content_hash),
    }
    mac.sign()
}

fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The key of one purpose, derived from the mesh's root key with HKDF-SHA256 (RFC 5869; T-06). `info` for the link:
/// `zen/link/<tenant or *>/<cluster>/<version>`; for a target: `zen/destination/<namespace>/<name>/<version>`.
///
/// # Panics
/// Never: 32 bytes are within what HKDF-SHA256 can expand to.
pub fn derive(root: &Secret, info: &str) -> Secret {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"zen-mesh");
    let info = [info.as_bytes()];
    let expanded = salt.extract(root.expose()).expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *key));
    expanded.expect("32 bytes are within what HKDF-SHA256 can expand to");
    Secret::new(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const TOLERANCE: Duration = Duration::from_mins(5);
    const HASH: [u8; 32] = [7; 32];

    fn keys(ids: &[&str]) -> Keys {
        Keys::new(ids.iter().map(|id| ((*id).to_owned(), Secret::new(format!("key-of-sixteen-bytes-{id}")))).collect())
            .unwrap()
    }

    /// W-12, against the text of the specification, computed here by hand.
    #[test]
    fn signs_the_documented_text() {
        let value = keys(&["v2", "v1"]).0.load().sign("evt.1", &HASH, NOW, || [0; 16]);
        let text = format!("1.1700000000.AAAAAAAAAAAAAAAAAAAAAA.v2.evt.1.{}", "07".repeat(32));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key-of-sixteen-bytes-v2");
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
        assert_eq!(value, format!("v=1,t=1700000000,n=AAAAAAAAAAAAAAAAAAAAAA,k=v2,s={mac}"));
        assert!(value.len() <= 136);
    }

    #[test]
    fn verifies_with_any_key_of_the_ring() {
        let (old, ring) = (keys(&["v1"]), keys(&["v2", "v1"]));
        let value = old.sign("e", &HASH, NOW);
        assert_eq!(ring.verify(&value, "e", &HASH, NOW, TOLERANCE), Ok(()));
        assert_eq!(old.verify(&ring.sign("e", &HASH, NOW), "e", &HASH, NOW, TOLERANCE), Err(Error::UnknownKey));
        assert_ne!(old.sign("e", &HASH, NOW), value, "a fresh nonce each time");
    }

    /// D-09, W-12: while keys are exchanged a target with either key takes the event; one with neither does not.
    #[test]
    fn signs_with_each_key_while_they_are_exchanged() {
        let each = |ids: &[&str]| {
            let key = |id: &&str| ((*id).to_owned(), Secret::new(format!("key-of-sixteen-bytes-{id}")));
            Keys::signing_with_each(ids.iter().map(key).collect()).unwrap()
        };
        let value = each(&["v3", "v2", "v1"]).sign("e", &HASH, NOW);
        let verify = |ids: &[&str], value: &str, now| keys(ids).verify(value, "e", &HASH, now, TOLERANCE);
        let later = NOW.plus(Duration::from_secs(301));
        for (ids, now, expected) in [
            (&["v1"][..], NOW, Ok(())),
            (&["v2"], NOW, Ok(())),
            (&["v3"], NOW, Ok(())),
            (&["v4", "v1"], NOW, Ok(())),
            (&["v4"], NOW, Err(Error::UnknownKey)),
            (&["v1"], later, Err(Error::Stale)),
        ] {
            assert_eq!(verify(ids, &value, now), expected, "{ids:?}");
        }
        let forged = format!("{}s={}", value.rsplit_once("s=").unwrap().0, "A".repeat(43));
        assert_eq!(verify(&["v1"], &forged, NOW), Err(Error::Mismatch), "the last is of v1");
        assert_eq!(verify(&["v2"], &forged, NOW), Ok(()));
        assert_eq!(each(&["v1"]).sign("e", &HASH, NOW).matches("v=1").count(), 1, "as ever while there is one");
        // A reader that knows of no list: the last of each field counts, and they belong together.
        let last = value.rsplit(' ').next().unwrap();
        assert_eq!(parse(last).unwrap().key, "v1");
        for bad in [format!("{value} "), format!("{value}  {value}"), format!("{value} x"), [&*value; 2].join(" ")] {
            assert_eq!(verify(&["v4"], &bad, NOW), Err(Error::Malformed), "{bad}");
        }
    }

    #[test]
    fn whoever_holds_a_ring_follows() {
        let ring = keys(&["v1"]);
        let old = ring.sign("e", &HASH, NOW);
        ring.replace(&keys(&["v2", "v1"]));
        assert!(ring.sign("e", &HASH, NOW).contains("k=v2"));
        assert_eq!(ring.verify(&old, "e", &HASH, NOW, TOLERANCE), Ok(()));
        ring.replace(&keys(&["v2"]));
        assert_eq!(ring.verify(&old, "e", &HASH, NOW, TOLERANCE), Err(Error::UnknownKey));
    }

    #[test]
    fn refuses_another_event_body_time_and_key() {
        let keys = keys(&["v1"]);
        let value = keys.sign("e", &HASH, NOW);
        let verify = |value: &str, id: &str, hash: &[u8], now| keys.verify(value, id, hash, now, TOLERANCE);
        assert_eq!(verify(&value, "f", &HASH, NOW), Err(Error::Mismatch));
        assert_eq!(verify(&value, "e", &[8; 32], NOW), Err(Error::Mismatch));
        assert_eq!(verify(&value, "e", &HASH, NOW.plus(Duration::from_secs(301))), Err(Error::Stale));
        assert_eq!(verify(&value, "e", &HASH, Timestamp(NOW.0 - 301_000)), Err(Error::Stale));
        let later = value.replace("t=1700000000", "t=1700000001");
        assert_eq!(verify(&later, "e", &HASH, NOW), Err(Error::Mismatch));
        assert_eq!(verify(&later, "e", &HASH, NOW.plus(TOLERANCE * 9)), Err(Error::Mismatch), "before Stale");
    }

    #[test]
    fn parses_strictly() {
        let keys = keys(&["v1"]);
        let good = keys.sign("e", &HASH, NOW);
        for bad in [
            String::new(),
            good.replace("v=1,", ""),
            good.replace("v=1", "v=2"),
            good.replace("v=1", "v=1,v=1"),
            good.replace("k=v1", "k=v1,k=v1"),
            good.replace("t=", "t=+"),
            good.replace("k=v1", "k="),
            format!("{good},x=1"),
            format!("{good},"),
            format!(" {good}"),
            format!("{good}="),
            format!("{good}A"),
            good[..good.len() - 1].to_owned(),
            "v".repeat(600),
        ] {
            assert_eq!(keys.verify(&bad, "e", &HASH, NOW, TOLERANCE), Err(Error::Malformed), "{bad}");
        }
    }

    #[test]
    fn bad_rings() {
        let ring = |id: &str, bytes: usize| Keys::new(vec![(id.to_owned(), Secret::new(vec![1; bytes]))]).unwrap_err();
        assert_eq!(Keys::new(Vec::new()).unwrap_err(), InvalidKeys::Empty);
        assert_eq!(ring("", 32), InvalidKeys::Id(String::new()));
        assert_eq!(ring("a,b", 32), InvalidKeys::Id("a,b".into()));
        assert_eq!(ring(&"x".repeat(33), 32), InvalidKeys::Id("x".repeat(33)));
        assert_eq!(ring("k", 15), InvalidKeys::Short("k".into()));
        let twice = vec![("k".to_owned(), Secret::new([1; 32])), ("k".to_owned(), Secret::new([2; 32]))];
        assert_eq!(Keys::new(twice).unwrap_err(), InvalidKeys::Duplicate("k".into()));
        assert_eq!(format!("{:?}", keys(&["v2", "v1"])), r#"Keys["v2", "v1"]"#);
    }

    /// T-06: what one Destination's owner knows tells nothing about another's. Vector computed with Python's hmac.
    #[test]
    fn derived_keys_differ() {
        let root = Secret::new([0x0b; 32]);
        let one = derive(&root, "zen/destination/team-a/ci/1");
        assert_eq!(one.expose().len(), 32);
        assert_ne!(one, derive(&root, "zen/destination/team-a/ci/2"));
        assert_ne!(one, derive(&Secret::new([0x0c; 32]), "zen/destination/team-a/ci/1"));
        assert_eq!(hex::encode(one.expose()), "6f920f92f896ff4b5a3b99d78bacc1ee22faf80d0d7cd0ee2024f1f173a5d669");
    }
}
