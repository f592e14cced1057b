//! EndpointSlices of the data plane's headless Services → pods.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use zen_identity::control::Plane;

use super::fleet::Pod;
use crate::names;

/// Label by which a slice names its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The half of the data plane that stands behind a Service.
pub fn plane_of(service: &str) -> Option<Plane> {
    match service {
        names::INGESTER_PEERS => Some(Plane::Ingester),
        names::EGRESS => Some(Plane::Egress),
        _ => None,
    }
}

/// The pods of these slices, each once. An endpoint that is no pod is none of ours.
pub fn pods<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<Pod> {
    let mut pods = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(plane) = labels.and_then(|labels| labels.get(SERVICE_LABEL)).and_then(|name| plane_of(name)) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let Some((name, uid)) = target.and_then(|target| Some((target.name.as_deref()?, target.uid.as_deref()?)))
            else {
                continue;
            };
            let Some(address) = endpoint.addresses.iter().find_map(|address| address.parse().ok()) else { continue };
            let conditions = endpoint.conditions.as_ref();
            // `ready` is always true where the Service publishes addresses that are not; `serving` is the pod's own
            // word. Absent means yes for both, by their definition.
            let serving = conditions.and_then(|it| it.serving.or(it.ready)).unwrap_or(true);
            let terminating = conditions.and_then(|it| it.terminating).unwrap_or(false);
            let pod = Pod { plane, name: name.into(), uid: uid.into(), address, ready: serving && !terminating };
            // A pod may be in two slices while one replaces the other.
            pods.entry((plane, uid.to_owned())).and_modify(|known: &mut Pod| known.ready |= pod.ready).or_insert(pod);
        }
    }
    pods.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(service: &str, endpoints: &Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "labels": {SERVICE_LABEL: service}}, "addressType": "IPv4", "endpoints": endpoints,
        }))
        .expect("a slice")
    }

    fn endpoint(name: &str, conditions: &Value) -> Value {
        let target = json!({"kind": "Pod", "name": name, "uid": format!("uid-{name}")});
        json!({"addresses": ["10.0.0.7"], "conditions": conditions, "targetRef": target})
    }

    #[test]
    fn who_is_ready() {
        for (conditions, ready) in [
            (json!({}), true),
            (json!({"ready": true}), true),
            (json!({"ready": false}), false),
            (json!({"ready": true, "serving": false}), false),
            (json!({"ready": true, "serving": true, "terminating": false}), true),
            (json!({"ready": false, "serving": true, "terminating": true}), false),
        ] {
            let slices = [slice("zen-ingester-peers", &json!([endpoint("i-0", &conditions)]))];
            let found = pods(&slices);
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].plane, found[0].ready), (Plane::Ingester, ready), "{conditions}");
        }
    }

    #[test]
    fn only_pods_of_the_data_plane_each_once() {
        let stranger = json!({"addresses": ["10.0.0.8"], "conditions": {}});
        let nowhere = json!({"addresses": ["example.com"], "targetRef": {"kind": "Pod", "name": "x", "uid": "x"}});
        let not_ready = endpoint("e-0", &json!({"ready": false}));
        let slices = [
            slice("zen-egress", &json!([endpoint("e-0", &json!({})), stranger, nowhere])),
            slice("zen-egress", &json!([not_ready, endpoint("e-1", &json!({}))])),
            slice("other", &json!([endpoint("o-0", &json!({}))])),
        ];
        let found: Vec<_> = pods(&slices).into_iter().map(|pod| (pod.plane, pod.name.to_string(), pod.ready)).collect();
        assert_eq!(found, [(Plane::Egress, "e-0".to_owned(), true), (Plane::Egress, "e-1".to_owned(), true)]);
    }
}
