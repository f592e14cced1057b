//! What the API server does to an object before it validates it: drops `null`, fills in defaults.

use serde_json::Value;

use crate::schema::schema;

/// The object as the API server would keep it: `null` fields dropped, defaults filled in. An object of another kind
/// comes back as it is.
pub fn defaulted(kind: &str, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(schema) = schema(kind) {
        fill(&mut object, schema);
    }
    object
}

/// Defaults below one place of a schema, outermost first, as Kubernetes fills them.
pub(crate) fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in known.into_iter().flatten() {
                if fields.get(name).is_some_and(Value::is_null) {
                    fields.remove(name);
                }
                if let Some(default) = schema.get("default")
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill(field, schema);
                }
            }
            if let Some(schema) = schema.get("additionalProperties") {
                fields.values_mut().for_each(|field| fill(field, schema));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill(item, schema);
                }
            }
        }
        _ => {}
    }
}
