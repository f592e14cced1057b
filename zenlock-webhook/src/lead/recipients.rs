//! The public keys, where `zen lock encrypt` finds them: a `ConfigMap` that everybody may read.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use zen_runtime::lease::Leadership;

use super::{NAME, Parts};

/// Its name.
pub const CONFIG_MAP: &str = "zen-mesh-recipients";
/// Its key: one public key a line, the newest first.
const KEY: &str = "recipients.txt";
/// Written again after so long: somebody may have changed it.
const AGAIN: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps it as the keys in force are.
pub(super) async fn publish(parts: Parts, leadership: Leadership) {
    let api: Api<ConfigMap> = Api::namespaced(parts.client.clone(), &parts.namespace);
    let mut changes = parts.custody.changes();
    loop {
        changes.borrow_and_update();
        let keys = parts.custody.keys();
        let mut next = AGAIN;
        if !keys.each.is_empty() && leadership.check().is_ok() {
            let text = keys.published();
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": CONFIG_MAP, "labels": {"app.kubernetes.io/part-of": "zen-mesh", "app.kubernetes.io/managed-by": NAME}},
                "data": {KEY: text},
            });
            if let Err(error) = api.patch(CONFIG_MAP, &PatchParams::apply(NAME).force(), &Patch::Apply(&object)).await {
                tracing::warn!(%error, "failed to publish the public keys");
                next = PAUSE;
            }
        }
        let _ = tokio::time::timeout(next, changes.changed()).await;
    }
}
