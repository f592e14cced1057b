//! The age project's published vectors (c2sp.org/CCTV/age): every one of X25519, of the header, of the payload and of
//! the armour (Z-01). Those that are not armoured are put into armour first, because a manifest holds nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;

use age::armor::{ArmoredWriter, Format};
use aws_lc_rs::digest::{SHA256, digest};
use zen_lock::{Identity, Keyring, OpenError};

use crate::oracle;

/// Refused by the specification, read by the `age` crate: early versions of age wrote no empty last line after a body of
/// whole lines. The header's MAC still has to fit.
const TOLERATED: [&str; 2] = ["stanza_missing_body", "stanza_missing_final_line"];
/// Fewer would mean that they were not found or not understood.
const AT_LEAST: usize = 80;

struct Vector {
    name: String,
    /// The lines of its head.
    fields: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
}

impl Vector {
    fn read(name: String, bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("a head");
        let mut fields = BTreeMap::<String, Vec<String>>::new();
        for line in std::str::from_utf8(&bytes[..end]).expect("text").lines() {
            let (field, value) = line.split_once(": ").expect("field: value");
            fields.entry(field.to_owned()).or_default().push(value.to_owned());
        }
        Self { name, fields, body: bytes[end + 2..].to_vec() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        Some(self.fields.get(name)?.first()?.as_str())
    }

    /// As a manifest could hold it; none where it is no text at all.
    fn armored(&self) -> Option<String> {
        if self.field("armored").is_some() {
            return String::from_utf8(self.body.clone()).ok();
        }
        let mut writer = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).expect("writes");
        writer.write_all(&self.body).expect("writes");
        Some(String::from_utf8(writer.finish().expect("writes")).expect("text"))
    }

    /// About passphrases and post-quantum keys, which a ZenLock does not use; or beyond what it may hold (16 MiB).
    fn is_of_another_kind(&self) -> bool {
        let identities = self.fields.get("identity").into_iter().flatten();
        let x25519 = identities.filter(|text| text.starts_with("AGE-SECRET-KEY-1")).count();
        self.field("compressed").is_some() || x25519 == 0
    }

    /// None, or what is not as expected.
    fn check(&self) -> Option<String> {
        let keys = self.fields.get("identity").into_iter().flatten();
        let keys: Vec<_> = keys.filter(|text| text.starts_with("AGE-SECRET-KEY-1")).cloned().collect();
        let ring = Keyring::new(Identity::parse_file(&keys.join("\n")).expect("keys"));
        let text = self.armored()?;
        let opened = ring.open(&text);
        let (name, expected) = (&self.name, self.field("expect").expect("an expectation"));
        if TOLERATED.contains(&name.as_str()) {
            return opened.err().map(|error| format!("{name} is refused: it need not be listed any more ({error})"));
        }
        let error = match (expected, opened) {
            ("success", Ok(opened)) => {
                let found = hex::encode(digest(&SHA256, opened.plaintext.expose()));
                let size = zen_lock::inspect(&text).expect("reads").plaintext;
                let fits = Some(found.as_str()) == self.field("payload") && size == opened.plaintext.expose().len();
                return (!fits).then(|| format!("{name} opens as something else"));
            }
            (_, Err(error)) => error,
            (expected, Ok(_)) => return Some(format!("{name} opens, expected: {expected}")),
        };
        let fits = match expected {
            "no match" => matches!(error, OpenError::UnknownKey | OpenError::NoX25519Recipient),
            "HMAC failure" => error == OpenError::Corrupt,
            "header failure" => matches!(error, OpenError::Malformed | OpenError::NoX25519Recipient),
            "armor failure" => matches!(error, OpenError::Malformed | OpenError::NotArmored),
            "payload failure" => matches!(error, OpenError::Corrupt | OpenError::Malformed),
            _ => false,
        };
        (!fits).then(|| format!("{name}: {error:?}, expected: {expected}"))
    }
}

#[test]
fn every_vector_is_as_expected() {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(oracle::folder().join("vectors")).expect("the vectors") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let vector = Vector::read(name.clone(), &fs::read(&path).expect("reads"));
        if !vector.is_of_another_kind() {
            wrong.extend(vector.check());
            seen.insert(name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.len() >= AT_LEAST, "only {} of the vectors were looked at", seen.len());
    for needed in ["x25519", "x25519_low_order", "armor_x25519", "armor_crlf", "hmac_bad", "stream_no_nonce"] {
        assert!(seen.contains(needed), "{needed} is missing");
    }
}
