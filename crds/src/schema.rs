//! Rust types → structural schemas, the one source of the manifests, of offline validation and of the reference.
//!
//! The keyword `x-zen-hint` says in words what a pattern asks for; it stays out of the manifests.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{ClusterEnrollmentSpec, ClusterEnrollmentStatus, DestinationSpec, DestinationStatus};
use crate::{WebhookSpec, WebhookStatus, ZenLockSpec, ZenLockStatus};

/// Kinds in the order of the documentation.
pub const KINDS: [&str; 4] = ["Webhook", "Destination", "ZenLock", "ClusterEnrollment"];

/// The `openAPIV3Schema` of a kind, with hints; none for a kind that is not ours.
pub fn schema(kind: &str) -> Option<&'static Value> {
    static SCHEMAS: LazyLock<[Value; 4]> = LazyLock::new(|| {
        [
            root::<WebhookSpec, WebhookStatus>(),
            root::<DestinationSpec, DestinationStatus>(),
            root::<ZenLockSpec, ZenLockStatus>(),
            root::<ClusterEnrollmentSpec, ClusterEnrollmentStatus>(),
        ]
    });
    let index = KINDS.iter().position(|known| *known == kind)?;
    Some(&SCHEMAS[index])
}

fn root<Spec: JsonSchema, Status: JsonSchema>() -> Value {
    let spec = generate::<Spec>();
    let description = spec.get("description").cloned().unwrap_or_default();
    let mut status = generate::<Status>();
    if let Some(status) = status.as_object_mut() {
        status.insert("description".to_owned(), json!("What the mesh says about it."));
    }
    let mut spec = spec;
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("description".to_owned(), json!("What is wanted."));
    }
    json!({
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": { "spec": spec, "status": status },
    })
}

fn generate<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    structural(&mut schema);
    schema
}

/// Makes a JSON Schema structural: an absent value is absent, never `null`; a parent's default is `{}`, so that each
/// default stands once; formats that Kubernetes does not know are gone.
fn structural(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    for keyword in ["$schema", "title"] {
        node.remove(keyword);
    }
    if let Some(description) = node.get_mut("description")
        && let Some(text) = description.as_str()
    {
        *description = Value::from(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(types) = node.get("type").and_then(Value::as_array) {
        let known = types.iter().find(|name| *name != "null").cloned().unwrap_or_default();
        node.insert("type".to_owned(), known);
    }
    if let Some(words) = node.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| !word.is_null());
    }
    if node.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        node.remove("format");
    }
    // `Option` of a type without `type` comes as `anyOf: [that, null]`.
    if let Some(branches) = node.get("anyOf").and_then(Value::as_array)
        && let [only, null] = branches.as_slice()
        && null.get("type").is_some_and(|name| name == "null")
        && let Value::Object(inner) = only.clone()
    {
        node.remove("anyOf");
        for (keyword, value) in inner {
            node.entry(keyword).or_insert(value);
        }
    }
    match node.get_mut("default") {
        Some(Value::Null) => {
            node.remove("default");
        }
        Some(Value::Object(default)) => default.clear(),
        Some(number @ Value::Number(_)) if number.as_f64().is_some_and(|float| float.fract() == 0.0) => {
            if let Some(float) = number.as_f64() {
                #[allow(clippy::cast_possible_truncation, reason = "defaults are small whole numbers")]
                let whole = float as i64;
                *number = Value::from(whole);
            }
        }
        _ => {}
    }
    children_mut(node).for_each(structural);
    // One order everywhere, so that the manifests read alike.
    for keyword in ORDER.iter().rev() {
        if let Some(value) = node.shift_remove(*keyword) {
            node.shift_insert(0, (*keyword).to_owned(), value);
        }
    }
}

/// Keywords that come first; the others follow as they are.
const ORDER: [&str; 9] =
    ["description", "type", "format", "default", "enum", "pattern", "required", "properties", "items"];

fn children_mut(node: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    let mut children = Vec::new();
    for (keyword, value) in node {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => children.extend(properties.values_mut()),
            ("items" | "additionalProperties", value) => children.push(value),
            _ => {}
        }
    }
    children.into_iter()
}

/// The schema as the API server takes it: without our own keywords.
pub(crate) fn without_hints(schema: &Value) -> Value {
    let mut schema = schema.clone();
    strip_hints(&mut schema);
    schema
}

fn strip_hints(schema: &mut Value) {
    if let Some(node) = schema.as_object_mut() {
        node.remove("x-zen-hint");
        children_mut(node).for_each(strip_hints);
    }
}

/// Types that exist for their schema only.
macro_rules! literal {
    ($($name:ident => $schema:tt)+) => {$(
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )+};
}
pub(crate) use literal;

/// A time.
pub(crate) struct Timestamp;
/// Labels.
pub(crate) struct Labels;
/// Headers with values.
pub(crate) struct HeaderValues;
/// Keys with ciphertext.
pub(crate) struct Ciphertexts;

literal! {
    Timestamp => { "type": "string", "format": "date-time" }
    Labels => {
        "type": "object", "maxProperties": 16, "minProperties": 1,
        "additionalProperties": crate::text::LabelValue::json_schema(&mut SchemaGenerator::default()),
    }
    HeaderValues => {
        "type": "object", "maxProperties": 32,
        "additionalProperties": crate::text::HeaderValue::json_schema(&mut SchemaGenerator::default()),
    }
    Ciphertexts => {
        "type": "object", "minProperties": 1, "maxProperties": 64,
        "additionalProperties": crate::text::AgeFile::json_schema(&mut SchemaGenerator::default()),
    }
}
