//! What a rendering has in it, by kind and name.

use anyhow::{Context, Result};
use serde_json::Value;

/// The objects of a rendering, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendering {
    /// Every object.
    pub objects: Vec<Value>,
}

impl Rendering {
    /// Reads the text of a rendering.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { objects: documents(text)? })
    }

    /// An object by `Kind/name`; null where there is none.
    pub fn object(&self, id: &str) -> &Value {
        let (kind, name) = id.split_once('/').unwrap_or((id, ""));
        let found = self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or(&Value::Null)
    }

    /// The content of `mesh.yaml`.
    pub fn mesh(&self) -> Result<Value> {
        self.inner("ConfigMap/zen-mesh", "mesh.yaml")
    }

    /// The content of `workloads.yaml`.
    pub fn workloads(&self) -> Result<Value> {
        self.inner("ConfigMap/zen-mesh-workloads", "workloads.yaml")
    }

    fn inner(&self, id: &str, key: &str) -> Result<Value> {
        let text = self.object(id)["data"][key].as_str().with_context(|| format!("{id} has no {key}"))?;
        serde_saphyr::from_str(text).with_context(|| format!("failed to read {key}"))
    }

    /// The pod templates, each with the `Kind/name` that it belongs to.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        let with_pods = self.objects.iter().filter(|object| object["spec"]["template"]["spec"].is_object());
        with_pods.map(|object| (id(object), &object["spec"]["template"])).collect()
    }
}

/// `Kind/name` of an object.
fn id(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// The documents of a YAML text that are not empty.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("failed to read YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
