//! The answer's bytes: they hold plaintext, so they are written once, into memory of the right size, and wiped.

use std::collections::BTreeMap;

use axum::body::Body;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use zen_crds::ZenLock;
use zen_model::Secret;
use zeroize::Zeroizing;

use super::wire::Verdict;

/// One ZenLock, open.
pub(super) struct Opened {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) data: BTreeMap<String, Secret>,
    /// Keys that could not be opened, and why; of a batch only.
    pub(super) failed: BTreeMap<String, &'static str>,
}

#[derive(Serialize)]
struct Whole<'a> {
    locks: &'a [Opened],
}

#[derive(Serialize)]
struct Many<'a> {
    locks: &'a [Opened],
    verdicts: &'a [Option<Verdict>],
}

/// The body. Nothing of it is left when it has been sent, but what the TLS and the kernel hold.
pub(super) fn body(locks: &[Opened]) -> Result<Body, serde_json::Error> {
    write(&Whole { locks }, locks.iter().map(Opened::size).sum())
}

/// As [`body`], of a batch.
pub(super) fn batch(locks: &[Opened], verdicts: &[Option<Verdict>]) -> Result<Body, serde_json::Error> {
    // As JSON writes them, each character of a message takes six bytes at most.
    let said =
        verdicts.iter().map(|verdict| verdict.as_ref().map_or(8, |said| 64 + said.code.len() + 6 * said.message.len()));
    write(&Many { locks, verdicts }, locks.iter().map(Opened::size).sum::<usize>() + said.sum::<usize>())
}

fn write(answer: &impl Serialize, size: usize) -> Result<Body, serde_json::Error> {
    let mut text = Zeroizing::new(Vec::with_capacity(size + 64));
    serde_json::to_writer(&mut *text, answer)?;
    Ok(Body::from(Bytes::from_owner(text)))
}

impl Opened {
    pub(super) fn of(object: &ZenLock, data: BTreeMap<String, Secret>) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let metadata = &object.metadata;
        let (namespace, name) = (text(&metadata.namespace), text(&metadata.name));
        Self { namespace, name, version: text(&metadata.resource_version), data, failed: BTreeMap::new() }
    }

    /// Whether it is the one of this name.
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// At least as many bytes as it takes.
    fn size(&self) -> usize {
        let values = self.data.iter().map(|(key, value)| key.len() + value.expose().len().div_ceil(3) * 4 + 16);
        let failed = self.failed.iter().map(|(key, code)| key.len() + code.len() + 16);
        self.namespace.len()
            + self.name.len()
            + self.version.len()
            + 112
            + values.sum::<usize>()
            + failed.sum::<usize>()
    }
}

impl Serialize for Opened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4 + usize::from(!self.failed.is_empty())))?;
        map.serialize_entry("namespace", &self.namespace)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("resourceVersion", &self.version)?;
        map.serialize_entry("data", &Values(&self.data))?;
        if !self.failed.is_empty() {
            map.serialize_entry("failed", &self.failed)?;
        }
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

    use super::super::wire::{Answer, BatchAnswer};
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_and_fits_at_once() {
        let value = Secret::new([0, 255, 10, 34]);
        let data = BTreeMap::from([("a".to_owned(), value.clone()), ("empty".to_owned(), Secret::new(""))]);
        let opened = Opened {
            namespace: "team-a".into(),
            name: "db".into(),
            version: "17".into(),
            data: data.clone(),
            failed: BTreeMap::new(),
        };
        let room = opened.size() + 64;
        let bytes = body(&[opened]).expect("written").collect().await.expect("a body").to_bytes();
        assert!(bytes.len() <= room, "{} of {room}", bytes.len());
        let answer: Answer = serde_json::from_slice(&bytes).expect("read");
        assert_eq!((answer.locks[0].resource_version.as_str(), &answer.locks[0].data), ("17", &data));
    }

    #[tokio::test]
    async fn a_batch_is_read_back_and_fits_at_once() {
        let data = BTreeMap::from([("a".to_owned(), Secret::new("x"))]);
        let failed = BTreeMap::from([("b".to_owned(), "UnknownKey")]);
        let opened =
            Opened { namespace: "team-a".into(), name: "db".into(), version: "17".into(), data: data.clone(), failed };
        let said = Verdict { code: "SubjectNotAllowed".into(), message: "\u{1}".repeat(2000) };
        let room = opened.size() + 64 + 8 + 64 + said.code.len() + 6 * said.message.len();
        let verdicts = [None, Some(said)];
        let bytes = batch(&[opened], &verdicts).expect("written").collect().await.expect("a body").to_bytes();
        assert!(bytes.len() <= room, "{} of {room}", bytes.len());
        let answer: BatchAnswer = serde_json::from_slice(&bytes).expect("read");
        let lock = &answer.locks[0];
        assert_eq!((&lock.data, lock.failed["b"].as_str()), (&data, "UnknownKey"));
        assert_eq!(answer.verdicts, verdicts);
    }
}
