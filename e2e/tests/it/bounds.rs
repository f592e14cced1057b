//! Every bound, pattern, word list, type and required field of the schemas, broken one at a time in the samples.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zen_crds::{KINDS, schema};

use crate::api_server::api_server;
use crate::samples;
use crate::verdicts::both_refuse;

/// One way to break a sample.
struct Row {
    object: Value,
    field: String,
    words: String,
}

/// A place in a schema that a sample fills: its schema path, JSON pointer, field path and schema.
struct Place<'a> {
    id: String,
    pointer: String,
    field: String,
    schema: &'a Value,
}

#[tokio::test]
async fn each_bound_is_refused_by_both_in_the_same_words() {
    let api = api_server().await;
    api.namespace(samples::NAMESPACE).await;
    let mut visited = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for sample in samples::all() {
        let kind = sample["kind"].as_str().unwrap().to_owned();
        let spec = &schema(&kind).unwrap()["properties"]["spec"];
        for place in places(&kind, &sample, spec) {
            if !visited.insert(place.id.clone()) {
                continue;
            }
            for row in broken(&sample, &place) {
                rows += 1;
                let what = format!("{} {}", place.id, row.words);
                wrong.extend(both_refuse(&api, &what, &row.object, &row.field, &row.words).await.err());
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
    for kind in KINDS {
        for id in all_ids(kind, &schema(kind).unwrap()["properties"]["spec"]) {
            assert!(visited.contains(&id), "no sample has {id}");
        }
    }
    assert!(rows > 500, "only {rows} rows");
}

fn all_ids(id: &str, schema: &Value) -> Vec<String> {
    let mut ids = vec![id.to_owned()];
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        ids.extend(all_ids(&format!("{id}.{name}"), schema));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(keyword) {
            ids.extend(all_ids(&format!("{id}[]"), schema));
        }
    }
    ids
}

fn places<'a>(kind: &str, sample: &Value, spec: &'a Value) -> Vec<Place<'a>> {
    let mut found = Vec::new();
    let root = Place { id: kind.to_owned(), pointer: "/spec".to_owned(), field: "spec".to_owned(), schema: spec };
    walk(sample, root, &mut found);
    found
}

fn walk<'a>(sample: &Value, place: Place<'a>, found: &mut Vec<Place<'a>>) {
    let Place { id, pointer, field, schema } = &place;
    let schema: &'a Value = schema;
    match sample.pointer(pointer) {
        Some(Value::Object(fields)) => {
            for name in fields.keys() {
                let (id, schema) = match (schema["properties"].get(name), schema.get("additionalProperties")) {
                    (Some(known), _) => (format!("{id}.{name}"), known),
                    (None, Some(rest)) => (format!("{id}[]"), rest),
                    (None, None) => continue,
                };
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                walk(sample, Place { id, pointer, field: format!("{field}.{name}"), schema }, found);
            }
        }
        Some(Value::Array(items)) => {
            for index in 0..items.len() {
                let (id, pointer) = (format!("{id}[]"), format!("{pointer}/{index}"));
                walk(
                    sample,
                    Place { id, pointer, field: format!("{field}[{index}]"), schema: &schema["items"] },
                    found,
                );
            }
        }
        _ => {}
    }
    found.push(place);
}

/// Each keyword of one place, broken.
fn broken(sample: &Value, place: &Place<'_>) -> Vec<Row> {
    let Place { pointer, field, schema, .. } = place;
    let mut rows = Vec::new();
    let mut row = |value: Value, field: &str, words: String| {
        let object = samples::with(sample.clone(), pointer, value);
        rows.push(Row { object, field: field.to_owned(), words });
    };
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64).and_then(|it| usize::try_from(it).ok());
    let now = sample.pointer(pointer).unwrap().clone();
    let int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
    let scalar = schema.get("x-kubernetes-preserve-unknown-fields").is_some() && schema.get("type").is_none();

    match schema["type"].as_str() {
        Some("string") => row(json!(true), field, "must be of type string: \"boolean\"".to_owned()),
        Some("boolean") => row(json!("yes"), field, "must be of type boolean: \"string\"".to_owned()),
        Some("integer") => {
            row(json!(1.5), field, "must be of type integer: \"number\"".to_owned());
            row(json!("1"), field, "must be of type integer: \"string\"".to_owned());
        }
        Some("number") => row(json!("1"), field, "must be of type number: \"string\"".to_owned()),
        Some("array") => row(json!("x"), field, "must be of type array: \"string\"".to_owned()),
        Some("object") => row(json!("x"), field, "must be of type object: \"string\"".to_owned()),
        _ if int_or_string => row(json!(true), field, "must be of type integer,string: \"boolean\"".to_owned()),
        _ => assert!(scalar, "{} has no type", place.id),
    }
    if schema.get("enum").is_some() {
        let words: Vec<String> = schema["enum"].as_array().unwrap().iter().map(Value::to_string).collect();
        row(json!("nonsense"), field, format!("supported values: {}", words.join(", ")));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        row(json!("\u{1}"), field, format!("should match '{pattern}'"));
    }
    if let Some(max) = bound("maxLength") {
        row(json!("x".repeat(max + 1)), field, format!("may not be more than {max}"));
    }
    if let Some(min) = bound("minLength") {
        row(json!(""), field, format!("should be at least {min} chars long"));
    }
    if let Some(max) = schema.get("maximum").and_then(Value::as_i64) {
        row(json!(max + 1), field, format!("should be less than or equal to {max}"));
    }
    if let Some(min) = schema.get("minimum").and_then(Value::as_i64) {
        row(json!(min - 1), field, format!("should be greater than or equal to {min}"));
    }
    if let Some(max) = bound("maxItems").filter(|_| !scalar) {
        let item = now.get(0).cloned().unwrap_or_else(|| json!("x"));
        row(json!(vec![item; max + 1]), field, format!("must have at most {max} item"));
    }
    if let Some(min) = bound("minItems").filter(|_| !scalar) {
        row(json!([]), field, format!("should have at least {min} items"));
    }
    if let Some(max) = bound("maxProperties").filter(|_| !scalar) {
        let value = now.as_object().and_then(|it| it.values().next()).cloned().unwrap_or_else(|| json!("x"));
        let many: serde_json::Map<_, _> = (0..=max).map(|index| (format!("x-{index}"), value.clone())).collect();
        row(Value::Object(many), field, format!("must have at most {max} item"));
    }
    if let Some(min) = bound("minProperties").filter(|_| !scalar) {
        row(json!({}), field, format!("should have at least {min} properties"));
    }
    if scalar {
        for (value, words) in
            [(json!({}), "should have at least 1 properties"), (json!([]), "should have at least 1 items")]
        {
            row(value, field, words.to_owned());
        }
        row(json!({"a": 1}), field, "must have at most 0 item".to_owned());
        row(json!([1]), field, "must have at most 0 item".to_owned());
    }
    if schema.get("x-kubernetes-list-type").is_some() && now.get(0).is_some() {
        let first = now[0].clone();
        row(json!([first, first]), &format!("{field}[1]"), "Duplicate value".to_owned());
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let mut without = now.clone();
        without.as_object_mut().unwrap().remove(name);
        row(without, &format!("{field}.{name}"), "Required value".to_owned());
    }
    if schema.get("properties").is_some() {
        let mut with = now.clone();
        with["nonsense"] = json!(1);
        let unknown = format!("{field}.nonsense");
        row(with, &unknown, format!("unknown field \"{unknown}\""));
    }
    rows
}
