use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use zen_audit::Head;

use super::{Anchor, AnchorError, Anchoring};

/// The ConfigMap's name.
pub const NAME: &str = "zen-mesh-audit-heads";
/// Its only key: one head a line.
const KEY: &str = "heads";
const FIELD_MANAGER: &str = "zen-audit";

/// Keeps heads in a ConfigMap of the mesh's namespace: in etcd, away from the volume.
#[derive(Clone)]
pub struct ConfigMapAnchor {
    api: Api<ConfigMap>,
}

impl ConfigMapAnchor {
    /// In this namespace. Needs `get`, `create` and `patch`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }
}

impl Anchor for ConfigMapAnchor {
    fn read(&self) -> Anchoring<'_, Vec<Head>> {
        Box::pin(async {
            let failed = |reason: String| AnchorError { action: "read", reason };
            let found = self.api.get_opt(NAME).await.map_err(|error| failed(error.to_string()))?;
            let text = found.and_then(|found| found.data?.remove(KEY)).unwrap_or_default();
            let heads = text.lines().map(|line| line.parse().map_err(|error| failed(format!("{error}: {line}"))));
            heads.collect()
        })
    }

    fn write<'a>(&'a self, heads: &'a [Head]) -> Anchoring<'a, ()> {
        Box::pin(async move {
            let mut lines: Vec<_> = heads.iter().map(ToString::to_string).collect();
            lines.push(String::new());
            let text = lines.join("\n");
            let labels = json!({"app.kubernetes.io/part-of": "zen-mesh", "app.kubernetes.io/component": "audit"});
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": NAME, "labels": labels},
                "data": {KEY: text},
            });
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let written = self.api.patch(NAME, &parameters, &Patch::Apply(&object)).await;
            written.map(drop).map_err(|error| AnchorError { action: "write", reason: error.to_string() })
        })
    }
}
