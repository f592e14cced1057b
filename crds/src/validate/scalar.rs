//! Types, bounds, patterns and duplicates, in the API server's words.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use regex::Regex;
use serde_json::Value;

/// The name of a JSON value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_integer(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integer(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// The value has another type than the schema names.
pub(super) fn wrong_type(value: &Value, schema: &Value) -> Option<String> {
    let found = type_name(value);
    if schema.get("x-kubernetes-int-or-string").is_some() {
        let fits = matches!(found, "integer" | "string");
        return (!fits).then(|| format!("must be of type integer,string: \"{found}\""));
    }
    let Some(wanted) = schema.get("type").and_then(Value::as_str) else {
        let nullable = schema.get("x-kubernetes-preserve-unknown-fields").is_none();
        return (found == "null" && nullable).then(|| "must not be null".to_owned());
    };
    let fits = wanted == found || (wanted == "number" && found == "integer");
    (!fits).then(|| format!("must be of type {wanted}: \"{found}\""))
}

/// A bound that a value breaks.
pub(super) struct Broken {
    /// In the API server's words.
    pub message: String,
    /// The API server asks no rule about such a value.
    pub blocking: bool,
}

impl Broken {
    fn form(message: String) -> Self {
        Self { message, blocking: false }
    }

    fn too_much(message: String) -> Self {
        Self { message, blocking: true }
    }
}

/// Every bound that the value breaks.
pub(super) fn broken_bounds(value: &Value, schema: &Value) -> Vec<Broken> {
    let mut broken = Vec::new();
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        broken.push(Broken::too_much(format!("supported values: {}", words.join(", "))));
    }
    match value {
        Value::String(text) => broken_text(text, schema, &mut broken),
        Value::Number(number) => {
            let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some(max) = limit("maximum").filter(|max| number > *max) {
                broken.push(Broken::form(format!("should be less than or equal to {max}")));
            }
            if let Some(min) = limit("minimum").filter(|min| number < *min) {
                broken.push(Broken::form(format!("should be greater than or equal to {min}")));
            }
        }
        Value::Array(items) => broken_count(items.len(), ["minItems", "maxItems"], "items", schema, &mut broken),
        Value::Object(fields) => {
            broken_count(fields.len(), ["minProperties", "maxProperties"], "properties", schema, &mut broken);
        }
        Value::Null | Value::Bool(_) => {}
    }
    broken
}

fn broken_text(text: &str, schema: &Value, broken: &mut Vec<Broken>) {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if let Some(max) = bound("maxLength").filter(|max| length > *max) {
        broken.push(Broken::too_much(format!("may not be more than {max}")));
    }
    if let Some(min) = bound("minLength").filter(|min| length < *min) {
        broken.push(Broken::form(format!("should be at least {min} chars long")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !matches(pattern, text)
    {
        broken.push(Broken::form(format!("should match '{pattern}'")));
    }
}

fn broken_count(count: usize, [least, most]: [&str; 2], noun: &str, schema: &Value, broken: &mut Vec<Broken>) {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
    let count = count as u64;
    if let Some(max) = bound(most).filter(|max| count > *max) {
        broken.push(Broken::too_much(format!("must have at most {max} item")));
    }
    if let Some(min) = bound(least).filter(|min| count < *min) {
        broken.push(Broken::form(format!("should have at least {min} {noun}")));
    }
}

/// The patterns are our own and few: each is compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let Ok(mut compiled) = COMPILED.lock() else { return true };
    let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// Indexes of items that repeat an earlier one, for lists that are sets or maps.
pub(super) fn duplicates(items: &[Value], schema: &Value) -> Vec<usize> {
    let keys: Option<Vec<&str>> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => None,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            Some(keys.into_iter().flatten().filter_map(Value::as_str).collect())
        }
        _ => return Vec::new(),
    };
    let identity = |item: &Value| match &keys {
        None => item.to_string(),
        Some(keys) => keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null).to_string()).collect(),
    };
    let mut seen = std::collections::HashSet::new();
    let repeated = items.iter().enumerate().filter(|(_, item)| !seen.insert(identity(item)));
    repeated.map(|(index, _)| index).collect()
}
