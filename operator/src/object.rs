//! Objects as we want them ([`Object`]) and as they are ([`Present`]).

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Resource;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::names;

/// An object of the API server, by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind, e.g. `StatefulSet`.
    pub kind: String,
    /// Its namespace; none where the kind has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Id {
    /// An object of a namespace.
    pub fn new<K: Resource<DynamicType = ()>>(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: K::kind(&()).into_owned(), namespace: Some(namespace.into()), name: name.into() }
    }

    /// Of an object that the API server has.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object as we want it: what a server-side apply sends. It says only what we decide about, nothing that the API
/// server fills in.
#[derive(Clone, PartialEq)]
pub struct Object {
    resource: ApiResource,
    id: Id,
    body: Map<String, Value>,
}

impl Object {
    /// An object of this kind. `body` holds everything but `apiVersion`, `kind`, namespace and name; the managed-by and
    /// name labels are added, so that we know it again.
    pub fn new<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str, body: Value) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let id = Id { kind: resource.kind.clone(), namespace: namespace.map(str::to_owned), name: name.to_owned() };
        let mut body = match body {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        body.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        body.insert("kind".to_owned(), resource.kind.clone().into());
        let metadata = entry(&mut body, "metadata");
        metadata.insert("name".to_owned(), name.into());
        if let Some(namespace) = namespace {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        let labels = entry(metadata, "labels");
        labels.insert(names::NAME_LABEL.to_owned(), names::NAME.into());
        labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.into());
        Self { resource, id, body }
    }

    /// Says which part of the mesh it belongs to.
    #[must_use]
    pub fn component(mut self, component: &str) -> Self {
        let metadata = entry(&mut self.body, "metadata");
        entry(metadata, "labels").insert(names::COMPONENT_LABEL.to_owned(), component.into());
        self
    }

    /// Goes when its owner goes.
    #[must_use]
    pub fn owned_by(mut self, owner: &Value) -> Self {
        entry(&mut self.body, "metadata").insert("ownerReferences".to_owned(), Value::Array(vec![owner.clone()]));
        self
    }

    /// Which object it is.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// How its kind is reached.
    pub fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// What is sent.
    pub fn body(&self) -> &Map<String, Value> {
        &self.body
    }
}

impl fmt::Debug for Object {
    /// Never the body: it may be a Secret's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.id)
    }
}

/// The map at a key, made where there is none.
pub(crate) fn entry<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object in the line above")
}

/// An object as a store last saw it.
pub trait Present: Send + Sync {
    /// Its metadata, with the managed fields.
    fn meta(&self) -> &ObjectMeta;
    /// All of it.
    fn value(&self) -> Value;
}

impl<K: Resource<DynamicType = ()> + Serialize + Send + Sync> Present for K {
    fn meta(&self) -> &ObjectMeta {
        Resource::meta(self)
    }

    fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// How a kind that the operator deletes or marks is reached.
pub fn resource(kind: &str) -> Option<ApiResource> {
    Some(match kind {
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        "NetworkPolicy" => ApiResource::erase::<NetworkPolicy>(&()),
        "Role" => ApiResource::erase::<Role>(&()),
        "RoleBinding" => ApiResource::erase::<RoleBinding>(&()),
        "Pod" => ApiResource::erase::<Pod>(&()),
        "PersistentVolumeClaim" => ApiResource::erase::<PersistentVolumeClaim>(&()),
        "APIService" => ApiResource::erase::<APIService>(&()),
        "MutatingWebhookConfiguration" => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        "ValidatingWebhookConfiguration" => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
        _ => return None,
    })
}

/// What stores hand out.
pub type Stored = Arc<dyn Present>;

/// Whether we made it: it carries our managed-by label.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    meta.labels
        .as_ref()
        .and_then(|labels| labels.get(names::MANAGED_BY_LABEL))
        .is_some_and(|by| by == names::MANAGED_BY)
}
