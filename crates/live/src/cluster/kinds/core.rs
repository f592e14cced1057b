//! Secret, `ConfigMap`, Service, `EndpointSlice` and Namespace: what a configuration needs of them.

use std::collections::BTreeMap;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use zen_compile::{ConfigMapData, Endpoint, EndpointSlice, SecretData, Service, ServicePort};
use zen_model::{ObjectKey, Secret};
use zeroize::Zeroize;

use super::Kind;

/// Labels of a Namespace.
pub(in crate::cluster) type Labels = Arc<BTreeMap<String, String>>;

/// The key `mesh.yaml` of a `ConfigMap`; none where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct MeshText(pub(in crate::cluster) Option<Arc<str>>);

impl Kind for Arc<SecretData> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) = ("", "v1", "Secret", "secrets");

    fn read(_: &ObjectKey, _: &ObjectMeta, mut object: Value) -> Option<Self> {
        let r#type = object.get("type").and_then(Value::as_str).unwrap_or("Opaque").to_owned();
        let mut data = BTreeMap::new();
        for (key, value) in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
            let Value::String(text) = value else { continue };
            // The API server stores bytes, and writes them as base64.
            if let Ok(bytes) = STANDARD.decode(&*text) {
                data.insert(key.clone(), Secret::new(bytes));
            }
            text.zeroize();
        }
        Some(Self::new(SecretData::new(r#type, data)))
    }
}

impl Kind for Arc<ConfigMapData> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) = ("", "v1", "ConfigMap", "configmaps");

    fn read(_: &ObjectKey, _: &ObjectMeta, object: Value) -> Option<Self> {
        let texts = |field: &str| {
            let map = object.get(field).and_then(Value::as_object);
            map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        };
        let mut data: BTreeMap<_, _> =
            texts("binaryData").filter_map(|(key, text)| Some((key, STANDARD.decode(text).ok()?))).collect();
        data.extend(texts("data").map(|(key, text)| (key, text.into_bytes())));
        Some(Self::new(ConfigMapData::new(data)))
    }
}

impl Kind for MeshText {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) = <Arc<ConfigMapData> as Kind>::TYPE;

    fn read(_: &ObjectKey, _: &ObjectMeta, object: Value) -> Option<Self> {
        Some(Self(object.pointer("/data/mesh.yaml").and_then(Value::as_str).map(Arc::from)))
    }
}

impl Kind for Labels {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) = ("", "v1", "Namespace", "namespaces");

    fn read(_: &ObjectKey, metadata: &ObjectMeta, _: Value) -> Option<Self> {
        Some(Self::new(metadata.labels.clone().unwrap_or_default()))
    }
}

impl Kind for Arc<Service> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) = ("", "v1", "Service", "services");

    fn read(_: &ObjectKey, _: &ObjectMeta, object: Value) -> Option<Self> {
        let spec = RawService::deserialize(object.get("spec")?).ok()?;
        let ports = spec.ports.into_iter();
        Some(Self::new(Service {
            external_name: spec.r#type == "ExternalName",
            ports: ports.map(|RawPort { name, port }| ServicePort { name, port: port.unwrap_or(0) }).collect(),
        }))
    }
}

impl Kind for Arc<EndpointSlice> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) =
        ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");

    fn read(_: &ObjectKey, metadata: &ObjectMeta, object: Value) -> Option<Self> {
        let service = metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
        let raw = RawSlice::deserialize(object).ok()?;
        // Unknown counts as ready (EndpointConditions in the reference of discovery.k8s.io/v1).
        let ready = raw.endpoints.unwrap_or_default().into_iter().filter(|raw| raw.conditions.ready != Some(false));
        let endpoints = ready.flat_map(|raw| {
            let is_pod = raw.target_ref.is_some_and(|target| target.kind == "Pod");
            raw.addresses.into_iter().filter_map(move |text| Some(Endpoint { address: text.parse().ok()?, is_pod }))
        });
        let ports = raw.ports.unwrap_or_default().into_iter();
        let endpoints: Vec<Endpoint> = endpoints.collect();
        Some(Self::new(EndpointSlice {
            service,
            ports: ports.filter_map(|raw| Some((raw.name, raw.port?))).collect(),
            endpoints,
        }))
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawService {
    r#type: String,
    ports: Vec<RawPort>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPort {
    #[serde(deserialize_with = "text")]
    name: String,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct RawSlice {
    #[serde(default)]
    ports: Option<Vec<RawPort>>,
    #[serde(default)]
    endpoints: Option<Vec<RawEndpoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: RawConditions,
    #[serde(default)]
    target_ref: Option<RawTarget>,
}

#[derive(Default, Deserialize)]
struct RawConditions {
    #[serde(default)]
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct RawTarget {
    #[serde(default)]
    kind: String,
}

/// A text that may be null.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}
