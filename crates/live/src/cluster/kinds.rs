//! What each kind is reduced to as soon as it arrives. Managed fields, annotations, status and whatever else no
//! configuration needs are dropped there, so that memory follows what is in use and not what the API server stores.

mod cluster;
mod core;
mod lock;
mod own;

use std::borrow::Cow;
use std::fmt::Debug;

pub(super) use core::{Labels, MeshText};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
pub(super) use lock::{LockHead, LockVersion};
pub(super) use own::Own;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zen_model::ObjectKey;

/// A kind of objects that is watched.
pub(super) trait Kind: Clone + Debug + Send + Sync + 'static {
    /// Group, version, kind and plural.
    const TYPE: (&'static str, &'static str, &'static str, &'static str);

    /// Takes what is needed. Total: an object that is not as it should be becomes one that says so, or nothing.
    fn read(key: &ObjectKey, metadata: &ObjectMeta, object: Value) -> Option<Self>;
}

/// An object on its way from the API server. Reading one never fails: a single object that is not as it should be would
/// take the whole list with it.
#[derive(Clone, Debug)]
pub(super) struct Item<K> {
    pub(super) key: ObjectKey,
    /// None where it cannot be read and there is nothing to say about it.
    pub(super) object: Option<K>,
    metadata: ObjectMeta,
}

impl<'de, K: Kind> Deserialize<'de> for Item<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let metadata = metadata(&mut object);
        // Only Namespaces have none; they are looked up by their name.
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let key = ObjectKey::new(namespace, metadata.name.as_deref().unwrap_or_default());
        let read = K::read(&key, &metadata, object);
        let metadata = ObjectMeta { resource_version: metadata.resource_version, ..ObjectMeta::default() };
        Ok(Self { key, object: read, metadata })
    }
}

/// The metadata that is needed. Where they are not as they should be, as much of them as can be read.
fn metadata(object: &mut Value) -> ObjectMeta {
    let mut raw = object.get_mut("metadata").map(Value::take).unwrap_or_default();
    if let Some(fields) = raw.as_object_mut() {
        fields.retain(|field, _| {
            matches!(
                field.as_str(),
                "name"
                    | "namespace"
                    | "uid"
                    | "generation"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "resourceVersion"
                    | "labels"
            )
        });
    }
    ObjectMeta::deserialize(&raw).unwrap_or_else(|_| {
        let text = |field: &str| raw.get(field).and_then(Value::as_str).map(str::to_owned);
        ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: raw.get("generation").and_then(Value::as_i64),
            ..ObjectMeta::default()
        }
    })
}

impl<K: Kind> kube::Resource for Item<K> {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn group((): &()) -> Cow<'_, str> {
        K::TYPE.0.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::TYPE.1.into()
    }

    fn kind((): &()) -> Cow<'_, str> {
        K::TYPE.2.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::TYPE.3.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests;
