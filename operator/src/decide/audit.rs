//! The audit store: one replica, for a chain has one place, and a volume that outlives it.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::pod::{Shape, port, selector, service_port};
use super::{Inputs, Problem, object};
use crate::names::{self, AUDIT, AUDIT_DATA, port as ports};
use crate::object::Object;
use crate::settings::{Audit, ServiceType};

/// Where the volume is; the entries lie in a folder of it, away from what a file system has in its root.
const DATA: &str = "/var/lib/zen-mesh";
/// The most of a plane's log, in the memory of its pod: months of what is refused, unless somebody knocks all day.
const PLANE_MIB: u32 = 16;

pub(super) fn stateful_set(inputs: &Inputs<'_>, settings: &Audit) -> Object {
    let shape = Shape {
        component: AUDIT,
        image: &inputs.workloads.images.audit,
        log: &settings.log,
        pod: &settings.pod,
        keys: None,
        ports: json!([port("audit", ports::AUDIT), port("admin", ports::ADMIN)]),
        environment: vec![
            json!({"name": "ZEN_AUDIT_KEEP_DAYS", "value": settings.keep_days.to_string()}),
            json!({"name": "ZEN_AUDIT_KEEP_MIB", "value": settings.keep_mib.to_string()}),
        ],
        mounts: vec![json!({"name": AUDIT_DATA, "mountPath": DATA})],
        volumes: Vec::new(),
    };
    let mut template = shape.template(inputs, names::REPLICA);
    template["spec"]["containers"][0]["args"] = json!(["serve"]);
    let storage = inputs.audit_storage.clone().unwrap_or_else(|| (&settings.storage).into());
    let spec = json!({
        "replicas": 1,
        "revisionHistoryLimit": 3,
        "serviceName": AUDIT,
        "updateStrategy": {"type": "RollingUpdate"},
        // Evidence lies in it.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": selector(AUDIT)},
        "template": template,
        "volumeClaimTemplates": [storage.claim(AUDIT_DATA, AUDIT)],
    });
    object::<StatefulSet>(inputs, AUDIT, AUDIT, json!({"spec": spec}))
}

pub(super) fn service(inputs: &Inputs<'_>) -> Object {
    let spec = json!({
        "type": ServiceType::ClusterIP.as_str(), "selector": selector(AUDIT),
        "ports": [service_port("audit", ports::AUDIT)],
    });
    super::service(inputs, AUDIT, AUDIT, json!({"spec": spec}))
}

/// What a pod that records before it answers is told.
pub(super) fn environment(inputs: &Inputs<'_>) -> Vec<Value> {
    let Some(audit) = &inputs.workloads.audit else { return Vec::new() };
    vec![store(inputs), json!({"name": "ZEN_AUDIT_STRICT", "value": audit.strict.to_string()})]
}

/// What a plane is told: it is never strict, for nothing that it delivers waits for an entry.
pub(super) fn plane(inputs: &Inputs<'_>) -> Vec<Value> {
    let mut environment = vec![json!({"name": "ZEN_AUDIT_MIB", "value": PLANE_MIB.to_string()})];
    environment.extend(inputs.workloads.audit.is_some().then(|| store(inputs)));
    environment
}

fn store(inputs: &Inputs<'_>) -> Value {
    json!({"name": "ZEN_AUDIT_STORE", "value": format!("{AUDIT}.{}.svc", inputs.namespace)})
}

pub(super) fn fixed_storage(inputs: &Inputs<'_>, settings: &Audit) -> Option<Problem> {
    inputs.audit_storage.as_ref()?.fixed(&settings.storage, "audit.storage", AUDIT, AUDIT_DATA)
}
