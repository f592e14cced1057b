//! What kubectl and controllers ask for first: which resources there are.
//!
//! No resource offers `delete`: whoever deletes a namespace would otherwise wait for these to be gone.

use axum::Json;
use serde_json::{Value, json};

use super::{GROUP, VERSION};

/// Name, singular, kind, verbs, short names.
type Resource = (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const RESOURCES: [Resource; 7] = [
    ("deadletters", "deadletter", "DeadLetter", &["get", "list"], &["dl"]),
    ("deadletters/payload", "", "DeadLetter", &["get"], &[]),
    ("meshstatuses", "meshstatus", "MeshStatus", &["list"], &[]),
    ("replays", "replay", "Replay", &["create", "get", "list"], &[]),
    ("replays/cancel", "", "Replay", &["create"], &[]),
    ("signingkeys", "signingkey", "SigningKey", &["get"], &[]),
    ("webhookevents", "webhookevent", "WebhookEvent", &["get", "list"], &["whe"]),
];

pub(super) async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [described()]}))
}

pub(super) async fn group() -> Json<Value> {
    let mut group = described();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Json(group)
}

pub(super) async fn resources() -> Json<Value> {
    let resources = RESOURCES.iter().map(|(name, singular, kind, verbs, short)| {
        let mut resource = json!({
            "name": name, "singularName": singular, "namespaced": true, "kind": kind, "verbs": verbs,
        });
        if !short.is_empty() {
            resource["shortNames"] = json!(short);
        }
        resource
    });
    Json(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": resources.collect::<Vec<_>>(),
    }))
}

fn described() -> Value {
    let version = json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}
