//! The reference of all fields, for `docs/reference/crds.md`.

use std::fmt::Write;

use serde_json::Value;

use crate::{API_VERSION, KINDS, manifest, schema};

const INTRODUCTION: &str = "# The objects

Generated from the types in `crds/src` by `cargo xtask generate`. Do not edit.

All kinds are namespaced; a namespace is a tenant. *Required* says what must be there; every other field may be left out,
and then has the default that is named. Durations are up to six digits and `ms`, `s`, `m` or `h`; sizes are numbers of
bytes, with `k`, `M`, `G`, `Ki`, `Mi` or `Gi` where wanted. `status` is written by the mesh.

A field `a[].b` is the field `b` of each item of the list `a`; `a.*` is each value of the map `a`.
";

/// The reference as Markdown: per kind a table of fields and a list of the rules that concern several of them.
pub fn reference_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for kind in KINDS {
        let (Some(schema), Some(manifest)) = (schema(kind), manifest(kind)) else { continue };
        let names = &manifest["spec"]["names"];
        let short = names["shortNames"][0].as_str().unwrap_or_default();
        let plural = names["plural"].as_str().unwrap_or_default();
        let _ = write!(text, "\n## {kind}\n\n{}\n\n", schema["description"].as_str().unwrap_or_default());
        let _ = write!(text, "`{API_VERSION}`, `kubectl get {plural}`, short name `{short}`.\n\n");
        for (part, fields) in schema["properties"].as_object().into_iter().flatten() {
            let _ = write!(
                text,
                "### {kind} {part}\n\n| field | type | default | bounds | what it is |\n|---|---|---|---|---|\n"
            );
            let mut rules = Vec::new();
            rows(fields, part, &mut text, &mut rules);
            if !rules.is_empty() {
                text.push_str("\nRules:\n\n");
                for (field, message) in rules {
                    let _ = writeln!(text, "- `{field}`: {message}");
                }
            }
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn rows(schema: &Value, path: &str, text: &mut String, rules: &mut Vec<(String, String)>) {
    rules_of(schema, path, rules);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
        row(field, &path, required, text);
        below(field, &path, text, rules);
    }
}

fn below(field: &Value, path: &str, text: &mut String, rules: &mut Vec<(String, String)>) {
    if let Some(items) = field.get("items") {
        let path = format!("{path}[]");
        if items.get("properties").is_some() {
            rows(items, &path, text, rules);
        } else {
            rules_of(items, &path, rules);
        }
    } else if let Some(values) = field.get("additionalProperties") {
        rules_of(field, path, rules);
        rules_of(values, &format!("{path}.*"), rules);
    } else {
        rows(field, path, text, rules);
    }
}

fn rules_of(schema: &Value, path: &str, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let field = rule["fieldPath"].as_str().unwrap_or_default();
        rules.push((format!("{path}{field}"), rule["message"].as_str().unwrap_or_default().to_owned()));
    }
    if let Some(branches) = schema["oneOf"].as_array() {
        let names: Vec<_> = branches.iter().filter_map(|it| it["required"][0].as_str()).collect();
        rules.push((path.to_owned(), format!("exactly one of {} is required", names.join(", "))));
    }
}

fn row(field: &Value, path: &str, required: bool, text: &mut String) {
    let default = match field.get("default") {
        Some(Value::Object(_)) | None if required => "*required*".to_owned(),
        Some(Value::Object(_)) | None => String::new(),
        Some(default) => format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
    };
    let description = field["description"].as_str().unwrap_or_default().replace('|', "\\|");
    let _ = writeln!(text, "| `{path}` | {} | {default} | {} | {description} |", type_of(field), bounds(field));
}

fn type_of(field: &Value) -> String {
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "size".to_owned();
    }
    match (field["type"].as_str(), field["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", type_of(&field["items"])),
        (Some("object"), _) if field.get("additionalProperties").is_some() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any scalar".to_owned(),
    }
}

fn bounds(field: &Value) -> String {
    if field.get("type").is_none() && field.get("x-kubernetes-preserve-unknown-fields").is_some() {
        return field["maxLength"].as_u64().map_or_else(String::new, |max| format!("≤ {max} characters"));
    }
    let mut bounds = Vec::new();
    if let Some(words) = field["enum"].as_array() {
        bounds.push(
            words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", "),
        );
    }
    let range = |least: &str, most: &str, unit: &str| match (field.get(least), field.get(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("≥ {least}{unit}")),
        (None, Some(most)) => Some(format!("≤ {most}{unit}")),
        (None, None) => None,
    };
    bounds.extend(range("minItems", "maxItems", " items"));
    bounds.extend(range("minProperties", "maxProperties", " entries"));
    bounds.extend(range("minimum", "maximum", ""));
    let words = field.get("x-zen-hint").and_then(Value::as_str);
    match words {
        Some(words) => bounds.push(words.replace('|', "\\|")),
        None => bounds.extend(field["pattern"].as_str().map(|pattern| format!("`{}`", pattern.replace('|', "\\|")))),
    }
    if field.get("x-kubernetes-int-or-string").is_none() {
        bounds.extend(range("minLength", "maxLength", " characters"));
    }
    if field["x-kubernetes-list-type"] == "set" {
        bounds.push("each once".to_owned());
    }
    if let Some(keys) = field["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
        bounds.push(format!("each {} once", keys.join(" and ")));
    }
    // What an item may be says the list's row, unless the items have rows of their own.
    if let Some(items) = field.get("items").or_else(|| field.get("additionalProperties"))
        && items.get("properties").is_none()
    {
        let items = self::bounds(items);
        if !items.is_empty() {
            bounds.push(format!("each {items}"));
        }
    }
    bounds.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().unwrap_or_default().is_empty() {
                found.push(path.clone());
            }
            undocumented(field, &path, found);
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(below) = schema.get(keyword) {
                undocumented(below, &format!("{path}[]"), found);
            }
        }
    }

    #[test]
    fn every_field_is_documented() {
        let mut found = Vec::new();
        for kind in KINDS {
            undocumented(schema(kind).unwrap(), kind, &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }
}
