use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::KINDS;

fn destination(spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Destination", "metadata": {"name": "ci", "namespace": "team-a"}, "spec": spec})
}

fn fields(spec: &Value) -> Vec<(String, String)> {
    validate("Destination", &destination(spec)).into_iter().map(|it| (it.field, it.message)).collect()
}

#[test]
fn what_is_right_has_no_problem() {
    assert_eq!(fields(&json!({"target": {"url": "https://x.example"}})), []);
    // An absent value may be written as null, as the API server takes it.
    assert_eq!(fields(&json!({"target": {"url": "https://x.example", "service": null}, "mode": null})), []);
}

#[test]
fn a_mistyped_field_is_unknown_and_named() {
    let object = destination(&json!({"target": {"url": "https://x.example"}, "delivry": 1, "zzzzzz": 1}));
    let problems = validate("Destination", &object);
    assert!(problems.iter().all(|it| it.unknown), "{problems:?}");
    assert_eq!(problems[0].field, "spec.delivry");
    assert_eq!(problems[0].message, "unknown field \"spec.delivry\"");
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean delivery?"));
    assert_eq!(problems[1].hint, None);
}

#[test]
fn a_wrong_form_says_what_to_write() {
    let object = destination(&json!({"target": {"url": "https://x.example"}, "deadLetter": {"retention": "2w"}}));
    let problems = validate("Destination", &object);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].field, "spec.deadLetter.retention");
    assert_eq!(problems[0].hint.as_deref(), Some("a duration above zero such as 500ms, 30s, 5m or 24h"));
}

#[test]
fn paths_name_items_and_rules_see_defaults() {
    let spec = json!({"target": {"url": "https://x.example"}, "network": {"allowCidrs": ["10.0.0.0/8", "10.0.0.0/33"]},
        "delivery": {"timeouts": {"request": "1s"}}});
    let expected = [
        ("spec.delivery.timeouts", "connect must not be longer than request, which includes it"),
        ("spec.network.allowCidrs[1]", "must be an address range such as 10.20.0.0/16 or 2001:db8::/32"),
    ];
    let mut found = fields(&spec);
    found.sort();
    assert_eq!(found, expected.map(|(field, message)| (field.to_owned(), message.to_owned())));
}

#[test]
fn what_is_no_object_of_ours_is_refused() {
    assert_eq!(validate("Pod", &json!({})).len(), 1);
    assert_eq!(validate("Webhook", &json!([])).len(), 1);
    let other = json!({"apiVersion": "zen-mesh.io/v1", "kind": "Webhook", "metadata": {}, "spec": {"verification": {"provider": "none"}}});
    let found: Vec<_> = validate("Webhook", &other).into_iter().map(|it| it.field).collect();
    assert_eq!(found, ["apiVersion", "metadata.name"]);
}

/// Every rule of the schemas has a twin, every twin stands in a schema, and none stands twice in the table.
#[test]
fn rules_and_schemas_belong_together() {
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                if let Some(rules) = fields.get("x-kubernetes-validations").and_then(Value::as_array) {
                    found.extend(rules.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                }
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut in_schemas = BTreeSet::new();
    for kind in KINDS {
        collect(schema(kind).unwrap(), &mut in_schemas);
    }
    let table: Vec<_> = rules::all().map(|rule| rule.cel.to_owned()).collect();
    assert_eq!(in_schemas, table.iter().cloned().collect());
    assert_eq!(in_schemas.len(), table.len());
}

#[test]
fn every_pattern_compiles() {
    fn check(schema: &Value) {
        match schema {
            Value::Object(fields) => {
                if let Some(pattern) = fields.get("pattern").and_then(Value::as_str) {
                    regex::Regex::new(pattern).unwrap();
                }
                fields.values().for_each(check);
            }
            Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    for kind in KINDS {
        check(schema(kind).unwrap());
    }
}

/// Any JSON, made of words that lead deep into the schemas as often as not.
fn any_json() -> impl Strategy<Value = Value> {
    let words = "spec|metadata|name|verification|provider|generic|secrets|secretRef|key|target|url|service|port|routes|match|in|\
                 delivery|timeouts|connect|network|allowCidrs|headers|set|forward|limits|body|encryptedData|ttl|[a-z0-9:/.%-]{0,12}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "generic|http://a|https://b|Relay|5m|1Mi|10.0.0.0/8|::/0|\\PC{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 128, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(words, inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    /// No JSON makes the check panic, and what it takes, the Rust types take too.
    #[test]
    fn any_json_has_a_verdict(value in any_json(), spec in any_json()) {
        for kind in KINDS {
            validate(kind, &value);
            let object = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
            if validate(kind, &object).is_empty() {
                let object = crate::defaulted(kind, &object);
                let taken = match kind {
                    "Webhook" => serde_json::from_value::<crate::Webhook>(object).is_ok(),
                    "Destination" => serde_json::from_value::<crate::Destination>(object).is_ok(),
                    "ZenLock" => serde_json::from_value::<crate::ZenLock>(object).is_ok(),
                    _ => serde_json::from_value::<crate::ClusterEnrollment>(object).is_ok(),
                };
                prop_assert!(taken);
            }
        }
    }

    /// Rules are total: they may be asked about any value.
    #[test]
    fn any_json_can_be_put_to_any_rule(value in any_json()) {
        for rule in rules::all() {
            (rule.holds)(&value);
        }
    }
}
