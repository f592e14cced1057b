//! Whether an object is in effect already, so that nothing is sent twice.
//!
//! The API server normalises what it stores, so that desired and stored never look quite the same. Two things settle it:
//! the digest of what was applied last, and the set of fields that the API server says our field manager owns. Whoever
//! changes a field takes it out of that set, so that drift shows as another set.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest as hash};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use crate::names;
use crate::object::{Id, Object, Present};

/// What was applied, by object. One small entry for each object that we make.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Id, Remembered>>);

/// The last apply of an object.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    digest: String,
    /// Resource version over which it was applied: a store that still shows it lags.
    before: Option<String>,
    /// Digest of the fields that were ours afterwards.
    fields: u64,
    uid: Option<String>,
}

impl Remembered {
    pub(super) fn new(digest: &str, before: Option<String>, after: &ObjectMeta) -> Self {
        Self { digest: digest.to_owned(), before, fields: owned_fields(after), uid: after.uid.clone() }
    }
}

impl Memory {
    /// Whether the API server has what is wanted.
    pub(super) fn is_in_effect(&self, desired: &Object, digest: &str, observed: &dyn Present) -> bool {
        let meta = observed.meta();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_content = || contains(&observed.value(), &Value::Object(desired.body().clone()));
        if let Some(last) = known.get(desired.id()).filter(|last| last.uid == meta.uid) {
            let lags = last.before.is_some() && last.before == meta.resource_version;
            let fields = owned_fields(meta);
            // An API server that does not say whose the fields are leaves only their values.
            let untouched = || if fields == 0 { has_content() } else { fields == last.fields };
            return last.digest == digest && (lags || untouched());
        }
        // The first look of this process: what an earlier one applied, and nobody changed since.
        let applied = meta.annotations.as_ref().and_then(|annotations| annotations.get(names::APPLIED));
        let same = applied.is_some_and(|applied| applied == digest) && has_content();
        if same {
            known.insert(desired.id().clone(), Remembered::new(digest, None, meta));
        }
        same
    }

    pub(super) fn remember(&self, id: &Id, last: Remembered) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), last);
    }

    pub(super) fn forget(&self, id: &Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Of what is wanted, as the annotation [`names::APPLIED`] has it. Maps are sorted by key, so that equal bodies have equal
/// digests.
pub fn digest(body: &Map<String, Value>) -> String {
    let text = serde_json::to_vec(&sorted(&Value::Object(body.clone()))).unwrap_or_default();
    let mut hex = String::with_capacity(32);
    for byte in &hash(&SHA256, &text).as_ref()[..16] {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// A digest of the fields that our field manager owns by apply; 0 when it owns none.
fn owned_fields(meta: &ObjectMeta) -> u64 {
    let entries = meta.managed_fields.iter().flatten();
    let ours = entries
        .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
        .find(|entry| entry.operation.as_deref() == Some("Apply") && entry.subresource.is_none());
    let Some(fields) = ours.and_then(|entry| entry.fields_v1.as_ref()) else { return 0 };
    let text = serde_json::to_vec(&sorted(&fields.0)).unwrap_or_default();
    let mut first = [0; 8];
    first.copy_from_slice(&hash(&SHA256, &text).as_ref()[..8]);
    u64::from_be_bytes(first)
}

/// Whether all of `part` stands in `whole`, as far as can be seen without knowing how the API server normalises.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, part)| match whole.get(key) {
            Some(whole) => contains(whole, part),
            None => is_empty(part),
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

/// Left out by the API server.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_of_a_whole() {
        let whole = json!({"a": 1, "list": [{"name": "x", "default": true}], "b": {"c": "d"}});
        for (part, expected) in [
            (json!({"a": 1}), true),
            (json!({"a": 2}), false),
            (json!({"z": 1}), false),
            (json!({"z": [], "y": {}, "x": "", "w": null}), true),
            (json!({"list": [{"name": "x"}]}), true),
            (json!({"list": [{"name": "x"}, {"name": "y"}]}), false),
            (json!({"b": {"c": "e"}}), false),
        ] {
            assert_eq!(contains(&whole, &part), expected, "{part}");
        }
    }

    #[test]
    fn the_order_of_keys_changes_no_digest() {
        let (a, b) = (json!({"a": {"x": 1, "y": 2}, "b": 3}), json!({"b": 3, "a": {"y": 2, "x": 1}}));
        let digest = |value: &Value| digest(value.as_object().expect("object"));
        assert_eq!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&json!({"a": {"x": 1, "y": 2}, "b": 4})));
    }
}
