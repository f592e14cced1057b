//! Webhooks and Destinations: each is converted by itself, and one that cannot be is refused by itself.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zen_compile::{Place, Problem, Refused};
use zen_model::{ObjectKey, ObjectReason};

use super::Kind;

/// An object of ours.
#[derive(Clone, Debug)]
pub(in crate::cluster) enum Own<T> {
    /// As the compiler takes it.
    Read(Arc<T>),
    /// It does not have the form of its kind, though the API server took it: its schema is another release's.
    Refused(Arc<Refused>),
}

impl Kind for Own<zen_crds::Webhook> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) =
        (zen_crds::GROUP, zen_crds::VERSION, "Webhook", "webhooks");

    fn read(key: &ObjectKey, metadata: &ObjectMeta, object: Value) -> Option<Self> {
        // Even then it keeps its place, so that nobody else's secrets are asked for there.
        let place = |spec: &Value| {
            let hosts = spec.get("hosts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Place::new(key, hosts.iter().filter_map(Value::as_str), spec.get("path").and_then(Value::as_str))
        };
        Some(read(Self::TYPE.2, key, metadata, object, |spec| Some(place(spec)), zen_crds::Webhook::new))
    }
}

impl Kind for Own<zen_crds::Destination> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) =
        (zen_crds::GROUP, zen_crds::VERSION, "Destination", "destinations");

    fn read(key: &ObjectKey, metadata: &ObjectMeta, object: Value) -> Option<Self> {
        Some(read(Self::TYPE.2, key, metadata, object, |_| None, zen_crds::Destination::new))
    }
}

fn read<S: DeserializeOwned, T: HasMetadata>(
    kind: &'static str,
    key: &ObjectKey,
    metadata: &ObjectMeta,
    mut object: Value,
    place: impl Fn(&Value) -> Option<Place>,
    make: impl Fn(&str, S) -> T,
) -> Own<T> {
    let spec = object.get_mut("spec").map(Value::take).unwrap_or_default();
    match S::deserialize(&spec) {
        Ok(spec) => {
            let mut object = make(&key.name.to_string(), spec);
            *object.metadata() = ObjectMeta {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
                generation: metadata.generation,
                creation_timestamp: metadata.creation_timestamp.clone(),
                ..ObjectMeta::default()
            };
            Own::Read(Arc::new(object))
        }
        Err(error) => {
            let message = format!("the {kind} does not have the form that this release knows: {error}");
            let problem = Problem { field: "spec".to_owned(), reason: ObjectReason::Invalid, message };
            Own::Refused(Arc::new(Refused {
                kind,
                key: key.clone(),
                problems: vec![problem],
                place: place(&spec),
                uid: metadata.uid.as_deref().map(Arc::from),
                generation: metadata.generation,
            }))
        }
    }
}

trait HasMetadata {
    fn metadata(&mut self) -> &mut ObjectMeta;
}

impl HasMetadata for zen_crds::Webhook {
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl HasMetadata for zen_crds::Destination {
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
