//! Recompiling: what did not change keeps its `Arc`, and the result is the one that a fresh compilation gives.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use zen_compile::{Compiled, Enrolled, KeyVersion, Mode, Objects, Plane, ReferenceKind, Unavailable, compile};
use zen_model::{ClusterId, ObjectKey};

use crate::{objects, own, secret};

/// Objects that depend on each other in every way that the compiler knows.
fn parts() -> Vec<String> {
    let hook = |name: &str, rest: &str| {
        own(
            "Webhook",
            name,
            &format!("{{verification: {{provider: github, secrets: [{{secretRef: {{name: s, key: k}}}}]}}, {rest}}}"),
        )
    };
    vec![
        hook("a", "routes: [{destinations: [{name: ci}]}]"),
        hook("b", "path: /team-a/a, routes: [{destinations: [{name: ci}, {name: d, namespace: other}]}]"),
        own("Webhook", "open", "{verification: {provider: none}, routes: [{match: [{eventType: [x]}], destinations: [{name: svc}]}]}"),
        own("Destination", "ci", "{target: {url: \"https://ci.example/\"}, headers: {forward: [X-A]}}"),
        own("Destination", "svc", "{target: {service: {name: web, port: 80, scheme: http}}}"),
        own("Destination", "signed", "{target: {url: \"https://e.example/\"}, signing: {secrets: [{secretRef: {name: s, key: k}}]}}"),
        own("Destination", "d", "{target: {url: \"https://d.example/\"}, allowFrom: {selector: {matchLabels: {tier: gold}}}}")
            .replace("namespace: team-a", "namespace: other"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, labels: {tier: gold}}\n---\n".to_owned(),
        secret("s", "{k: one}"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: team-a}\nspec: {ports: [{port: 80}]}\n---\n".to_owned(),
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: w, namespace: team-a, labels: {kubernetes.io/service-name: web}}\nports: [{port: 8080}]\nendpoints: [{addresses: [10.0.0.1]}]\n---\n".to_owned(),
        hook("c", "path: /team-a/a, hosts: [h.example, i.example]"),
        // One that the reader refuses, on a place that others want.
        hook("aa", "path: /team-a/a, hosts: [i.example], unknown: 1"),
        own("Destination", "direct", "{mode: Direct, target: {url: \"https://f.example/\"}, signing: {secrets: [{secretRef: {name: s, key: k}}]}}"),
        own("Destination", "relay", "{mode: Relay, cluster: eu, target: {url: \"https://r.example/\"}, signing: {secrets: [{secretRef: {name: s, key: k}}]}}"),
        own("Destination", "ci2", "{target: {url: \"https://f.example/\"}, nothing: 1}"),
    ]
}

/// Other versions of some of them, by index.
fn changed(index: usize, part: &str) -> String {
    match index {
        0 => part.replace("routes:", "limits: {body: 2Mi}, routes:"),
        3 => part.replace("X-A", "X-B"),
        7 => part.replace("gold", "silver"),
        8 => part.replace("one", "two"),
        10 => part.replace("10.0.0.1", "10.0.0.2"),
        11 => part.replace("/team-a/a", "/team-a/c"),
        12 => part.replace("i.example", "j.example"),
        13 => part.replace("mode: Direct, ", ""),
        14 => part.replace("cluster: eu", "cluster: us"),
        15 => part.replace(", nothing: 1", ""),
        _ => part.to_owned(),
    }
}

fn configuration(present: u32, altered: u32) -> Objects {
    let parts = parts();
    let text = parts.iter().enumerate().filter(|(index, _)| present & (1 << index) != 0).fold(
        String::new(),
        |mut text, (index, part)| {
            text.push_str(&if altered & (1 << index) == 0 { part.clone() } else { changed(index, part) });
            text
        },
    );
    zen_live::testing::objects(&text).0
}

/// A hub with a cluster in one of its states or none, or a member.
fn set_clusters(objects: &mut Objects, state: u8, member: u8) {
    let enrolled = |enabled, joined, connected| Enrolled {
        uid: "u".to_owned(),
        enabled,
        joined,
        connected,
        versions: vec![KeyVersion { version: 1, until: None }],
    };
    let enrolled = match state {
        0 => enrolled(false, true, None),
        1 => enrolled(true, false, None),
        2 => enrolled(true, true, Some(false)),
        3 | 4 => enrolled(true, true, Some(true)),
        _ => Enrolled::unread(None),
    };
    let named = |name| ClusterId::new("team-a", name).expect("a cluster");
    if state < 6 {
        objects.clusters.insert(named("eu"), Arc::new(enrolled));
    }
    objects.clusters_unread = state == 7;
    objects.member = match member {
        0 | 1 => Some(named("eu")),
        2 => Some(named("us")),
        _ => None,
    };
}

/// Everything about a compilation but its number and its memory.
fn shown(compiled: &Compiled) -> String {
    let snapshot = &compiled.snapshot;
    let mut text = String::new();
    for webhook in snapshot.webhooks.values() {
        let _ = writeln!(text, "{webhook:?}");
        let routed = snapshot.webhook("h", &webhook.path).map(|found| found.key.clone());
        let _ = writeln!(text, "{} -> {routed:?}", webhook.path);
    }
    let mut destinations: Vec<_> = snapshot.destinations.values().collect();
    destinations.sort_by(|a, b| a.key.cmp(&b.key));
    for destination in destinations {
        let plain = (
            &destination.key,
            destination.revision,
            &destination.target,
            &destination.allow_from,
            &destination.forward,
            (destination.mode, &destination.cluster),
        );
        let _ = writeln!(text, "{plain:?} {}", destination.signing.len());
    }
    let _ = writeln!(text, "{:?} {:?} {:?}", snapshot.unusable, snapshot.mesh, compiled.verdicts);
    let _ = writeln!(text, "{:?} {:?}", compiled.references, snapshot.clusters);
    for host in ["h", "h.example", "i.example", "j.example"] {
        for path in ["/team-a/a", "/team-a/b", "/team-a/c", "/team-a/aa", "/team-a/open"] {
            let _ = writeln!(text, "{host}{path} {:?}", snapshot.webhook(host, path));
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_was_before_changes_nothing(
        steps in proptest::collection::vec((0_u32..1 << 16, any::<u32>(), 0_u8..4, any::<bool>(), 0_u8..8, 0_u8..8), 2..6),
        mode in prop_oneof![
            Just(Mode::Standalone),
            Just(Mode::Cluster(Plane::Ingester)),
            Just(Mode::Cluster(Plane::Egress)),
            Just(Mode::Cluster(Plane::Operator)),
            Just(Mode::Cluster(Plane::Member)),
        ],
    ) {
        let mut before = None;
        for (number, (present, altered, unavailable, incomplete, cluster, member)) in (1..).zip(steps) {
            let mut objects = configuration(present, altered);
            let key = (ReferenceKind::Secret, ObjectKey::new("team-a", "s"));
            match unavailable {
                0 => drop(objects.unavailable.insert(key, Unavailable::Absent)),
                1 => drop(objects.unavailable.insert(key, Unavailable::Forbidden)),
                _ => {}
            }
            objects.incomplete = incomplete;
            set_clusters(&mut objects, cluster, member);
            let again = compile(&objects, before.as_ref(), mode);
            let fresh = compile(&objects, None, mode);
            prop_assert_eq!(shown(&again), shown(&fresh));
            prop_assert_eq!(again.snapshot.generation, number);
            before = Some(again.snapshot);
        }
    }

    #[test]
    fn the_order_of_objects_changes_nothing(parts in Just(parts()).prop_shuffle()) {
        let shuffled = compile(&zen_live::testing::objects(&parts.concat()).0, None, Mode::Standalone);
        let straight = compile(&configuration(u32::MAX, 0), None, Mode::Standalone);
        prop_assert_eq!(shown(&shuffled), shown(&straight));
    }
}

#[test]
fn a_change_touches_what_depends_on_it_only() {
    let before = compile(&configuration(u32::MAX, 0), None, Mode::Standalone).snapshot;
    let same = |after: &zen_compile::Snapshot, kind: char, namespace: &str, name: &str| {
        let key = ObjectKey::new(namespace, name);
        match kind {
            'w' => Arc::ptr_eq(&before.webhooks[&key], &after.webhooks[&key]),
            _ => Arc::ptr_eq(&before.destinations[&key], &after.destinations[&key]),
        }
    };
    let all = [
        ('w', "team-a", "a"),
        ('w', "team-a", "b"),
        ('w', "team-a", "open"),
        ('d', "team-a", "ci"),
        ('d', "team-a", "svc"),
        ('d', "team-a", "signed"),
        ('d', "other", "d"),
    ];
    for (altered, dependent) in [
        (None, vec![]),
        (Some(0), vec!["a"]),
        (Some(3), vec!["a", "b", "ci"]),
        (Some(7), vec!["b", "d"]),
        (Some(8), vec!["a", "b", "signed"]),
        (Some(10), vec!["svc"]),
    ] {
        let objects = configuration(u32::MAX, altered.map_or(0, |index| 1 << index));
        let after = compile(&objects, Some(&before), Mode::Standalone).snapshot;
        let changed: Vec<_> = all
            .iter()
            .filter(|(kind, namespace, name)| !same(&after, *kind, namespace, name))
            .map(|(_, _, name)| *name)
            .collect();
        assert_eq!(changed, dependent, "{altered:?}");
    }
}

#[test]
fn revisions_follow_secrets() {
    let revision = |altered| {
        let compiled = compile(&configuration(u32::MAX, altered), None, Mode::Standalone);
        compiled.snapshot.webhooks[&ObjectKey::new("team-a", "a")].revision
    };
    assert_eq!(revision(0), revision(0));
    assert_ne!(revision(0), revision(1 << 8));
}

/// K-02 and W-01 at size: a change among many objects costs little more than looking each of them up.
#[test]
fn one_change_among_many() {
    let count = 800;
    let text: String = (0..count)
        .map(|n| {
            let hook = format!(
                "{{verification: {{provider: github, secrets: [{{secretRef: {{name: s, key: k}}}}]}}, routes: [{{destinations: [{{name: d{n}}}]}}]}}"
            );
            own("Webhook", &format!("w{n}"), &hook) + &own("Destination", &format!("d{n}"), "{target: {url: \"https://d.example/\"}}")
        })
        .collect();
    let mut objects = objects(&(text + &secret("s", "{k: one}")));
    let before = compile(&objects, None, Mode::Standalone).snapshot;
    let changed = objects.webhooks.get_mut(&ObjectKey::new("team-a", "w7")).expect("exists");
    Arc::make_mut(changed).spec.active = false;
    let after = compile(&objects, Some(&before), Mode::Standalone).snapshot;
    let kept = before.webhooks.iter().filter(|(key, webhook)| Arc::ptr_eq(webhook, &after.webhooks[*key])).count();
    assert_eq!(kept, count - 1);
    let shared = Arc::as_ptr(before.destinations[&ObjectKey::new("team-a", "d1")].tls.as_ref().expect("https"));
    let all_share =
        after.destinations.values().all(|own| own.tls.as_ref().is_some_and(|tls| Arc::as_ptr(tls) == shared));
    assert!(all_share, "one TLS configuration for all that want nothing special");
}
