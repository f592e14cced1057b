//! The answer's bytes: they hold plaintext, so they are written once, into memory of the right size, and wiped.

use std::collections::BTreeMap;

use axum::body::Body;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use zen_model::Secret;
use zeroize::Zeroizing;

/// One ZenLock, open.
pub(super) struct Opened {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) data: BTreeMap<String, Secret>,
}

#[derive(Serialize)]
struct Whole<'a> {
    locks: &'a [Opened],
}

/// The body. Nothing of it is left when it has been sent, but what the TLS and the kernel hold.
pub(super) fn body(locks: &[Opened]) -> Result<Body, serde_json::Error> {
    let mut text = Zeroizing::new(Vec::with_capacity(locks.iter().map(Opened::size).sum::<usize>() + 64));
    serde_json::to_writer(&mut *text, &Whole { locks })?;
    Ok(Body::from(Bytes::from_owner(text)))
}

impl Opened {
    /// At least as many bytes as it takes.
    fn size(&self) -> usize {
        let values = self.data.iter().map(|(key, value)| key.len() + value.expose().len().div_ceil(3) * 4 + 16);
        self.namespace.len() + self.name.len() + self.version.len() + 96 + values.sum::<usize>()
    }
}

impl Serialize for Opened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("namespace", &self.namespace)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("resourceVersion", &self.version)?;
        map.serialize_entry("data", &Values(&self.data))?;
        map.end()
    }
}

struct Values<'a>(&'a BTreeMap<String, Secret>);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Value(value))))
    }
}

struct Value<'a>(&'a Secret);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Straight into the answer: no text of it in between.
        serializer.collect_str(&Base64Display::new(self.0.expose(), &STANDARD))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::wire::Answer;
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_and_fits_at_once() {
        let value = Secret::new([0, 255, 10, 34]);
        let data = BTreeMap::from([("a".to_owned(), value.clone()), ("empty".to_owned(), Secret::new(""))]);
        let opened = Opened { namespace: "team-a".into(), name: "db".into(), version: "17".into(), data: data.clone() };
        let room = opened.size() + 64;
        let bytes = body(&[opened]).expect("written").collect().await.expect("a body").to_bytes();
        assert!(bytes.len() <= room, "{} of {room}", bytes.len());
        let answer: Answer = serde_json::from_slice(&bytes).expect("read");
        assert_eq!((answer.locks[0].resource_version.as_str(), &answer.locks[0].data), ("17", &data));
    }
}
