//! The registration of the aggregated API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::json;

use super::Inputs;
use crate::names;
use crate::object::Object;

/// Cluster-wide, so that nothing of a namespace can own it: `zen-operator cleanup` deletes it.
pub(super) fn registration(inputs: &Inputs<'_>, trust: &str) -> Object {
    let (version, group) = names::API_SERVICE.split_once('.').unwrap_or_default();
    let spec = json!({
        "group": group,
        "version": version,
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "service": {"namespace": inputs.namespace, "name": names::INGESTER_API, "port": 443},
        "caBundle": STANDARD.encode(trust),
    });
    Object::new::<APIService>(None, names::API_SERVICE, json!({"spec": spec})).component("ingester")
}
