//! `ZenLock`: who may use it, and which version it is. Its ciphertext is dropped: who opens it reads it anew.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use zen_crds::Subject;
use zen_model::ObjectKey;

use super::Kind;

/// What is kept of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct LockHead {
    /// What is in it is the same as long as this is.
    pub(in crate::cluster) version: LockVersion,
    /// Changes with its status too, which tells whether it can be opened.
    pub(in crate::cluster) revision: Option<String>,
    /// Who may use it. One that cannot be read is left out.
    pub(in crate::cluster) subjects: Vec<Subject>,
}

/// Which `ZenLock` of its name, and which state of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct LockVersion {
    pub(in crate::cluster) uid: Option<String>,
    pub(in crate::cluster) generation: Option<i64>,
}

impl Kind for Arc<LockHead> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) =
        (zen_crds::GROUP, zen_crds::VERSION, "ZenLock", "zenlocks");

    fn read(_: &ObjectKey, metadata: &ObjectMeta, object: Value) -> Option<Self> {
        let subjects = object.pointer("/spec/allowedSubjects").and_then(Value::as_array);
        let subjects = subjects.into_iter().flatten().filter_map(|subject| Subject::deserialize(subject).ok());
        Some(Self::new(LockHead {
            version: LockVersion { uid: metadata.uid.clone(), generation: metadata.generation },
            revision: metadata.resource_version.clone(),
            subjects: subjects.collect(),
        }))
    }
}
