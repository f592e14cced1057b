//! Parsers of what a stranger sends, as plain functions: the engine uses them, property tests and fuzz targets call
//! them. None panics, none allocates more than its input.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zen_model::Timestamp;

pub use crate::template::{Error as TemplateError, Part, parse as template};
use crate::{Encoding, TimestampFormat};

/// The longest decoded signature: ECDSA P-256 in DER has at most 72 bytes, HMAC-SHA512 has 64.
pub const MAX_SIGNATURE: usize = 72;

/// The values of a header that may carry several, without the white space around them. Empty ones are passed over.
pub fn list(value: &[u8], separator: Option<u8>) -> impl Iterator<Item = &[u8]> {
    value
        .split(move |byte| Some(*byte) == separator)
        .map(move |part| if separator.is_some() { part.trim_ascii() } else { part })
        .filter(|part| !part.is_empty())
}

/// Decodes a signature into `out` and gives its length; none when it is not in that encoding, or too long.
pub fn signature(text: &[u8], encoding: Encoding, out: &mut [u8; MAX_SIGNATURE]) -> Option<usize> {
    match encoding {
        Encoding::Hex => {
            let length = text.len() / 2;
            hex::decode_to_slice(text, out.get_mut(..length)?).ok()?;
            Some(length)
        }
        Encoding::Base64 => STANDARD.decode_slice(text, out).ok(),
        Encoding::Base64Url => {
            let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
            URL_SAFE_NO_PAD.decode_slice(unpadded, out).ok()
        }
    }
}

/// Reads a timestamp. Digits only for the Unix formats: no sign, no fraction, no white space.
pub fn timestamp(text: &[u8], format: TimestampFormat) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let number = || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match format {
        TimestampFormat::Unix => number().map(Timestamp::from_secs),
        TimestampFormat::UnixMillis => number().map(Timestamp),
        TimestampFormat::Rfc3339 => text.parse().ok(),
    }
}

/// The body is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not JSON")]
pub struct NotJson;

/// The value at an RFC 6901 pointer, without building the rest of the document. Of several members with one name the
/// last counts, as in JavaScript and `serde_json`.
pub fn json_at(body: &[u8], pointer: &str) -> Result<Option<Value>, NotJson> {
    let tokens = if let Some(rest) = pointer.strip_prefix('/') {
        rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    } else {
        Vec::new()
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = At(&tokens).deserialize(&mut reader).map_err(|_| NotJson)?;
    reader.end().map_err(|_| NotJson)?;
    Ok(found)
}

/// The timestamp at a pointer of a JSON body, written as a number or as a string.
pub fn json_timestamp(body: &[u8], pointer: &str, format: TimestampFormat) -> Option<Timestamp> {
    match json_at(body, pointer).ok()?? {
        Value::String(text) => timestamp(text.as_bytes(), format),
        Value::Number(number) => {
            let number = number.as_u64()?;
            match format {
                TimestampFormat::Unix => Some(Timestamp::from_secs(number)),
                TimestampFormat::UnixMillis => Some(Timestamp(number)),
                TimestampFormat::Rfc3339 => None,
            }
        }
        _ => None,
    }
}

/// The rest of a pointer, as a seed: it descends along the pointer and passes over everything else.
#[derive(Clone, Copy)]
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            serde::Deserialize::deserialize(deserializer).map(Some)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(matches) = map.next_key_seed(Is(&self.0[0]))? {
            if matches {
                found = map.next_value_seed(At(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted = self.0[0].parse::<usize>().ok();
        let mut found = None;
        for index in 0.. {
            if wanted == Some(index) {
                match seq.next_element_seed(At(&self.0[1..]))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Compares a member's name without keeping it.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointers_agree_with_serde_json() {
        let value = json!({"a": {"b": [1, {"c/d": "x"}]}, "": 0, "m~n": null, "t": 5});
        let body = value.to_string();
        for pointer in ["", "/a", "/a/b", "/a/b/0", "/a/b/1/c~1d", "/a/b/2", "/", "/m~0n", "/t/x", "/nope", "/a/b/x"] {
            assert_eq!(json_at(body.as_bytes(), pointer).unwrap().as_ref(), value.pointer(pointer), "{pointer}");
        }
        assert_eq!(json_at(br#"{"a":1,"a":2}"#, "/a").unwrap(), Some(json!(2)));
        for broken in ["", "{", r#"{"a":1}x"#, r#"{"a":1,}"#] {
            assert_eq!(json_at(broken.as_bytes(), "/a"), Err(NotJson), "{broken}");
        }
    }

    #[test]
    fn timestamps() {
        for (text, format, millis) in [
            ("1700000000", TimestampFormat::Unix, Some(1_700_000_000_000)),
            ("1700000000123", TimestampFormat::UnixMillis, Some(1_700_000_000_123)),
            ("2023-11-14T22:13:20Z", TimestampFormat::Rfc3339, Some(1_700_000_000_000)),
            ("+5", TimestampFormat::Unix, None),
            ("-5", TimestampFormat::Unix, None),
            ("", TimestampFormat::Unix, None),
            (" 5", TimestampFormat::Unix, None),
            ("5.0", TimestampFormat::Unix, None),
            ("99999999999999999999", TimestampFormat::Unix, None),
            ("yesterday", TimestampFormat::Rfc3339, None),
        ] {
            assert_eq!(timestamp(text.as_bytes(), format), millis.map(Timestamp), "{text}");
        }
    }

    #[test]
    fn encodings() {
        let mut out = [0; MAX_SIGNATURE];
        for (text, encoding, length) in [
            ("00fF", Encoding::Hex, Some(2)),
            ("0", Encoding::Hex, None),
            ("zz", Encoding::Hex, None),
            ("AP8=", Encoding::Base64, Some(2)),
            ("AP8", Encoding::Base64, None),
            ("AP8= ", Encoding::Base64, None),
            ("_-8", Encoding::Base64Url, Some(2)),
            ("_-8=", Encoding::Base64Url, Some(2)),
            ("/+8=", Encoding::Base64Url, None),
        ] {
            assert_eq!(signature(text.as_bytes(), encoding, &mut out), length, "{text}");
        }
        for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Base64Url] {
            assert_eq!(signature(&[b'0'; 300], encoding, &mut out), None);
        }
    }
}
