//! The plane of the egress: Destinations with their Services, and no Webhook.

use zen_compile::Target;

use super::*;

fn slice(name: &str, service: &str, version: u32, address: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "team-a", "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"name": "web", "port": 8443}, {"name": null, "port": null}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "p"}},
            {"addresses": ["10.0.0.99"], "conditions": {"ready": false}},
        ],
    })
}

fn service(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "team-a", "resourceVersion": "1"},
        "spec": {"type": "ClusterIP", "ports": [{"name": "web", "port": 443}]},
    })
}

fn to_service(name: &str, service: &str) -> Value {
    own("Destination", name, 1, &json!({"target": {"service": {"name": service, "port": 443}}}))
}

fn addresses(snapshot: &Snapshot, name: &str) -> Vec<String> {
    match snapshot.destination(&key(name)).map(|destination| &destination.target) {
        Some(Target::Service { addresses, .. }) => addresses.iter().map(|address| address.socket.to_string()).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn services_follow_their_pods_and_only_those_named_matter() {
    let direct = own("Destination", "direct", 1, &json!({"mode": "Direct", "target": {"url": "https://d.example/"}}));
    let world = World::new(vec![], vec![to_service("web", "web"), direct]);
    world.server.watch(SERVICES, vec![service("web"), service("other")]);
    let slices = world.server.watch(SLICES, vec![slice("w", "web", 1, "10.0.0.1"), slice("o", "other", 1, "10.0.1.1")]);
    let cluster = world.start(Plane::Egress).await;
    assert_eq!(addresses(&cluster.snapshot().load(), "web"), ["10.0.0.1:8443"]);
    assert!(cluster.published().borrow().complete);
    let judged: Vec<_> =
        cluster.published().borrow().verdicts.iter().map(|verdict| verdict.key.name.to_string()).collect();
    assert_eq!(judged, ["web"], "what the ingester delivers itself is not the egress's business");
    assert!(world.server.received().iter().all(|call| call.path != WEBHOOKS), "Webhooks are not read");

    slices.modified(slice("o", "other", 2, "10.0.1.2"));
    slices.modified(slice("w", "web", 3, "10.0.0.2"));
    until(&cluster, "another pod", |_, snapshot| addresses(snapshot, "web") == ["10.0.0.2:8443"]).await;
    assert_eq!(cluster.published().borrow().generation, 2, "a Service that nobody names makes no configuration");

    world.destinations.added(to_service("later", "other"));
    until(&cluster, "named later", |_, snapshot| addresses(snapshot, "later") == ["10.0.1.2:8443"]).await;
    slices.deleted(slice("w", "web", 3, "10.0.0.2"));
    until(&cluster, "no pod", |_, snapshot| addresses(snapshot, "web").is_empty()).await;
    world.destinations.deleted(to_service("later", "other"));
    until(&cluster, "not named", |_, snapshot| snapshot.destination(&key("later")).is_none()).await;
    slices.modified(slice("o", "other", 9, "10.0.1.3"));
    slices.modified(slice("w", "web", 10, "10.0.0.3"));
    let before = cluster.published().borrow().generation;
    until(&cluster, "a pod again", |_, snapshot| addresses(snapshot, "web") == ["10.0.0.3:8443"]).await;
    assert_eq!(cluster.published().borrow().generation, before + 1);
}
