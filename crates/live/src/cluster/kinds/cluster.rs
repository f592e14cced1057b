//! `ClusterEnrollment`: whether the cluster may have anything, and by which keys. The bundle in its status is dropped.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zen_compile::Enrolled;
use zen_crds::ClusterEnrollment;
use zen_model::ObjectKey;

use super::Kind;

impl Kind for Arc<Enrolled> {
    const TYPE: (&'static str, &'static str, &'static str, &'static str) =
        (zen_crds::GROUP, zen_crds::VERSION, "ClusterEnrollment", "clusterenrollments");

    fn read(_: &ObjectKey, metadata: &ObjectMeta, mut object: Value) -> Option<Self> {
        let unread = || Self::new(Enrolled::unread(metadata.uid.as_deref()));
        let Some(spec) = part(&mut object, "spec") else { return Some(unread()) };
        // No status yet is one that says nothing; one of another release's form would say less than it should.
        let status = match object.get("status") {
            None | Some(Value::Null) => None,
            Some(_) => match part(&mut object, "status") {
                Some(status) => Some(status),
                None => return Some(unread()),
            },
        };
        let enrollment = ClusterEnrollment { metadata: metadata.clone(), spec, status };
        Some(Self::new(Enrolled::of(&enrollment)))
    }
}

fn part<T: DeserializeOwned>(object: &mut Value, field: &str) -> Option<T> {
    serde_json::from_value(object.get_mut(field)?.take()).ok()
}
