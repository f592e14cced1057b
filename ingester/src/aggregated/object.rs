//! Answers in the shape of Kubernetes objects: what is known stands in `status`.

use serde::Serialize;
use serde_json::{Value, json};
use zen_model::{Namespace, Timestamp};

use super::{GROUP, VERSION};

/// One object.
pub(super) fn object(
    kind: &str,
    namespace: Option<&Namespace>,
    name: &str,
    created: Option<Timestamp>,
    status: &impl Serialize,
) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(created) = created {
        // metav1.Time has whole seconds.
        metadata["creationTimestamp"] = json!(Timestamp(created.0 / 1000 * 1000).to_string().replace(".000Z", "Z"));
    }
    json!({"apiVersion": api_version(), "kind": kind, "metadata": metadata, "status": status})
}

/// A list of them.
pub(super) fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": api_version(), "kind": format!("{kind}List"), "metadata": {}, "items": items})
}

fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}
