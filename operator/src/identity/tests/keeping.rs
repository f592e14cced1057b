//! Root, issuing CA and trust bundle: made once, kept, renewed, and never written over when they cannot be read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::time::{sleep, timeout};
use zen_identity::{Component, Mesh};
use zen_model::Timestamp;
use zen_pki::{Ca, TrustRoots};
use zen_rotation::record::{self, Action, Request, State};
use zen_rotation::{Phase, Plan, Rate, Subject};
use zen_testkit::api_server::{Call, Reply};

use super::super::{CA, CA_NEXT, Changed, ISSUER, ISSUER_NEXT, Settings, Source};
use super::cluster::{Cluster, EVENTS, Replica, SECRETS, domain, mesh, secret_of, settings, tls_secret};
use crate::names;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test(start_paused = true)]
async fn everything_comes_to_be_from_nothing_and_stays() {
    let cluster = Cluster::new();
    let leader = cluster.start(Source::Secret, true);
    timeout(DAY, leader.service.identity()).await.expect("in time");
    let follower = cluster.start(Source::Secret, false);
    for replica in [&leader, &follower] {
        let identity = timeout(DAY, replica.service.identity()).await.expect("in time");
        assert_eq!(identity.id(), mesh().id(Component::Operator));
        assert_eq!(replica.service.problem(), None);
        assert_eq!(replica.service.bundle().as_deref(), Some(cluster.entry(CA, "tls.crt").as_str()));
    }
    let trust = cluster.object(names::TRUST).expect("there");
    assert_eq!(trust["data"]["ca.crt"], cluster.entry(CA, "tls.crt").as_str());
    assert_eq!(trust["metadata"]["ownerReferences"][0]["name"], names::WORKLOADS);
    let root = cluster.object(CA).expect("there");
    assert_eq!((&root["type"], &root["immutable"]), (&"kubernetes.io/tls".into(), &true.into()));
    assert!(root["metadata"]["ownerReferences"].is_null(), "the root outlives an uninstall");
    let issuer = Ca::from_pem(
        &cluster.entry(ISSUER, "tls.crt"),
        &zen_model::Secret::new(cluster.entry(ISSUER, "tls.key")),
        ISSUER,
        &domain(),
        Timestamp::now(),
    );
    let roots = TrustRoots::from_pem(&cluster.entry(CA, "tls.crt")).expect("roots");
    issuer.expect("usable").verify(&roots, Timestamp::now()).expect("of the root");
    // Steady: hours later nothing more was written.
    let writes = cluster.writes();
    assert_eq!(writes.len(), 3, "{writes:?}");
    sleep(3 * Duration::from_hours(1)).await;
    assert_eq!(cluster.writes(), writes);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &leader.registry).expect("encoded");
    assert!(text.contains("ca_expiry_seconds{ca=\"root\"}") && text.contains("{ca=\"issuing\"}"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_race_one_ca_remains() {
    let cluster = Cluster::new();
    let theirs = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    // Nothing is there when we look; when we create, another was first.
    let only = Call::get(SECRETS).query("fieldSelector", &format!("metadata.name={CA}"));
    cluster.server.allow(only.clone(), Reply::list(vec![]));
    let first = Call::patch(&format!("{SECRETS}/{CA}"));
    cluster.server.allow(first.clone(), Reply::conflict());
    let replica = cluster.start(Source::Secret, true);
    cluster.server.seen(&first, 1).await;
    cluster.server.allow(only, Reply::list(vec![secret_of(CA, &theirs)]));
    timeout(DAY, replica.service.identity()).await.expect("in time");
    assert_eq!(replica.service.bundle().as_deref(), Some(theirs.certificate_pem()));
}

#[tokio::test(start_paused = true)]
async fn an_issuing_ca_that_was_not_rotated_is_replaced_in_time_and_leaves_of_both_verify() {
    let cluster = Cluster::new();
    let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    // In 50 minutes, 75 days will have passed since it was made: it was to be rotated at 60.
    let made = Timestamp(Timestamp::now().0 - 75 * 86_400_000 + 50 * 60_000);
    cluster.put(secret_of(CA, &root));
    cluster.put(secret_of(ISSUER, &root.issue_intermediate(made).expect("an issuing CA")));
    let replica = cluster.start(Source::Secret, true);
    let identity = timeout(DAY, replica.service.identity()).await.expect("in time");
    let (first, own) = (cluster.entry(ISSUER, "tls.crt"), identity.validity());
    let before = replica.service.0.current.borrow().clone().expect("there");
    sleep(Duration::from_mins(45)).await;
    assert_eq!(cluster.entry(ISSUER, "tls.crt"), first);
    sleep(Duration::from_mins(10)).await;
    assert_ne!(cluster.entry(ISSUER, "tls.crt"), first);
    assert!(identity.validity().until > own.until, "the operator's own follow");
    let after = replica.service.0.current.borrow().clone().expect("there");
    let now = (cluster.clock)();
    for current in [before, after] {
        let leaf = current.ca.issue_workload_at(mesh().id(Component::Egress), now, DAY).expect("issued");
        leaf.verify(&TrustRoots::from_pem(&cluster.entry(CA, "tls.crt")).expect("roots"), now).expect("verifies");
    }
}

/// T-04: an exchange of the root may wait for a member until its issuing CA has ended; what pods use meanwhile must not end first.
#[tokio::test(start_paused = true)]
async fn the_issuing_ca_of_a_root_that_comes_is_renewed_while_the_exchange_waits() {
    let cluster = Cluster::new();
    let now = Timestamp::now();
    let [old, new] = [Ca::new_root(&domain(), now), Ca::new_root(&domain(), now)].map(|root| root.expect("a root"));
    let made = Timestamp(now.0 - 75 * 86_400_000 + 50 * 60_000);
    cluster.put(secret_of(CA, &old));
    cluster.put(secret_of(ISSUER, &old.issue_intermediate(now).expect("an issuing CA")));
    cluster.put(secret_of(CA_NEXT, &new));
    cluster.put(secret_of(ISSUER_NEXT, &new.issue_intermediate(made).expect("an issuing CA")));
    let request = Request { id: "r".to_owned(), action: Action::Start, subject: Subject::Root, plan: Plan::default() };
    let state = State::default().answered(&request, Ok(&old.fingerprint()), Rate::default(), now);
    let state = state.entered(Phase::Overlap, Some(&new.fingerprint()), "", now);
    cluster.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": record::CONFIG_MAP},
        "data": {record::STATE: serde_json::to_string(&state).expect("JSON")},
    }));
    let replica = cluster.start(Source::Secret, true);
    timeout(DAY, replica.service.identity()).await.expect("in time");
    let of = || zen_pki::certificates(&cluster.entry(ISSUER_NEXT, "tls.crt")).remove(0).0;
    let (first, bundle) = (of(), replica.service.bundle().expect("there"));
    let until = tokio::time::Instant::now() + Duration::from_mins(30);
    while replica.service.issuer_of("a") != Some(first.clone()) {
        assert!(tokio::time::Instant::now() < until, "pods have theirs from the one that comes");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_hours(2)).await;
    let second = of();
    assert_ne!(second, first);
    assert_eq!(replica.service.issuer_of("a"), Some(second), "pods are told");
    assert_eq!(zen_pki::certificates(&replica.service.bundle().expect("there")).len(), 2, "{bundle}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_never_written_over() {
    let good = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    let other = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    for (name, certificate, key) in [
        (CA, "nonsense", good.key_pem()),
        (CA, good.certificate_pem(), other.key_pem()),
        (CA, good.certificate_pem(), zen_model::Secret::new("")),
        (ISSUER, "nonsense", good.key_pem()),
    ] {
        let cluster = Cluster::new();
        if name == ISSUER {
            cluster.put(secret_of(CA, &good));
        }
        cluster.put(tls_secret(name, certificate, key.expose()));
        let replica = cluster.start(Source::Secret, true);
        let event = Call::post(EVENTS).body(move |body| {
            body["reason"] == "IssuerUnavailable" && body["note"].as_str().is_some_and(|note| note.contains(name))
        });
        timeout(DAY, cluster.server.seen(&event, 1)).await.expect("in time");
        sleep(Duration::from_hours(1)).await;
        let touched: Vec<_> = cluster.writes().into_iter().filter(|write| write.contains("secrets")).collect();
        assert!(touched.is_empty(), "{touched:?}");
        let problem = replica.service.problem().expect("a problem");
        assert!(problem.contains(name), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuing_ca_of_another_root_is_exchanged_and_a_bundle_that_drifts_is_put_back() {
    let cluster = Cluster::new();
    let (root, other) = [(), ()].map(|()| Ca::new_root(&domain(), Timestamp::now()).expect("a root")).into();
    cluster.put(secret_of(CA, &root));
    cluster.put(secret_of(ISSUER, &other.issue_intermediate(Timestamp::now()).expect("an issuing CA")));
    let replica = cluster.start(Source::Secret, true);
    timeout(DAY, replica.service.identity()).await.expect("in time");
    assert_eq!(replica.service.bundle().as_deref(), Some(root.certificate_pem()));
    let mut drifted = cluster.object(names::TRUST).expect("there");
    drifted["data"]["ca.crt"] = other.certificate_pem().into();
    drifted["metadata"]["managedFields"] = serde_json::json!([]);
    cluster.put(drifted);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.object(names::TRUST).expect("there")["data"]["ca.crt"], root.certificate_pem());
    assert_eq!(replica.service.bundle().as_deref(), Some(root.certificate_pem()));
}

/// As docs/trust.md says it: `kubectl delete secret zen-mesh-ca zen-mesh-issuer`.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_deleted_is_made_anew_with_all_that_follows() {
    let cluster = Cluster::new();
    let replica = cluster.start(Source::Secret, true);
    let identity = timeout(DAY, replica.service.identity()).await.expect("in time");
    let (first, before) = (replica.service.bundle(), identity.validity());
    let mut bundles = replica.service.bundles();
    bundles.mark_unchanged();
    sleep(Duration::from_mins(5)).await;
    cluster.delete(CA);
    cluster.delete(ISSUER);
    timeout(Duration::from_mins(1), bundles.changed()).await.expect("in time").expect("alive");
    assert_eq!(replica.service.bundle().as_deref(), Some(cluster.entry(CA, "tls.crt").as_str()));
    assert_ne!(replica.service.bundle(), first);
    sleep(Duration::from_secs(1)).await;
    assert!(identity.validity().until > before.until, "the operator's own follow at once");
    assert_eq!(replica.service.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_read_and_never_written() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().expect("a folder");
    let replica = cluster.start(Source::Folder(folder.path().to_owned()), true);
    sleep(Duration::from_hours(1)).await;
    assert!(replica.service.problem().is_some_and(|problem| problem.contains("tls.crt")));
    let root = Ca::new_root(&domain(), (cluster.clock)()).expect("a root");
    std::fs::write(folder.path().join("tls.crt"), root.certificate_pem()).expect("written");
    std::fs::write(folder.path().join("tls.key"), root.key_pem().expose()).expect("written");
    timeout(DAY, replica.service.identity()).await.expect("in time");
    assert_eq!(replica.service.bundle().as_deref(), Some(root.certificate_pem()));
    assert!(cluster.object(CA).is_none());
    // The roots beside it are what clients trust; they must cover it.
    let other = Ca::new_root(&domain(), (cluster.clock)()).expect("a root");
    let both = format!("{}{}", root.certificate_pem(), other.certificate_pem());
    std::fs::write(folder.path().join("ca.crt"), &both).expect("written");
    sleep(2 * Duration::from_hours(1)).await;
    assert_eq!(replica.service.bundle().as_deref(), Some(both.as_str()));
    std::fs::write(folder.path().join("ca.crt"), other.certificate_pem()).expect("written");
    sleep(2 * Duration::from_hours(1)).await;
    assert_eq!(replica.service.bundle().as_deref(), Some(both.as_str()), "what works stays");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 3);
}

/// With a root that is in no Secret, no Secret holds a key that somebody could sign with (issue 5, point 11).
#[tokio::test(start_paused = true)]
async fn a_root_in_a_folder_keeps_the_issuing_key_out_of_the_api_server() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().expect("a folder");
    let put = |root: &Ca| {
        std::fs::write(folder.path().join("tls.crt"), root.certificate_pem()).expect("written");
        std::fs::write(folder.path().join("tls.key"), root.key_pem().expose()).expect("written");
    };
    let root = Ca::new_root(&domain(), (cluster.clock)()).expect("a root");
    put(&root);
    // Of a release before, or of the time when the root lay in a Secret: in clear.
    let clear = root.issue_intermediate((cluster.clock)()).expect("an issuing CA");
    cluster.put(secret_of(ISSUER, &clear));
    let source = || Source::Folder(folder.path().to_owned());
    let leader = cluster.start(source(), true);
    timeout(DAY, leader.service.identity()).await.expect("in time");
    let sealed = || cluster.object(ISSUER).expect("there")["data"]["tls.key"].as_str().expect("a key").to_owned();
    let first = sealed();
    assert_ne!(first, secret_of(ISSUER, &clear)["data"]["tls.key"]);
    let text = STANDARD.decode(&first).expect("base64");
    assert!(!String::from_utf8_lossy(&text).contains("PRIVATE"), "it is sealed");
    // Every replica opens it with the root's key, and issues.
    let other = cluster.start(source(), false);
    timeout(DAY, other.service.identity()).await.expect("in time");
    let serial = |replica: &Replica| replica.service.0.current.borrow().as_ref().map(|current| current.ca.validity());
    assert_eq!(serial(&leader), serial(&other));
    // Another root does not open it: what it cannot open it makes anew.
    put(&Ca::new_root(&domain(), (cluster.clock)()).expect("a root"));
    sleep(2 * Duration::from_hours(1)).await;
    assert_ne!(sealed(), first);
    assert_eq!(leader.service.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_api_server_are_tried_again() {
    let cluster = Cluster::new();
    let only = Call::get(SECRETS).query("fieldSelector", &format!("metadata.name={CA}"));
    let make = Call::patch(&format!("{SECRETS}/{CA}"));
    cluster.server.allow(only.clone(), Reply::unavailable());
    cluster.server.allow(make.clone(), Reply::busy(1));
    let replica = cluster.start(Source::Secret, true);
    timeout(DAY, cluster.server.seen(&only, 5)).await.expect("in time");
    let root = Ca::new_root(&domain(), (cluster.clock)()).expect("a root");
    cluster.server.allow(only.clone(), Reply::list(vec![]));
    timeout(DAY, cluster.server.seen(&make, 3)).await.expect("in time");
    cluster.server.allow(only, Reply::list(vec![secret_of(CA, &root)]));
    timeout(DAY, replica.service.identity()).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn another_trust_domain_ends_the_process() {
    let cluster = Cluster::new();
    let mut replica = cluster.start(Source::Secret, true);
    timeout(DAY, replica.service.identity()).await.expect("in time");
    let longer = Settings { lifetime: 2 * Duration::from_hours(1), ..settings() };
    replica.change.send_replace(longer);
    sleep(Duration::from_secs(1)).await;
    assert!(!replica.running.is_finished(), "a lifetime is followed");
    let other = Mesh::new(&"other.local".parse().expect("valid"), "zen-mesh").expect("valid");
    replica.change.send_replace(Settings::new(other.clone(), Duration::from_hours(1), []));
    assert_eq!((&mut replica.running).await.expect("no panic"), Changed(other.trust_domain().clone()));
}

#[test]
fn serving_names_are_the_services_and_the_hosts_that_are_names() {
    let hosts = ["Hooks.Example.com", "*.example.com", "not a name", "a_b", "10.0.0.1", ""].map(str::to_owned);
    let serving = Settings::new(mesh(), Duration::from_hours(1), hosts).serving;
    for name in ["zen-ingester.zen-mesh.svc", "zen-ingester-api.zen-mesh.svc", "hooks.example.com", "*.example.com"] {
        assert!(serving.contains(name), "{name}");
    }
    assert!(!serving.iter().any(|name| name.is_empty() || name.contains(' ') || name == "10.0.0.1"), "{serving:?}");
    let many = (0..2000).map(|number| format!("h{number}.example.com"));
    assert_eq!(Settings::new(mesh(), Duration::from_hours(1), many).serving.len(), 400);
}
