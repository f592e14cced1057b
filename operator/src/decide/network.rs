//! Who may reach what. Selecting pods for both directions denies what no rule names.
//!
//! A policy cannot select the API server, nor a node's DNS cache: ports stand for them.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::pod::component_labels;
use super::{Inputs, object};
use crate::names::{AUDIT, EGRESS, INGESTER, OPERATOR, ZENLOCK, port};
use crate::object::Object;

/// Networks that no public target is in; mode Direct reaches public targets only.
const PRIVATE_V4: [&str; 6] =
    ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
const PRIVATE_V6: [&str; 2] = ["fc00::/7", "fe80::/10"];

pub(super) fn ingester(inputs: &Inputs<'_>) -> Object {
    let workloads = inputs.workloads;
    let mut intake = json!({"ports": [tcp(port::INTAKE)]});
    if !workloads.network_policies.intake_from.is_empty() {
        // The operator sees what sources see, while certificates are exchanged.
        let from = workloads.network_policies.intake_from.iter().cloned();
        intake["from"] = from.chain(pods(&[OPERATOR])).collect();
    }
    let mut inbound = vec![intake];
    if workloads.api.enabled {
        // From the API server, which proves who it is by its client certificate.
        inbound.push(json!({"ports": [tcp(port::API)]}));
    }
    inbound.push(json!({"from": pods(&[OPERATOR, INGESTER]), "ports": [tcp(port::CONTROL)]}));
    let mut peers = vec![tcp(port::CONTROL)];
    if workloads.hub.is_some() {
        // From member clusters, which prove who they are; and from peers, which lease for the members that they took.
        let mut relay = json!({"ports": [tcp(port::RELAY)]});
        let members = &workloads.network_policies.hub_from;
        if !members.is_empty() {
            relay["from"] = members.iter().cloned().chain(pods(&[INGESTER])).collect();
        }
        inbound.push(relay);
        peers.push(tcp(port::RELAY));
    }
    inbound.push(metrics());
    let mut outbound = cluster(inputs);
    outbound.push(json!({"to": pods(&[EGRESS]), "ports": [tcp(port::LINK)]}));
    outbound.push(json!({"to": pods(&[INGESTER]), "ports": peers}));
    if workloads.zen_lock.is_some() {
        // What Webhooks verify with, where it is in a ZenLock. The egress reaches every pod of the cluster anyway.
        outbound.push(json!({"to": pods(&[ZENLOCK]), "ports": [tcp(port::ZENLOCK)]}));
    }
    // So it does here.
    outbound.extend(to_store(inputs));
    outbound.push(json!({"to": [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE_V4}},
        {"ipBlock": {"cidr": "::/0", "except": PRIVATE_V6}},
    ]}));
    policy(inputs, INGESTER, &inbound, &outbound)
}

pub(super) fn egress(inputs: &Inputs<'_>) -> Object {
    let mut inbound = vec![json!({"from": pods(&[OPERATOR]), "ports": [tcp(port::CONTROL)]}), metrics()];
    // In a member it dials, and nobody dials it.
    if inputs.workloads.member.is_none() {
        inbound.insert(0, json!({"from": pods(&[INGESTER]), "ports": [tcp(port::LINK)]}));
    }
    let mut outbound = cluster(inputs);
    // Targets are anywhere; which, the guard decides for each attempt. Metadata addresses are out of reach in any case.
    outbound.push(json!({"to": [
        {"namespaceSelector": {}},
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
    ]}));
    policy(inputs, EGRESS, &inbound, &outbound)
}

/// From the API server and from every pod that is to have its secrets.
pub(super) fn zen_lock(inputs: &Inputs<'_>) -> Object {
    let mut outbound = cluster(inputs);
    outbound.extend(to_store(inputs));
    policy(inputs, ZENLOCK, &[json!({"ports": [tcp(port::ZENLOCK)]}), metrics()], &outbound)
}

/// From those that write entries.
pub(super) fn audit(inputs: &Inputs<'_>) -> Object {
    let writers = pods(&[OPERATOR, INGESTER, EGRESS, ZENLOCK]);
    let inbound = [json!({"from": writers, "ports": [tcp(port::AUDIT)]}), metrics()];
    policy(inputs, AUDIT, &inbound, &cluster(inputs))
}

/// Where entries of the audit log go.
fn to_store(inputs: &Inputs<'_>) -> Option<Value> {
    inputs.workloads.audit.is_some().then(|| json!({"to": pods(&[AUDIT]), "ports": [tcp(port::AUDIT)]}))
}

fn policy(inputs: &Inputs<'_>, component: &'static str, inbound: &[Value], outbound: &[Value]) -> Object {
    let spec = json!({
        "podSelector": {"matchLabels": component_labels(component)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": inbound,
        "egress": outbound,
    });
    object::<NetworkPolicy>(inputs, component, component, json!({"spec": spec}))
}

/// Names, the API server, and the identity service.
fn cluster(inputs: &Inputs<'_>) -> Vec<Value> {
    let api_server: Vec<_> = inputs.workloads.network_policies.api_server_ports.iter().copied().map(tcp).collect();
    vec![
        json!({"ports": [{"port": 53, "protocol": "UDP"}, tcp(53)]}),
        json!({"ports": api_server}),
        json!({"to": pods(&[OPERATOR]), "ports": [tcp(port::IDENTITY)]}),
    ]
}

/// Probes come from the node, which policies let through; metrics are read from anywhere in the cluster.
fn metrics() -> Value {
    json!({"from": [{"namespaceSelector": {}}], "ports": [tcp(port::ADMIN)]})
}

fn pods(components: &[&str]) -> Vec<Value> {
    components.iter().map(|component| json!({"podSelector": {"matchLabels": component_labels(component)}})).collect()
}

fn tcp(port: u16) -> Value {
    json!({"port": port, "protocol": "TCP"})
}
