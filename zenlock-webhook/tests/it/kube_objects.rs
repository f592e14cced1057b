//! Objects, as users write them.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use zen_lock::{Recipient, seal};
use zen_model::Secret;

/// A ZenLock with these values, for these accounts.
pub fn zen_lock(namespace: &str, name: &str, to: &[Recipient], data: &[(&str, &str)], accounts: &[&str]) -> Value {
    let sealed = |value: &str| seal(&Secret::new(value), to).unwrap();
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, value)| ((*key).to_owned(), sealed(value).into())).collect();
    let subjects: Vec<_> = accounts.iter().map(|name| json!({"kind": "ServiceAccount", "name": name})).collect();
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ZenLock", "metadata": {"name": name, "namespace": namespace},
        "spec": {"encryptedData": data, "allowedSubjects": subjects},
    })
}

/// A pod of account `ci` in `team-a` that asks.
pub fn pod(name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| (format!("zen-mesh.io/{key}"), (*value).into())).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "annotations": annotations},
        "spec": {"serviceAccountName": "ci", "containers": [{"name": "shop", "image": "shop:1"}]},
    })
}

/// What Pod Security `restricted` asks of a pod.
pub fn restricted(mut pod: Value) -> Value {
    pod["metadata"]["namespace"] = "strict".into();
    pod["spec"]["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

/// Names of the init containers.
pub fn init_containers(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.as_ref().unwrap();
    spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect()
}
