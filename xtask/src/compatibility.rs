//! Whether the kinds of this tree take every object that those of the last release took, and show every field (K-09).
//!
//! `crds/released/` keeps the manifests of the last release; there are none before the first. A release copies `crds/yaml`
//! there. What this finds needs another API version, or another way.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run;

/// Compares; fails with each difference that breaks somebody.
pub fn check() -> anyhow::Result<()> {
    let folder = run::root().join("crds/released");
    if !folder.exists() {
        eprintln!("xtask: nothing was released before: no kind to be compatible with");
        return Ok(());
    }
    let broken = compare(&folder)?;
    if !broken.is_empty() {
        bail!("objects of the last release would be refused, or read otherwise:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn compare(released: &Path) -> anyhow::Result<Vec<String>> {
    let now: Vec<Value> =
        zen_crds::yaml().into_iter().map(|(_, text)| serde_saphyr::from_str(&text)).collect::<Result<_, _>>()?;
    let mut broken = Vec::new();
    for entry in released.read_dir()? {
        let path = entry?.path();
        let shown = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {shown}"))?;
        let before: Value = serde_saphyr::from_str(&text).with_context(|| format!("failed to read {shown}"))?;
        let name = &before["metadata"]["name"];
        match now.iter().find(|now| now["metadata"]["name"] == *name) {
            Some(now) => broken.extend(breaks(&before["spec"], &now["spec"]).map(|what| format!("{name}: {what}"))),
            None => broken.push(format!("{name}: it is gone")),
        }
    }
    Ok(broken)
}

/// What of one kind breaks its users.
fn breaks(before: &Value, now: &Value) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    for field in ["/group", "/scope", "/names/kind", "/names/plural"] {
        if before.pointer(field) != now.pointer(field) {
            found.push(format!("{field} is another"));
        }
    }
    let versions = |spec: &Value| spec["versions"].as_array().cloned().unwrap_or_default();
    for old in versions(before).iter().filter(|version| version["served"] == true) {
        let name = old["name"].as_str().unwrap_or_default();
        let same = |new: &&Value| new["name"] == name && new["served"] == true;
        match versions(now).iter().find(same) {
            None => found.push(format!("version {name} is not served any more")),
            Some(new) => {
                if old["subresources"]["status"].is_object() && !new["subresources"]["status"].is_object() {
                    found.push(format!("{name} has no status subresource any more"));
                }
                schema(&old["schema"]["openAPIV3Schema"], &new["schema"]["openAPIV3Schema"], name, &mut found);
            }
        }
    }
    found.into_iter()
}

/// Bounds that refuse more when they fall, and those that do when they rise.
const UPPER: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];
const LOWER: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];
/// What means another thing, or refuses another thing, whatever it changes to.
const FIXED: [&str; 7] = [
    "type",
    "format",
    "pattern",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
];

fn schema(before: &Value, now: &Value, path: &str, found: &mut Vec<String>) {
    for field in FIXED {
        // A default that came later fills in what was left to us before.
        let first_default = field == "default" && before[field].is_null();
        // A pattern or format that is gone refuses less.
        let looser = ["pattern", "format"].contains(&field) && now[field].is_null();
        if before[field] != now[field] && !first_default && !looser {
            found.push(format!("{path}: {field} was {}, is {}", before[field], now[field]));
        }
    }
    let (old, new) = (number(before), number(now));
    for (bounds, tightens) in [(UPPER, f64::lt as fn(&f64, &f64) -> bool), (LOWER, f64::gt)] {
        for bound in bounds {
            if new(bound).is_some_and(|new| old(bound).is_none_or(|old| tightens(&new, &old))) {
                found.push(format!("{path}: {bound} was {}, is {}", before[bound], now[bound]));
            }
        }
    }
    if before["nullable"] == true && now["nullable"] != true {
        found.push(format!("{path}: null is refused"));
    }
    let members = |value: &Value, field: &str| {
        let all = value[field].as_array().into_iter().flatten();
        all.map(|member| member.get("rule").unwrap_or(member).to_string()).collect::<BTreeSet<_>>()
    };
    let (old, new) = (members(before, "enum"), members(now, "enum"));
    if !new.is_empty() && (old.is_empty() || !old.is_subset(&new)) {
        found.push(format!("{path}: no value any more: {:?}", old.difference(&new).collect::<Vec<_>>()));
    }
    for rule in members(now, "x-kubernetes-validations").difference(&members(before, "x-kubernetes-validations")) {
        found.push(format!("{path}: a rule that was not there: {rule}"));
    }
    for required in members(now, "required").difference(&members(before, "required")) {
        let name = required.trim_matches('"');
        if now["properties"][name]["default"].is_null() {
            found.push(format!("{path}: {name} has become required"));
        }
    }
    for (name, old) in before["properties"].as_object().into_iter().flatten() {
        match now["properties"].get(name) {
            Some(new) => schema(old, new, &format!("{path}.{name}"), found),
            None => found.push(format!("{path}.{name}: it is gone")),
        }
    }
    for part in ["items", "additionalProperties"] {
        if before[part].is_object() {
            schema(&before[part], &now[part], &format!("{path}[]"), found);
        }
    }
}

fn number(schema: &Value) -> impl Fn(&str) -> Option<f64> {
    |bound| schema[bound].as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A kind, with a change to its schema.
    fn kind(pointer: &str, value: Value) -> Value {
        let mut spec = json!({
            "group": "zen-mesh.io", "scope": "Namespaced", "names": {"kind": "Webhook", "plural": "webhooks"},
            "versions": [{"name": "v1", "served": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                "type": "object", "required": ["a"],
                "x-kubernetes-validations": [{"rule": "self.a != 'x'", "message": "m"}],
                "properties": {
                    "a": {"type": "string", "maxLength": 10, "minLength": 1, "pattern": "^a", "enum": ["a1", "a2"]},
                    "list": {"type": "array", "items": {"type": "integer", "nullable": true, "default": 3}},
                },
            }}}],
        });
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(fields)) = spec.pointer_mut(parent) {
            match value {
                Value::Null => drop(fields.remove(name)),
                value => drop(fields.insert(name.to_owned(), value)),
            }
        }
        spec
    }

    #[test]
    fn what_breaks_and_what_does_not() {
        const A: &str = "/versions/0/schema/openAPIV3Schema/properties/a";
        const ITEMS: &str = "/versions/0/schema/openAPIV3Schema/properties/list/items";
        const TOP: &str = "/versions/0/schema/openAPIV3Schema";
        let at = |place: &str, field: &str| format!("{place}/{field}");
        for (pointer, value, expected) in [
            ("/names/shortNames".to_owned(), json!(["wh"]), None),
            ("/scope".to_owned(), json!("Cluster"), Some("/scope")),
            ("/versions/0/served".to_owned(), json!(false), Some("not served")),
            ("/versions/0/subresources".to_owned(), json!({}), Some("status subresource")),
            (at(A, "maxLength"), json!(11), None),
            (at(A, "maxLength"), json!(9), Some("v1.a: maxLength was 10, is 9")),
            (at(A, "minLength"), json!(0), None),
            (at(A, "minLength"), json!(2), Some("minLength")),
            (at(A, "pattern"), json!("^b"), Some("pattern")),
            (at(A, "pattern"), Value::Null, None),
            (at(A, "type"), json!("integer"), Some("type")),
            (at(A, "enum"), json!(["a1", "a2", "a3"]), None),
            (at(A, "enum"), json!(["a1"]), Some("a2")),
            (at(A, "enum"), Value::Null, None),
            (at(A, "default"), json!("a1"), None),
            (at(A, "description"), json!("words"), None),
            (at(ITEMS, "default"), json!(4), Some("v1.list[]: default was 3, is 4")),
            (at(ITEMS, "nullable"), Value::Null, Some("null is refused")),
            (at(ITEMS, "maximum"), json!(7), Some("maximum")),
            (at(TOP, "required"), json!(["a", "list"]), Some("list has become required")),
            (at(TOP, "required"), json!([]), None),
            (at(TOP, "properties/a"), Value::Null, Some("v1.a: it is gone")),
            (at(TOP, "properties/b"), json!({"type": "string"}), None),
            (at(TOP, "x-kubernetes-validations"), json!([]), None),
            (at(TOP, "x-kubernetes-validations"), json!([{"rule": "self.a != 'y'"}]), Some("self.a != 'y'")),
        ] {
            let found: Vec<_> = breaks(&kind("", Value::Null), &kind(&pointer, value.clone())).collect();
            match expected {
                None => assert!(found.is_empty(), "{pointer} {value}: {found:?}"),
                Some(words) => assert!(found.len() == 1 && found[0].contains(words), "{pointer} {value}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_kinds_of_this_tree_are_compatible_with_themselves_and_each_must_stay() {
        let folder = tempfile::tempdir().expect("room");
        for (name, text) in zen_crds::yaml() {
            fs::write(folder.path().join(name), text).expect("room");
        }
        assert_eq!(compare(folder.path()).expect("read"), Vec::<String>::new());
        fs::write(folder.path().join("old.yaml"), "metadata: {name: olds.zen-mesh.io}\nspec: {}\n").expect("room");
        assert_eq!(compare(folder.path()).expect("read"), ["\"olds.zen-mesh.io\": it is gone"]);
    }
}
