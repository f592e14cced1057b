//! `CustomResourceDefinition`s: what `kubectl apply` gets.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::schema::{schema, without_hints};
use crate::{ClusterEnrollment, Destination, KINDS, Webhook, ZenLock};

/// First line of each file.
const HEADER: &str = "# Generated from the types in crds/src by `cargo xtask generate`. Do not edit.\n";

/// File name and content of each manifest, in the order of [`KINDS`].
pub fn yaml() -> Vec<(&'static str, String)> {
    let files = ["webhooks.yaml", "destinations.yaml", "zenlocks.yaml", "clusterenrollments.yaml"];
    let manifests = KINDS.iter().filter_map(|kind| manifest(kind));
    files.into_iter().zip(manifests).map(|(file, manifest)| (file, text(&manifest))).collect()
}

fn text(manifest: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let body = serde_saphyr::to_string_with_options(manifest, options).expect("JSON is YAML");
    format!("{HEADER}{body}")
}

/// The `CustomResourceDefinition` of a kind; none for a kind that is not ours.
pub fn manifest(kind: &str) -> Option<Value> {
    let crd = match kind {
        "Webhook" => Webhook::crd(),
        "Destination" => Destination::crd(),
        "ZenLock" => ZenLock::crd(),
        "ClusterEnrollment" => ClusterEnrollment::crd(),
        _ => return None,
    };
    let mut crd = serde_json::to_value(crd).ok()?;
    crd["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "zen-mesh" });
    crd["spec"]["versions"][0]["schema"] = json!({ "openAPIV3Schema": without_hints(schema(kind)?) });
    Some(crd)
}
