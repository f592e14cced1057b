//! Objects that are right. Together they have every field of every kind: `bounds.rs` breaks each of them.

use serde_json::Value;

/// The manifests of the API contract, as users read them.
pub const CONTRACT: &str = include_str!("contract.yaml");
/// What the contract leaves out.
const MORE: &str = include_str!("samples.yaml");

/// Namespace of the samples: the contract's own is where its manifests are applied.
pub const NAMESPACE: &str = "samples";

/// All of them.
pub fn all() -> Vec<Value> {
    let mut samples: Vec<_> = documents(CONTRACT).into_iter().chain(documents(MORE)).collect();
    for sample in &mut samples {
        sample["metadata"]["namespace"] = NAMESPACE.into();
    }
    samples
}

/// The objects of a manifest.
pub fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// A sample by kind and name.
pub fn named(kind: &str, name: &str) -> Value {
    let sample = all().into_iter().find(|sample| sample["kind"] == kind && sample["metadata"]["name"] == name);
    sample.unwrap_or_else(|| panic!("no sample {kind} {name}"))
}

/// The object with the value at a pointer replaced, added (`/-` appends) or, for `null`, removed.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
        Value::Object(fields) if value.is_null() => {
            fields.remove(&name);
        }
        Value::Object(fields) => {
            fields.insert(name, value);
        }
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{parent} has no fields"),
    }
    object
}
