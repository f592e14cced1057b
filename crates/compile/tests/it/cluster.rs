//! Many owners: nothing is granted that the mesh configuration does not grant, and the oldest wins.

use std::sync::Arc;

use zen_compile::{Mode, Objects, Plane, Serving, compile, mesh};
use zen_model::{Namespace, ObjectKey, ObjectReason};

use crate::{objects, own, reasons, verdict};

fn aged(text: &str, ages: &[(&str, &str)]) -> Objects {
    let mut objects = objects(text);
    for (name, created) in ages {
        let webhook = objects.webhooks.get_mut(&ObjectKey::new("team-a", *name)).expect("exists");
        let time = serde_json::from_value(serde_json::json!(created)).expect("a time");
        Arc::make_mut(webhook).metadata.creation_timestamp = Some(time);
    }
    objects
}

#[test]
fn the_oldest_wins_and_the_other_answers_nowhere() {
    let hook = |name: &str| {
        own(
            "Webhook",
            name,
            "{path: /team-a/x, verification: {provider: none}, routes: [{destinations: [{name: ci}]}]}",
        )
    };
    let text = hook("a") + &hook("b") + &own("Destination", "ci", "{target: {url: \"https://ci.example/\"}}");
    let ages = [("a", "2026-02-01T00:00:00Z"), ("b", "2026-01-01T00:00:00Z")];
    let compiled = compile(&aged(&text, &ages), None, Mode::Cluster(Plane::Ingester));
    let served = compiled.snapshot.webhook("h", "/team-a/x").expect("routed");
    assert_eq!(served.key.name.as_str(), "b");
    assert!(reasons(verdict(&compiled, "Webhook team-a/a")).contains(&("spec.path", ObjectReason::Conflicted)));
    let loser = &compiled.snapshot.webhooks[&ObjectKey::new("team-a", "a")];
    assert!(matches!(loser.serving, Serving::Invalid(ObjectReason::Conflicted)));

    let compiled = compile(&aged(&text, &ages), None, Mode::Standalone);
    let served = compiled.snapshot.webhook("h", "/team-a/x").expect("routed");
    assert_eq!(served.key.name.as_str(), "a", "files have no age");

    // The winner goes: the other takes its place at once.
    let before = compile(&aged(&text, &ages), None, Mode::Cluster(Plane::Ingester)).snapshot;
    let mut objects = aged(&text, &ages);
    objects.webhooks.remove(&ObjectKey::new("team-a", "b"));
    let compiled = compile(&objects, Some(&before), Mode::Cluster(Plane::Ingester));
    assert_eq!(compiled.snapshot.webhook("h", "/team-a/x").expect("routed").key.name.as_str(), "a");
}

#[test]
fn without_a_mesh_configuration_nothing_more_is_granted() {
    let text = own("Webhook", "a", "{path: /elsewhere, verification: {provider: none}}")
        + &own("Destination", "ci", "{target: {url: \"http://10.0.0.1/\"}, network: {allowCidrs: [10.0.0.0/8]}}");
    let objects = objects(&text);
    let compiled = compile(&objects, None, Mode::Cluster(Plane::Ingester));
    assert!(compiled.snapshot.webhook("h", "/elsewhere").is_none(), "nobody squats on a path that is not theirs");
    assert!(compiled.snapshot.destinations.is_empty());
    let compiled = compile(&objects, None, Mode::Standalone);
    assert!(compiled.snapshot.webhook("h", "/elsewhere").is_some());
    assert_eq!(compiled.snapshot.destinations.len(), 1);
}

#[test]
fn a_changed_grant_is_seen_although_no_object_changed() {
    let mut objects = objects(&own("Webhook", "a", "{path: /x, hosts: [h.example], verification: {provider: none}}"));
    let grants = serde_json::json!({
        "trustDomain": "example.org", "drainDelay": "2s",
        "grants": [{"namespace": "team-a", "hosts": ["h.example"], "quota": {"bytes": "1Mi"}}],
    });
    objects.mesh = Some(Arc::new(mesh::Config::from_json(&grants).expect("valid")));
    let granted = compile(&objects, None, Mode::Cluster(Plane::Ingester));
    assert!(granted.snapshot.webhook("h.example", "/x").is_some());
    assert_eq!(granted.snapshot.mesh.trust_domain, "example.org");
    assert_eq!(granted.snapshot.mesh.quotas.get(&Namespace::from("team-a")), Some(&(1 << 20)));
    objects.mesh = None;
    let withdrawn = compile(&objects, Some(&granted.snapshot), Mode::Cluster(Plane::Ingester));
    assert!(withdrawn.snapshot.webhook("h.example", "/x").is_none());
    assert_eq!(withdrawn.snapshot.mesh.trust_domain, mesh::TRUST_DOMAIN);
}

#[test]
fn whether_a_foreign_destination_exists_is_not_told() {
    let hook = own(
        "Webhook",
        "a",
        "{verification: {provider: none}, routes: [{destinations: [{name: d, namespace: other}]}]}",
    );
    let foreign = own("Destination", "d", "{target: {url: \"https://d.example/\"}}")
        .replace("namespace: team-a", "namespace: other");
    let missing = compile(&objects(&hook), None, Mode::Cluster(Plane::Ingester));
    let refused = compile(&objects(&(hook.clone() + &foreign)), None, Mode::Cluster(Plane::Ingester));
    let problems = |compiled: &zen_compile::Compiled| verdict(compiled, "Webhook team-a/a").problems.to_vec();
    assert_eq!(problems(&missing), problems(&refused));
}
