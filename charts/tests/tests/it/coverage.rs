//! No value without a test: every leaf of values.yaml stands in a table.

use serde_json::Value;

use crate::{refusals, values};

/// Paths and values of what has no parts.
pub fn leaves(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields
            .iter()
            .flat_map(|(name, value)| {
                let below = leaves(value).into_iter();
                below.map(move |(path, leaf)| {
                    (if path.is_empty() { name.clone() } else { format!("{name}.{path}") }, leaf)
                })
            })
            .collect(),
        leaf => vec![(String::new(), leaf.clone())],
    }
}

/// The default values.
pub fn defaults() -> Value {
    let text = std::fs::read_to_string(zen_charts::root().join("charts/zen-mesh/values.yaml")).expect("values.yaml");
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn every_value_is_tested() {
    let rows = values::rows().into_iter().flat_map(|row| row.set);
    let refused = refusals::TABLE.iter().flat_map(|row| row.set).map(|&text| text.to_owned());
    let tested: Vec<_> = rows.chain(refused).filter_map(|set| Some(set.split_once('=')?.0.to_owned())).collect();
    let missing: Vec<_> = leaves(&defaults())
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            !tested
                .iter()
                .any(|it| it == path || it.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.')))
        })
        .collect();
    assert!(missing.is_empty(), "no test sets {missing:?}");
}

/// Each value is explained where users read it.
#[test]
fn every_group_of_values_has_a_comment() {
    let text = std::fs::read_to_string(zen_charts::root().join("charts/zen-mesh/values.yaml")).expect("values.yaml");
    for group in defaults().as_object().expect("a map").keys() {
        let at = text.find(&format!("\n{group}:")).expect("a top-level key");
        let before = text[..at].lines().next_back().unwrap_or_default();
        let inside = text[at + 1..].lines().nth(1).unwrap_or_default().trim_start();
        assert!(before.starts_with('#') || inside.starts_with('#'), "{group} has no comment");
    }
}
