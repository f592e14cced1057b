//! The ingester: one queue on one volume for each replica.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::pod::{Shape, port, selector, service_port};
use super::{Inputs, Problem, audit, object, service};
use crate::names::{self, INGESTER, port as ports};
use crate::object::Object;
use crate::settings::{Service, ServiceType};

/// Where the queue lies.
const STATE: &str = "/var/lib/zen-mesh";

pub(super) fn stateful_set(inputs: &Inputs<'_>, keys: &str) -> Object {
    let shape = shape(inputs, keys);
    let storage = inputs.storage.clone().unwrap_or_else(|| (&inputs.workloads.ingester.storage).into());
    let spec = json!({
        "replicas": inputs.ingester_replicas,
        "revisionHistoryLimit": 3,
        "serviceName": names::INGESTER_PEERS,
        // Replicas do not depend on each other; an update still takes them one by one.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        // An acknowledged event lies in them.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": selector(INGESTER)},
        "template": shape.template(inputs, names::REPLICA),
        "volumeClaimTemplates": [storage.claim(names::QUEUE, INGESTER)],
    });
    object::<StatefulSet>(inputs, INGESTER, INGESTER, json!({"spec": spec}))
}

/// A pod that empties the queue of a replica that is gone.
pub fn drain_pod(inputs: &Inputs<'_>, keys: &str, ordinal: u32) -> Object {
    let mut shape = shape(inputs, keys);
    let claim = format!("{}-{INGESTER}-{ordinal}", names::QUEUE);
    shape.volumes.push(json!({"name": names::QUEUE, "persistentVolumeClaim": {"claimName": claim}}));
    let mut body = shape.template(inputs, names::DRAIN);
    body["spec"]["restartPolicy"] = "OnFailure".into();
    object::<Pod>(inputs, INGESTER, &drain_pod_name(ordinal), body)
}

/// Its name.
pub fn drain_pod_name(ordinal: u32) -> String {
    format!("{INGESTER}-drain-{ordinal}")
}

fn shape<'a>(inputs: &'a Inputs<'a>, keys: &'a str) -> Shape<'a> {
    let workloads = inputs.workloads;
    let mut container_ports =
        vec![port("intake", ports::INTAKE), port("admin", ports::ADMIN), port("control", ports::CONTROL)];
    if workloads.api.enabled {
        container_ports.push(port("api", ports::API));
    }
    let mut environment = audit::plane(inputs);
    if workloads.hub.is_some() {
        container_ports.push(port("relay", ports::RELAY));
        environment.push(json!({"name": "ZEN_RELAY", "value": format!("[::]:{}", ports::RELAY)}));
    }
    if !workloads.api.enabled {
        environment.push(json!({"name": "ZEN_API_ENABLED", "value": "false"}));
    }
    if !workloads.intake.tls_secret.is_empty() {
        // Watched by name, not mounted: another certificate is in effect within a second, not after the kubelet's sync.
        environment.push(json!({"name": "ZEN_INTAKE_SECRET", "value": workloads.intake.tls_secret}));
    }
    Shape {
        component: INGESTER,
        image: &workloads.images.ingester,
        log: &workloads.ingester.log,
        pod: &workloads.ingester.pod,
        keys: Some((names::INGESTER_KEYS, keys)),
        ports: container_ports.into(),
        environment,
        mounts: vec![json!({"name": names::QUEUE, "mountPath": STATE})],
        volumes: Vec::new(),
    }
}

pub(super) fn services(inputs: &Inputs<'_>) -> [Object; 2] {
    let body = exposed(&inputs.workloads.ingester.service, "intake");
    let peers = json!({
        "type": ServiceType::ClusterIP.as_str(), "clusterIP": "None", "selector": selector(INGESTER),
        "ports": [service_port("control", ports::CONTROL)],
    });
    [
        service(inputs, INGESTER, INGESTER, body),
        service(inputs, INGESTER, names::INGESTER_PEERS, json!({"spec": peers})),
    ]
}

/// Where the egresses of member clusters dial. Whichever replica they reach leases for all.
pub(super) fn relay_service(inputs: &Inputs<'_>) -> Object {
    let settings = inputs.workloads.hub.as_ref().map(|hub| hub.relay_service.clone()).unwrap_or_default();
    service(inputs, INGESTER, names::INGESTER_RELAY, exposed(&settings, "relay"))
}

/// A Service of the ingester's replicas, as the settings ask for it.
fn exposed(settings: &Service, name: &'static str) -> Value {
    let mut port = service_port(name, settings.port);
    if let Some(node_port) = settings.node_port {
        port["nodePort"] = node_port.into();
    }
    let spec = json!({"type": settings.r#type.as_str(), "selector": selector(INGESTER), "ports": [port]});
    let mut body = json!({"spec": spec});
    if !settings.annotations.is_empty() {
        body["metadata"] = json!({"annotations": settings.annotations});
    }
    body
}

pub(super) fn api_service(inputs: &Inputs<'_>) -> Object {
    let spec = json!({
        "type": ServiceType::ClusterIP.as_str(), "selector": selector(INGESTER),
        "ports": [{"name": "api", "port": 443, "targetPort": "api", "protocol": "TCP"}],
    });
    service(inputs, INGESTER, names::INGESTER_API, json!({"spec": spec}))
}

pub(super) fn fixed_storage(inputs: &Inputs<'_>) -> Option<Problem> {
    let wanted = &inputs.workloads.ingester.storage;
    inputs.storage.as_ref()?.fixed(wanted, "ingester.storage", INGESTER, names::QUEUE)
}

/// The ordinal of a claim of the queue.
pub fn claim_ordinal(name: &str) -> Option<u32> {
    name.strip_prefix(names::QUEUE)?.strip_prefix('-')?.strip_prefix(INGESTER)?.strip_prefix('-')?.parse().ok()
}

/// The ordinal of a replica.
pub fn pod_ordinal(name: &str) -> Option<u32> {
    name.strip_prefix(INGESTER)?.strip_prefix('-')?.parse().ok()
}

/// The ordinal of a pod that empties a queue.
pub fn drain_ordinal(name: &str) -> Option<u32> {
    name.strip_prefix(INGESTER)?.strip_prefix("-drain-")?.parse().ok()
}
