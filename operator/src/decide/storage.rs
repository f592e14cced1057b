//! The volumes of a `StatefulSet`: Kubernetes does not let them change once it is made.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::Problem;
use super::pod::component_labels;
use crate::settings;

/// The volumes of a `StatefulSet` that exists, or is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// As it was asked for.
    pub size: String,
    /// Empty: the cluster's default.
    pub class_name: String,
}

impl From<&settings::Storage> for Storage {
    fn from(wanted: &settings::Storage) -> Self {
        Self { size: wanted.size.clone(), class_name: wanted.class_name.clone() }
    }
}

impl Storage {
    /// Of the claims of this name.
    pub fn of(set: &StatefulSet, claims: &str) -> Option<Self> {
        let templates = set.spec.as_ref()?.volume_claim_templates.as_deref()?;
        let claim = templates.iter().find(|claim| claim.metadata.name.as_deref() == Some(claims))?.spec.as_ref()?;
        let size = claim.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone();
        Some(Self { size, class_name: claim.storage_class_name.clone().unwrap_or_default() })
    }

    /// The template of the claims.
    pub(super) fn claim(&self, name: &str, component: &str) -> Value {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": self.size}},
        });
        if !self.class_name.is_empty() {
            spec["storageClassName"] = self.class_name.clone().into();
        }
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "labels": component_labels(component)},
            "spec": spec,
        })
    }

    /// Everything else is applied, and this is said.
    pub(super) fn fixed(&self, wanted: &settings::Storage, setting: &str, set: &str, claims: &str) -> Option<Problem> {
        let bytes = |size: &str| zen_crds::parse_quantity(size);
        if bytes(&self.size) == bytes(&wanted.size) && self.class_name == wanted.class_name {
            return None;
        }
        let quoted =
            |class: &str| if class.is_empty() { "the default class".to_owned() } else { format!("class {class}") };
        let message = format!(
            "{setting} asks for {} of {}, but the StatefulSet {set} was made with {} of {}, and Kubernetes does not \
             let that change. Grow the PersistentVolumeClaims {claims}-{set}-N themselves, then delete the StatefulSet with \
             --cascade=orphan: the operator makes it again with the new size, and no pod restarts for that.",
            wanted.size,
            quoted(&wanted.class_name),
            self.size,
            quoted(&self.class_name),
        );
        Some(Problem { reason: "StorageNotChanged", message })
    }
}
