//! Secret, `ConfigMap`, Service, `EndpointSlice` and Namespace: only what a configuration needs of them. Their other
//! fields are the API server's business.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zen_compile::{ConfigMapData, Endpoint, EndpointSlice, SecretData, Service, ServicePort};
use zen_model::Secret;

use super::Object;
use crate::yaml::{Node, Value};

/// Field and message; it quotes no value.
type Invalid = (String, String);

/// The content of an object of one of these kinds.
pub(super) fn read(kind: &str, node: &Node) -> Result<Object, Invalid> {
    match kind {
        "Secret" => secret(node).map(|secret| Object::Secret(Arc::new(secret))),
        "ConfigMap" => config_map(node).map(|map| Object::ConfigMap(Arc::new(map))),
        "Service" => service(node).map(|service| Object::Service(Arc::new(service))),
        "EndpointSlice" => endpoint_slice(node).map(|slice| Object::EndpointSlice(Arc::new(slice))),
        _ => Ok(Object::Namespace(Arc::new(strings(node.get("metadata"), "metadata", "labels")?))),
    }
}

fn secret(node: &Node) -> Result<SecretData, Invalid> {
    let mut data =
        decoded(node, "data")?.into_iter().map(|(key, bytes)| (key, Secret::new(bytes))).collect::<BTreeMap<_, _>>();
    data.extend(strings(Some(node), "", "stringData")?.into_iter().map(|(key, text)| (key, Secret::new(text))));
    let r#type = node.get("type").and_then(Node::as_str).unwrap_or("Opaque");
    Ok(SecretData::new(r#type, data))
}

fn config_map(node: &Node) -> Result<ConfigMapData, Invalid> {
    let mut data = decoded(node, "binaryData")?;
    data.extend(strings(Some(node), "", "data")?.into_iter().map(|(key, text)| (key, text.into_bytes())));
    Ok(ConfigMapData::new(data))
}

/// A map whose values are base64. Line breaks inside are taken, as the API server takes them.
fn decoded(node: &Node, field: &str) -> Result<BTreeMap<String, Vec<u8>>, Invalid> {
    strings(Some(node), "", field)?
        .into_iter()
        .map(|(key, text)| {
            let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let bytes = STANDARD.decode(text).map_err(|_| {
                let message = format!("the value of {key:?} in {field} is not base64; use stringData for plain text");
                (format!("{field}.{key}"), message)
            })?;
            Ok((key, bytes))
        })
        .collect()
}

/// A map of texts; anything but text is refused, as the API server refuses it. Null is an empty text.
fn strings(node: Option<&Node>, at: &str, field: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let path = if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") };
    let Some(map) = node.and_then(|node| node.get(field)) else { return Ok(BTreeMap::new()) };
    if !matches!(map.value, Value::Map(_) | Value::Null) {
        return Err((path, format!("{field} must be a map of texts")));
    }
    map.entries()
        .iter()
        .map(|(key, value)| match &value.value {
            Value::String(text) => Ok((key.text.clone(), text.clone())),
            Value::Null => Ok((key.text.clone(), String::new())),
            _ => Err((
                format!("{path}.{}", key.text),
                format!("the value of {:?} in {field} must be text; quote it", key.text),
            )),
        })
        .collect()
}

fn service(node: &Node) -> Result<Service, Invalid> {
    let spec = node.get("spec");
    let get = |field: &str| spec.and_then(|spec| spec.get(field));
    let mut ports = Vec::new();
    for (index, entry) in get("ports").map(Node::elements).unwrap_or_default().iter().enumerate() {
        let field = format!("spec.ports[{index}].port");
        let port =
            entry.get("port").and_then(port).ok_or((field, "port must be a number from 1 to 65535".to_owned()))?;
        let name = entry.get("name").and_then(Node::as_str).unwrap_or_default();
        ports.push(ServicePort { name: name.to_owned(), port });
    }
    Ok(Service { external_name: get("type").and_then(Node::as_str) == Some("ExternalName"), ports })
}

fn port(node: &Node) -> Option<u16> {
    match &node.value {
        Value::Number(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        _ => None,
    }
}

fn endpoint_slice(node: &Node) -> Result<EndpointSlice, Invalid> {
    let labels = strings(node.get("metadata"), "metadata", "labels")?;
    let service = labels.get("kubernetes.io/service-name").cloned().unwrap_or_default();
    let mut ports = BTreeMap::new();
    for (index, entry) in node.get("ports").map(Node::elements).unwrap_or_default().iter().enumerate() {
        let field = format!("ports[{index}].port");
        let number =
            entry.get("port").and_then(port).ok_or((field, "port must be a number from 1 to 65535".to_owned()))?;
        ports.insert(entry.get("name").and_then(Node::as_str).unwrap_or_default().to_owned(), number);
    }
    let mut endpoints = Vec::new();
    for (index, entry) in node.get("endpoints").map(Node::elements).unwrap_or_default().iter().enumerate() {
        // Unknown counts as ready (EndpointConditions in the reference of discovery.k8s.io/v1).
        let ready = entry.get("conditions").and_then(|conditions| conditions.get("ready"));
        if ready.is_some_and(|ready| ready.value == Value::Bool(false)) {
            continue;
        }
        let target = entry.get("targetRef").and_then(|target| target.get("kind")).and_then(Node::as_str);
        for (at, address) in entry.get("addresses").map(Node::elements).unwrap_or_default().iter().enumerate() {
            let address: Option<IpAddr> = address.as_str().and_then(|text| text.parse().ok());
            let field = format!("endpoints[{index}].addresses[{at}]");
            let address = address.ok_or((field, "an address must be an IP address".to_owned()))?;
            endpoints.push(Endpoint { address, is_pod: target == Some("Pod") });
        }
    }
    Ok(EndpointSlice { service, ports, endpoints })
}
