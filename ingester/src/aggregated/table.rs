//! Tables, which `kubectl get` asks for by its `Accept` header (meta.k8s.io/v1).

use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::{Value, json};

/// A heading and where in the object its cell is.
pub(super) type Column = (&'static str, &'static str);

/// Columns of each kind; the name comes first by itself.
pub(super) fn columns(kind: &str) -> &'static [Column] {
    match kind {
        "DeadLetter" => &[
            ("Destination", "/status/destination"),
            ("Reason", "/status/reason"),
            ("Attempts", "/status/attempts"),
            ("Event", "/status/event"),
            ("Since", "/status/since"),
        ],
        "WebhookEvent" => &[
            ("Webhook", "/status/webhook"),
            ("Type", "/status/type"),
            ("Accepted", "/status/accepted"),
            ("Bytes", "/status/bytes"),
        ],
        "Replay" => &[("State", "/status/state"), ("Replayed", "/status/replayed"), ("Total", "/status/total")],
        _ => &[],
    }
}

/// Whether the caller wants a table.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|part| {
        let mut words = part.split(';').map(str::trim);
        words.next() == Some("application/json")
            && part.contains("as=Table")
            && part.contains("g=meta.k8s.io")
            && words.any(|word| word == "v=v1")
    })
}

/// The table of these objects.
pub(super) fn table(kind: &str, items: &[Value]) -> Value {
    let columns = columns(kind);
    let names = std::iter::once("Name").chain(columns.iter().map(|(name, _)| *name));
    let definitions: Vec<_> = names
        .map(|name| {
            let format = if name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
        })
        .collect();
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            let cell = |pointer: &str| match item.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(value) if !value.is_null() => value.to_string(),
                _ => String::new(),
            };
            let cells: Vec<_> =
                std::iter::once("/metadata/name").chain(columns.iter().map(|(_, at)| *at)).map(cell).collect();
            let about = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"],
            });
            json!({"cells": cells, "object": about})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": definitions, "rows": rows,
    })
}
