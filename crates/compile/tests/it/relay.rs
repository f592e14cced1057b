//! Destinations of mode `Relay`: what the hub has of them, what the member whose cluster they name, and what anybody else
//! (D-02, K-06, T-06).

use std::sync::Arc;

use zen_compile::{Compiled, DeliveryMode, Enrolled, KeyVersion, Mode, Objects, Plane, Snapshot, Target, compile};
use zen_model::{ClusterId, ObjectKey, ObjectReason, Timestamp};

use crate::{destination, objects, own, reasons, verdict};

const CI: &str = "Destination team-a/ci";
const PLANES: [Plane; 4] = [Plane::Ingester, Plane::Egress, Plane::Member, Plane::Operator];

/// With everything that is read in the member: a Service, a Secret, a `ConfigMap`, and a network that the member grants.
fn relay(cluster: &str) -> String {
    let spec = format!(
        "{{mode: Relay, cluster: {cluster}, target: {{service: {{name: web, port: 443}}}}, network: {{allowCidrs: [10.0.0.0/8]}},
          allowFrom: {{namespaces: [team-b]}}, headers: {{forward: [X-A]}}, delivery: {{concurrency: 7}},
          tls: {{caRef: {{configMapRef: {{name: ca, key: ca.crt}}}}}},
          signing: {{secrets: [{{secretRef: {{name: signing, key: k}}}}]}}}}"
    );
    own("Destination", "ci", &spec)
}

fn id(text: &str) -> ClusterId {
    text.parse().expect("a cluster")
}

fn enrolled() -> Enrolled {
    let versions =
        vec![KeyVersion { version: 8, until: None }, KeyVersion { version: 7, until: Some(Timestamp::from_secs(100)) }];
    Enrolled { uid: "u".to_owned(), enabled: true, joined: true, connected: Some(true), versions }
}

fn hub(text: &str, enrolled: Option<Enrolled>) -> Objects {
    let mut objects = objects(text);
    objects.clusters.extend(enrolled.map(|enrolled| (id("team-a/eu"), Arc::new(enrolled))));
    objects
}

fn member(text: &str, of: &str) -> Objects {
    let mesh = "grants: [{namespace: team-a, cidrs: [10.0.0.0/8]}]";
    let mesh = zen_compile::mesh::Config::from_json(&zen_live::testing::json(mesh)).expect("a configuration");
    Objects { member: Some(id(of)), mesh: Some(Arc::new(mesh)), ..objects(text) }
}

fn of(plane: Plane, objects: &Objects) -> Compiled {
    compile(objects, None, Mode::Cluster(plane))
}

fn names(compiled: &Compiled) -> Vec<String> {
    compiled.references.iter().map(|found| format!("{:?} {}", found.plane, found.key.name)).collect()
}

#[test]
fn the_hub_has_what_leases_need_and_reads_nothing() {
    for plane in [Plane::Ingester, Plane::Operator] {
        let compiled = of(plane, &hub(&relay("eu"), Some(enrolled())));
        let ci = destination(&compiled, "ci");
        assert_eq!((ci.mode, ci.cluster.as_ref()), (DeliveryMode::Relay, Some(&id("team-a/eu"))), "{plane:?}");
        assert_eq!((ci.concurrency, ci.forward.len(), ci.allow_from.len()), (7, 1, 1));
        assert!(ci.tls.is_none() && ci.signing.is_empty() && names(&compiled).is_empty());
        assert!(matches!(&ci.target, Target::Service { addresses, .. } if addresses.is_empty()));
        let told = verdict(&compiled, CI);
        assert!(told.serving && told.problems.is_empty(), "networks are granted in the member: {:?}", told.problems);
        assert_eq!(compiled.snapshot.clusters.keys().collect::<Vec<_>>(), [&id("team-a/eu")]);
    }
    for plane in [Plane::Egress, Plane::Member] {
        let compiled = of(plane, &hub(&relay("eu"), Some(enrolled())));
        assert!(compiled.snapshot.destinations.is_empty() && compiled.verdicts.is_empty(), "{plane:?}");
    }
}

/// Events wait in every case but the first; what says so is the verdict.
#[test]
fn how_the_cluster_stands() {
    let with = |change: fn(&mut Enrolled)| {
        let mut enrolled = enrolled();
        change(&mut enrolled);
        Some(enrolled)
    };
    let pending = with(|it| (it.joined, it.versions) = (false, Vec::new()));
    for (enrolled, ingester, operator) in [
        (Some(enrolled()), None, None),
        (None, Some(ObjectReason::ClusterNotFound), Some(ObjectReason::ClusterNotFound)),
        (with(|it| it.enabled = false), Some(ObjectReason::ClusterDisabled), Some(ObjectReason::ClusterDisabled)),
        (pending, Some(ObjectReason::ClusterPending), Some(ObjectReason::ClusterPending)),
        // The ingester knows its streams itself.
        (with(|it| it.connected = Some(false)), None, Some(ObjectReason::ClusterAway)),
        (with(|it| it.connected = None), None, None),
    ] {
        for (plane, expected) in [(Plane::Ingester, ingester), (Plane::Operator, operator)] {
            let compiled = of(plane, &hub(&relay("eu"), enrolled.clone()));
            let told = verdict(&compiled, CI);
            assert_eq!(reasons(told), Vec::from_iter(expected.map(|reason| ("spec.cluster", reason))), "{plane:?}");
            assert_eq!(told.serving, expected.is_none_or(ObjectReason::is_warning), "{plane:?} {expected:?}");
            // One that exists in whatever way is not deleted: its events wait.
            let key = ObjectKey::new("team-a", "ci");
            let snapshot = &compiled.snapshot;
            assert!(snapshot.destinations.contains_key(&key) != snapshot.unusable.contains_key(&key));
        }
    }
    let mut unread = hub(&relay("eu"), None);
    unread.clusters_unread = true;
    let compiled = of(Plane::Ingester, &unread);
    let told = verdict(&compiled, CI);
    assert_eq!((reasons(told), told.serving), (vec![("spec.cluster", ObjectReason::RefPending)], true));
    unread.clusters_unread = false;
    let read = compile(&unread, Some(&compiled.snapshot), Mode::Cluster(Plane::Ingester));
    assert_eq!(reasons(verdict(&read, CI)), [("spec.cluster", ObjectReason::ClusterNotFound)], "they were read since");
}

/// D-03: a cluster of another tenant is another cluster, whatever its name.
#[test]
fn a_namesake_of_another_tenant_is_not_it() {
    let mut objects = hub(&relay("eu"), None);
    objects.clusters.insert(id("team-b/eu"), Arc::new(enrolled()));
    let compiled = of(Plane::Ingester, &objects);
    assert_eq!(reasons(verdict(&compiled, CI)), [("spec.cluster", ObjectReason::ClusterNotFound)]);
    let compiled = of(Plane::Member, &member(&relay("eu"), "team-b/eu"));
    assert!(compiled.snapshot.destinations.is_empty() && compiled.references.is_empty());
    assert_eq!(compiled.snapshot.member, Some(id("team-b/eu")));
}

#[test]
fn a_member_has_its_own_in_full_and_nothing_else() {
    let text = relay("eu")
        + &relay("us").replace("name: ci,", "name: others,").replace("name: signing", "name: foreign")
        + &own(
            "Destination",
            "egress",
            "{target: {url: \"https://e.example/\"}, signing: {secrets: [{secretRef: {name: e, key: k}}]}}",
        )
        + &own("Destination", "direct", "{mode: Direct, target: {url: \"https://d.example/\"}}")
        + &own("Webhook", "hook", "{verification: {provider: none}, routes: [{destinations: [{name: ci}]}]}");
    let objects = member(&text, "team-a/eu");
    let egress = of(Plane::Member, &objects);
    let known: Vec<_> = egress.verdicts.iter().map(|verdict| verdict.key.name.to_string()).collect();
    assert_eq!(known, ["ci"]);
    assert_eq!(names(&egress), ["Member signing", "Member ca"]);
    let found: Vec<_> = reasons(verdict(&egress, CI)).into_iter().map(|(field, _)| field).collect();
    assert!(found.contains(&"spec.target.service.name") && found.contains(&"spec.signing.secrets[0].secretRef.name"));

    let operator = of(Plane::Operator, &objects);
    assert_eq!(names(&operator), ["Member signing", "Member ca"], "what the egress is granted (K-06)");
    assert!(verdict(&operator, CI).problems.is_empty(), "references are taken to resolve");
    for name in ["others", "egress", "direct"] {
        let told = verdict(&operator, &format!("Destination team-a/{name}"));
        assert_eq!((reasons(told)[0].1, told.serving), (ObjectReason::ClusterElsewhere, false), "{name}");
    }
    for plane in [Plane::Ingester, Plane::Egress] {
        assert!(!of(plane, &objects).snapshot.destinations.contains_key(&ObjectKey::new("team-a", "ci")), "{plane:?}");
    }
    let before = of(Plane::Member, &objects).snapshot;
    let moved = Objects { member: Some(id("team-a/us")), ..objects };
    let after = compile(&moved, Some(&before), Mode::Cluster(Plane::Member));
    assert_eq!(names(&after), ["Member foreign", "Member ca"], "another cluster now");
}

/// The grants that count are those of the cluster that connects.
#[test]
fn networks_are_granted_where_deliveries_are_attempted() {
    let mut objects = member(&relay("eu"), "team-a/eu");
    objects.mesh = None;
    for plane in [Plane::Member, Plane::Operator] {
        let compiled = of(plane, &objects);
        assert!(
            reasons(verdict(&compiled, CI)).contains(&("spec.network.allowCidrs[0]", ObjectReason::CidrNotGranted))
        );
    }
    let nothing = hub(&relay("eu").replace("10.0.0.0/8", "169.254.169.254/32"), Some(enrolled()));
    let compiled = of(Plane::Ingester, &nothing);
    assert_eq!(reasons(verdict(&compiled, CI)), [("spec.network.allowCidrs[0]", ObjectReason::CidrNotGranted)]);
}

/// `zen up` and `zen check`: a folder with the enrollment is the hub's, any other may be the member's.
#[test]
fn a_folder() {
    let compiled = compile(&hub(&relay("eu"), Some(Enrolled { joined: false, ..enrolled() })), None, Mode::Standalone);
    let told = verdict(&compiled, CI);
    assert_eq!((reasons(told), told.serving), (vec![("spec.cluster", ObjectReason::ClusterPending)], true));
    assert!(compiled.references.is_empty());
    let compiled = compile(&hub(&relay("eu"), None), None, Mode::Standalone);
    let told = reasons(verdict(&compiled, CI));
    assert!(told.contains(&("spec.cluster", ObjectReason::ClusterNotFound)), "{told:?}");
    assert!(told.contains(&("spec.signing.secrets[0].secretRef.name", ObjectReason::RefNotFound)), "{told:?}");
}

#[test]
fn news_of_a_cluster_are_news_for_its_destinations_only() {
    let text = relay("eu") + &own("Destination", "other", "{target: {url: \"https://e.example/\"}}");
    let objects = hub(&text, Some(enrolled()));
    let before = of(Plane::Ingester, &objects).snapshot;
    let after = |change: fn(&mut Enrolled)| {
        let mut enrolled = enrolled();
        change(&mut enrolled);
        compile(&hub_again(&objects, enrolled), Some(&before), Mode::Cluster(Plane::Ingester))
    };
    let same = |snapshot: &Snapshot, name: &str| {
        let key = ObjectKey::new("team-a", name);
        snapshot.destination(&key).is_some_and(|own| Arc::ptr_eq(own, &before.destinations[&key]))
    };
    let rotated = after(|it| it.versions.insert(0, KeyVersion { version: 9, until: None }));
    assert!(same(&rotated.snapshot, "ci") && same(&rotated.snapshot, "other"), "keys change no Destination");
    assert_eq!(rotated.snapshot.clusters[&id("team-a/eu")].newest(), Some(9));
    let disabled = after(|it| it.enabled = false);
    assert!(!same(&disabled.snapshot, "ci") && same(&disabled.snapshot, "other"));
    for plane in PLANES {
        let gone = Objects { clusters: std::collections::BTreeMap::new(), ..objects.clone() };
        let before = of(plane, &objects).snapshot;
        let after = compile(&gone, Some(&before), Mode::Cluster(plane));
        assert!(after.snapshot.clusters.is_empty(), "{plane:?}");
        assert!(after.snapshot.destination(&ObjectKey::new("team-a", "ci")).is_none(), "{plane:?}");
    }
}

fn hub_again(objects: &Objects, enrolled: Enrolled) -> Objects {
    let mut objects = objects.clone();
    objects.clusters.insert(id("team-a/eu"), Arc::new(enrolled));
    objects
}

#[test]
fn which_keys_count() {
    let enabled = enrolled();
    let disabled = Enrolled { enabled: false, ..enrolled() };
    for (version, at, expected) in [(8, 0, true), (8, 1000, true), (7, 99, true), (7, 100, false), (6, 0, false)] {
        assert_eq!(enabled.accepts(version, Timestamp::from_secs(at)), expected, "{version} at {at}");
        assert!(!disabled.accepts(version, Timestamp::from_secs(at)));
    }
    assert_eq!(enabled.newest(), Some(8));
    assert_eq!(Enrolled::unread(None).newest(), None);
}

#[test]
fn what_counts_of_an_enrollment() {
    let read = |metadata: &str, spec: &str, status: &str| {
        let text = format!("{{metadata: {{name: eu{metadata}}}, spec: {{recipient: r{spec}}}, status: {{{status}}}}}");
        let mut object = zen_live::testing::json(&text);
        (object["apiVersion"], object["kind"]) = ("zen-mesh.io/v1alpha1".into(), "ClusterEnrollment".into());
        Enrolled::of(&serde_json::from_value(object).expect("of its kind"))
    };
    let keys = "keys: [{version: 8}, {version: 7, until: \"1970-01-01T00:01:40Z\"}]";
    let good = read(", uid: u", "", &format!("phase: Enrolled, connected: true, {keys}"));
    assert_eq!(good, enrolled());
    let refused = "conditions: [{type: Accepted, status: \"False\", reason: R, message: m, lastTransitionTime: \"1970-01-01T00:01:40Z\"}]";
    for (metadata, spec, status, (enabled, joined)) in [
        ("", "", "", (true, false)),
        ("", "", "phase: BundleIssued", (true, false)),
        ("", "", "phase: BundleIssued, certificateExpiresAt: \"2030-01-01T00:00:00Z\"", (true, true)),
        ("", ", disabled: true", "phase: Enrolled", (false, true)),
        (", deletionTimestamp: \"2026-01-01T00:00:00Z\"", "", "phase: Enrolled", (false, true)),
        ("", "", refused, (false, false)),
        ("", "", &refused.replace("False", "True"), (true, false)),
    ] {
        let read = read(metadata, spec, status);
        assert_eq!((read.enabled, read.joined), (enabled, joined), "{metadata} {spec} {status}");
    }
    assert!(read("", "", "keys: [{version: -1}, {version: 4294967296}]").versions.is_empty());
}
