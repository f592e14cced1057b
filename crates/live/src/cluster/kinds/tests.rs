//! One object at a time, as an API server sends it and as none should.

use std::sync::Arc;

use kube::Resource;
use serde_json::{Value, json};
use zen_compile::{ConfigMapData, EndpointSlice, SecretData, Service};
use zen_model::{ObjectKey, ObjectReason};

use super::*;

fn item<K: Kind>(object: Value) -> Item<K> {
    serde_json::from_value(object).expect("never fails")
}

#[test]
fn what_is_not_needed_is_dropped() {
    let item = item::<Own<zen_crds::Webhook>>(json!({
        "metadata": {
            "name": "a", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "7", "labels": {"a": "b"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "x"}], "annotations": {"a": "b"},
            "finalizers": ["x"],
        },
        "spec": {"verification": {"provider": "none"}, "fieldOfAnotherRelease": 5},
        "status": {"url": "https://x/"},
    }));
    assert_eq!((item.key.clone(), item.meta().resource_version.as_deref()), (ObjectKey::new("n", "a"), Some("7")));
    let Some(Own::Read(webhook)) = item.object else { panic!("{item:?}") };
    assert!(webhook.status.is_none());
    let expected = ObjectMeta {
        name: Some("a".to_owned()),
        namespace: Some("n".to_owned()),
        uid: Some("u".to_owned()),
        generation: Some(3),
        creation_timestamp: serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"),
        ..ObjectMeta::default()
    };
    assert_eq!(webhook.metadata, expected);
}

#[test]
fn one_that_is_not_as_it_should_be_is_refused_and_named() {
    for (object, path) in [
        (
            json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 2}, "spec": {"path": "/n/x", "verification": 1}}),
            "/n/x",
        ),
        (json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 2, "labels": 7}}), "/n/a"),
        (
            json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 2, "creationTimestamp": []}, "spec": []}),
            "/n/a",
        ),
    ] {
        let Some(Own::Refused(refused)) = item::<Own<zen_crds::Webhook>>(object.clone()).object else {
            panic!("{object}")
        };
        assert_eq!((refused.kind, &refused.key), ("Webhook", &ObjectKey::new("n", "a")));
        assert_eq!((refused.uid.as_deref(), refused.generation), (Some("u"), Some(2)));
        assert_eq!(refused.place.as_ref().expect("it keeps its place").path, path);
        assert_eq!(refused.problems[0].reason, ObjectReason::Invalid);
    }
    for nonsense in [json!(null), json!(5), json!([]), json!({}), json!({"metadata": "x"})] {
        let item = item::<Own<zen_crds::Destination>>(nonsense);
        assert!(matches!(item.object, Some(Own::Refused(_))));
    }
}

#[test]
fn secrets_and_config_maps() {
    let secret = item::<Arc<SecretData>>(json!({
        "metadata": {"name": "s", "namespace": "n"}, "type": "kubernetes.io/tls",
        "data": {"a": "b25l", "odd": 5, "bad": "*"},
    }));
    let secret = secret.object.expect("a Secret");
    assert_eq!((secret.r#type(), secret.keys().collect::<Vec<_>>()), ("kubernetes.io/tls", vec!["a"]));
    assert_eq!(secret.get("a").expect("is there").expose(), b"one");
    let map =
        item::<Arc<ConfigMapData>>(json!({"data": {"a": "x"}, "binaryData": {"b": "b25l"}})).object.expect("a map");
    assert_eq!((map.get("a"), map.get("b")), (Some(b"x".as_slice()), Some(b"one".as_slice())));
    let empty = item::<Arc<SecretData>>(json!({"metadata": {"name": "s", "namespace": "n"}})).object.expect("a Secret");
    assert_eq!(empty.r#type(), "Opaque");
    let mesh = |object| item::<MeshText>(object).object.and_then(|MeshText(text)| text);
    assert_eq!(mesh(json!({"data": {"mesh.yaml": "a: 1"}})).as_deref(), Some("a: 1"));
    assert_eq!(mesh(json!({"data": {"other": "a: 1"}})), None);
}

#[test]
fn services_and_slices() {
    let service = item::<Arc<Service>>(json!({"spec": {"type": "ExternalName"}})).object.expect("a Service");
    assert!(service.external_name && service.ports.is_empty());
    let service = item::<Arc<Service>>(json!({"spec": {"ports": [{"port": 80}, {"name": "web", "port": 443}]}}));
    let ports: Vec<_> = service.object.expect("a Service").ports.iter().map(|it| (it.name.clone(), it.port)).collect();
    assert_eq!(ports, [(String::new(), 80), ("web".to_owned(), 443)]);

    let slice = |rest: Value| {
        let mut object = json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}});
        object.as_object_mut().expect("a map").extend(rest.as_object().expect("a map").clone());
        item::<Arc<EndpointSlice>>(object).object
    };
    let full = slice(json!({
        "ports": [{"name": "web", "port": 8443}, {"port": 80}, {"name": "none"}],
        "endpoints": [
            {"addresses": ["10.0.0.1", "fd00::1"], "targetRef": {"kind": "Pod"}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": null}, "targetRef": {"kind": "Node"}},
            {"addresses": ["example.org"]},
        ],
    }));
    let full = full.expect("a slice");
    assert_eq!((full.service.as_str(), full.ports.len()), ("web", 2));
    let endpoints: Vec<_> = full.endpoints.iter().map(|it| (it.address.to_string(), it.is_pod)).collect();
    let expected = [("10.0.0.1", true), ("fd00::1", true), ("10.0.0.3", false)];
    assert_eq!(endpoints, expected.map(|(address, is_pod)| (address.to_owned(), is_pod)));
    assert!(slice(json!({"ports": null, "endpoints": null})).expect("a slice").endpoints.is_empty());
    assert!(slice(json!({"endpoints": "x"})).is_none(), "not read, and nobody else is hurt");
    assert!(item::<Arc<EndpointSlice>>(json!({"endpoints": []})).object.is_none(), "it belongs to no Service");
}
