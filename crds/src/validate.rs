//! What the API server would say to an object, without one. Pure, and total on any JSON.
//!
//! The schema is the program: whatever stands there is checked here, in the words that the API server uses for it, and
//! each CEL rule through its Rust twin. The table in `e2e/tests/it/rules.rs` puts every refusal to both.

mod metadata;
mod scalar;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::rules::{self, Rule};
use crate::{API_VERSION, defaults, schema};

/// Deeper JSON than any schema of ours describes is not looked into.
const MAX_DEPTH: usize = 64;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Where, such as `spec.routes[0].match[1].pointer`.
    pub field: String,
    /// What, as the API server says it.
    pub message: String,
    /// What to write instead, where that can be said.
    pub hint: Option<String>,
    /// The field is not known: the API server drops or refuses it, our manifest readers refuse it.
    pub unknown: bool,
}

/// Everything that is wrong with an object of a kind. `status` is not looked at: it is not the writer's.
pub fn validate(kind: &str, object: &Value) -> Vec<SchemaProblem> {
    let Some(schema) = schema(kind) else {
        return vec![problem("kind", format!("no kind {kind:?} in {API_VERSION}"))];
    };
    let Value::Object(fields) = object else {
        return vec![problem("", format!("must be of type object: \"{}\"", scalar::type_name(object)))];
    };
    let mut problems = Vec::new();
    metadata::check(kind, fields, &mut problems);

    let mut wanted = Value::Object(fields.iter().filter(|(name, _)| *name == "spec").map(own).collect());
    defaults::fill(&mut wanted, schema);
    Walk { problems: &mut problems, blocking: 0 }.node(&mut String::new(), &wanted, schema, 0);
    problems
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn problem(field: &str, message: impl Into<String>) -> SchemaProblem {
    SchemaProblem { field: field.to_owned(), message: message.into(), hint: None, unknown: false }
}

struct Walk<'a> {
    problems: &'a mut Vec<SchemaProblem>,
    /// How many problems left a value that rules cannot be asked about: a wrong type, a missing field, too much of it.
    blocking: usize,
}

impl Walk<'_> {
    /// One value against its place in the schema. `path` is restored on return.
    fn node(&mut self, path: &mut String, value: &Value, schema: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let before = self.blocking;
        if let Some(message) = scalar::wrong_type(value, schema) {
            self.blocking += 1;
            self.add(path, message, schema);
            return;
        }
        for broken in scalar::broken_bounds(value, schema) {
            self.blocking += usize::from(broken.blocking);
            self.add(path, broken.message, schema);
        }
        match value {
            Value::Object(fields) => self.object(path, fields, schema, depth),
            Value::Array(items) => self.array(path, items, schema, depth),
            _ => {}
        }
        // The API server then skips the rules of the whole object; those of another place may still be worth saying.
        if self.blocking == before {
            self.rules(path, value, schema);
        }
    }

    fn object(&mut self, path: &mut String, fields: &Map<String, Value>, schema: &Value, depth: usize) {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.blocking += 1;
                within(path, name, |path| self.problems.push(problem(path, "Required value")));
            }
        }
        let known = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties");
        let anything = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
        for (name, value) in fields {
            match known.and_then(|known| known.get(name)).or(rest) {
                Some(schema) => within(path, name, |path| self.node(path, value, schema, depth + 1)),
                None if anything => {}
                None => within(path, name, |path| {
                    let hint = known.and_then(|known| closest(name, known.keys()));
                    self.blocking += 1;
                    self.problems.push(SchemaProblem {
                        field: path.clone(),
                        message: format!("unknown field \"{path}\""),
                        hint: hint.map(|known| format!("did you mean {known}?")),
                        unknown: true,
                    });
                }),
            }
        }
        self.one_of(path, fields, schema);
    }

    /// `oneOf` of ours only asks which fields are there.
    fn one_of(&mut self, path: &str, fields: &Map<String, Value>, schema: &Value) {
        let Some(branches) = schema.get("oneOf").and_then(Value::as_array) else { return };
        let names = || branches.iter().filter_map(|branch| branch.get("required")?.get(0)?.as_str());
        let valid = names().filter(|name| fields.contains_key(*name)).count();
        if valid != 1 {
            let found = if valid == 0 { "none valid".to_owned() } else { format!("{valid} valid alternatives") };
            let mut found = problem(path, format!("must validate one and only one schema (oneOf). Found {found}"));
            found.hint = Some(format!("exactly one of {}", names().collect::<Vec<_>>().join(", ")));
            self.problems.push(found);
        }
    }

    fn array(&mut self, path: &mut String, items: &[Value], schema: &Value, depth: usize) {
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                let end = path.len();
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
                self.node(path, item, schema, depth + 1);
                path.truncate(end);
            }
        }
        for index in scalar::duplicates(items, schema) {
            self.problems.push(problem(&format!("{path}[{index}]"), "Duplicate value"));
        }
    }

    fn rules(&mut self, path: &str, value: &Value, schema: &Value) {
        for entry in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            let Some(rule) = entry.get("rule").and_then(Value::as_str).and_then(twin) else { continue };
            if !(rule.holds)(value) {
                let dot = if path.is_empty() || rule.field.is_empty() { "" } else { "." };
                self.add(&format!("{path}{dot}{}", rule.field), rule.message.to_owned(), schema);
            }
        }
    }

    fn add(&mut self, path: &str, message: String, schema: &Value) {
        let hint = schema.get("x-zen-hint").and_then(Value::as_str).map(str::to_owned);
        self.problems.push(SchemaProblem { hint, ..problem(path, message) });
    }
}

/// Runs with a field's name appended to the path.
fn within(path: &mut String, name: &str, run: impl FnOnce(&mut String)) {
    let end = path.len();
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
    run(path);
    path.truncate(end);
}

/// The Rust side of a CEL rule.
pub(crate) fn twin(cel: &str) -> Option<&'static Rule> {
    static BY_CEL: LazyLock<HashMap<&str, &Rule>> =
        LazyLock::new(|| rules::all().map(|rule| (rule.cel, rule)).collect());
    BY_CEL.get(cel).copied()
}

/// The known name that a mistyped one is nearest to, if it is near.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let name = name.get(..name.floor_char_boundary(64)).unwrap_or_default().to_lowercase();
    known
        .map(|known| (distance(&name, &known.to_lowercase()), known.as_str()))
        .min()
        .filter(|(distance, known)| *distance <= 2 && *distance * 2 <= known.len())
        .map(|(_, known)| known)
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let substitution = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
