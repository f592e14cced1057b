//! What stands beside `spec`: version, kind, names, labels.

use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

use super::{SchemaProblem, problem, scalar};
use crate::API_VERSION;

/// Fields of `metav1.ObjectMeta`.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").expect("a constant pattern")
});
static LABEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").expect("a constant pattern"));

/// Checks the fields of an object other than `spec` and `status`.
pub(super) fn check(kind: &str, object: &Map<String, Value>, problems: &mut Vec<SchemaProblem>) {
    expect(object, "apiVersion", API_VERSION, problems);
    expect(object, "kind", kind, problems);
    for name in object.keys() {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&name.as_str()) {
            unknown(name, problems);
        }
    }
    match object.get("metadata") {
        Some(Value::Object(metadata)) => names(metadata, problems),
        Some(Value::Null) | None => problems.push(problem("metadata.name", "Required value")),
        Some(other) => {
            problems.push(problem("metadata", format!("must be of type object: \"{}\"", scalar::type_name(other))));
        }
    }
}

fn expect(object: &Map<String, Value>, field: &str, expected: &str, problems: &mut Vec<SchemaProblem>) {
    match object.get(field) {
        Some(Value::String(found)) if found == expected => {}
        Some(Value::Null) | None => problems.push(problem(field, "Required value")),
        Some(_) => problems.push(problem(field, format!("must be {expected}"))),
    }
}

fn names(metadata: &Map<String, Value>, problems: &mut Vec<SchemaProblem>) {
    match metadata.get("name") {
        Some(Value::String(name)) if name.len() <= 253 && SUBDOMAIN.is_match(name) => {}
        Some(Value::String(_)) => {
            problems.push(problem("metadata.name", "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"));
        }
        Some(Value::Null) | None => problems.push(problem("metadata.name", "Required value")),
        Some(other) => {
            let found = scalar::type_name(other);
            problems.push(problem("metadata.name", format!("must be of type string: \"{found}\"")));
        }
    }
    match metadata.get("namespace") {
        Some(Value::String(name)) if name.len() <= 63 && LABEL.is_match(name) => {}
        Some(Value::Null) | None => {}
        Some(_) => problems.push(problem("metadata.namespace", "must be the name of a namespace such as team-a")),
    }
    for field in ["labels", "annotations"] {
        match metadata.get(field) {
            Some(Value::Object(entries)) => {
                for (name, value) in entries.iter().filter(|(_, value)| !value.is_string() && !value.is_null()) {
                    let found = scalar::type_name(value);
                    let field = format!("metadata.{field}.{name}");
                    problems.push(problem(&field, format!("must be of type string: \"{found}\"")));
                }
            }
            Some(Value::Null) | None => {}
            Some(other) => {
                let found = scalar::type_name(other);
                problems.push(problem(&format!("metadata.{field}"), format!("must be of type object: \"{found}\"")));
            }
        }
    }
    for name in metadata.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        unknown(&format!("metadata.{name}"), problems);
    }
}

fn unknown(field: &str, problems: &mut Vec<SchemaProblem>) {
    let message = format!("unknown field \"{field}\"");
    problems.push(SchemaProblem { unknown: true, ..problem(field, message) });
}
