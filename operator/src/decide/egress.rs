//! The egress: delivers, and holds nothing that matters.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::pod::{Shape, port, selector, service_port};
use super::{Inputs, audit, object};
use crate::names::{self, EGRESS, port as ports};
use crate::object::Object;
use crate::settings::ServiceType;

pub(super) fn deployment(inputs: &Inputs<'_>, keys: &str) -> Object {
    let workloads = inputs.workloads;
    let shape = Shape {
        component: EGRESS,
        image: &workloads.images.egress,
        log: &workloads.egress.log,
        pod: &workloads.egress.pod,
        keys: Some((names::EGRESS_KEYS, keys)),
        ports: json!([port("link", ports::LINK), port("admin", ports::ADMIN), port("control", ports::CONTROL)]),
        environment: audit::plane(inputs),
        mounts: Vec::new(),
        volumes: Vec::new(),
    };
    let spec = json!({
        "replicas": workloads.egress.replicas,
        "revisionHistoryLimit": 3,
        // Never fewer than wanted: what one has leased, another can take only after the lease.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": selector(EGRESS)},
        "template": shape.template(inputs, names::REPLICA),
    });
    object::<Deployment>(inputs, EGRESS, EGRESS, json!({"spec": spec}))
}

/// Without an address of its own: each ingester dials every pod.
pub(super) fn service(inputs: &Inputs<'_>) -> Object {
    let spec = json!({
        "type": ServiceType::ClusterIP.as_str(), "clusterIP": "None", "selector": selector(EGRESS),
        // The second is also where the events of probes end.
        "ports": [service_port("link", ports::LINK), service_port("admin", ports::ADMIN)],
    });
    super::service(inputs, EGRESS, EGRESS, json!({"spec": spec}))
}
