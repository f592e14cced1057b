//! Member clusters: the hub's ingester follows their enrollments, a member's egress its own Destinations (T-06, K-06).

use zen_model::ClusterId;

use super::*;

fn eu() -> ClusterId {
    "team-a/eu".parse().expect("a cluster")
}

fn to_cluster(name: &str, cluster: &str, signed_by: &str) -> Value {
    let signing = json!({"secrets": [{"secretRef": {"name": signed_by, "key": "k"}}]});
    let url = json!({"url": "https://ci.example/"});
    own("Destination", name, 1, &json!({"mode": "Relay", "cluster": cluster, "target": url, "signing": signing}))
}

fn enrollment(version: u32, spec: &Value, status: &Value) -> Value {
    let mut object = own("ClusterEnrollment", "eu", version, spec);
    object["spec"]["recipient"] = "age1".into();
    object["status"] = status.clone();
    object
}

fn joined(keys: &[i64]) -> Value {
    let keys: Vec<_> = keys.iter().map(|version| json!({"version": version})).collect();
    json!({"phase": "Enrolled", "connected": true, "keys": keys, "bundle": {
        "id": "1", "issuedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:30:00Z",
    }})
}

#[tokio::test(start_paused = true)]
async fn the_hub_follows_enrollments() {
    let world = World::new(vec![], vec![to_cluster("ci", "eu", "s")]);
    let cluster = world.start(Plane::Ingester).await;
    assert_eq!(reason(&cluster.published().borrow(), "ci"), Some(ObjectReason::ClusterNotFound));
    assert!(cluster.published().borrow().references.is_empty(), "its Secrets are the member's");

    world.enrollments.added(enrollment(2, &json!({}), &Value::Null));
    until(&cluster, "made", |published, _| reason(published, "ci") == Some(ObjectReason::ClusterPending)).await;
    world.enrollments.modified(enrollment(3, &json!({}), &joined(&[7])));
    until(&cluster, "joined", |published, _| serves(published, "ci") && reason(published, "ci").is_none()).await;
    let known = Arc::clone(&cluster.snapshot().load().clusters[&eu()]);
    assert_eq!((known.uid.as_str(), known.newest(), known.enabled), ("uid-eu", Some(7), true));

    // A heartbeat in its status is no news.
    let generation = cluster.published().borrow().generation;
    let mut beat = joined(&[7]);
    beat["certificateExpiresAt"] = "2030-01-01T00:00:00Z".into();
    world.enrollments.modified(enrollment(4, &json!({}), &beat));
    world.enrollments.modified(enrollment(5, &json!({}), &joined(&[8, 7])));
    until(&cluster, "rotated", |_, snapshot| snapshot.clusters[&eu()].newest() == Some(8)).await;
    assert_eq!(cluster.published().borrow().generation, generation + 1, "one change");

    // What this release does not understand counts as disabled: nothing of the cluster is accepted.
    for (version, spec, status) in [
        (6, json!({"disabled": true}), joined(&[8])),
        (7, json!({"disabled": "perhaps"}), joined(&[8])),
        (8, json!({}), json!({"phase": "Enrolled", "keys": "all"})),
    ] {
        world.enrollments.modified(enrollment(version, &spec, &status));
        until(&cluster, "closed", |_, snapshot| !snapshot.clusters[&eu()].enabled).await;
        assert_eq!(reason(&cluster.published().borrow(), "ci"), Some(ObjectReason::ClusterDisabled), "{spec} {status}");
        world.enrollments.modified(enrollment(version + 10, &json!({}), &joined(&[8])));
        until(&cluster, "open again", |_, snapshot| snapshot.clusters[&eu()].enabled).await;
    }
    let mut deleted = enrollment(30, &json!({}), &joined(&[8]));
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.enrollments.modified(deleted.clone());
    until(&cluster, "being deleted", |_, snapshot| !snapshot.clusters[&eu()].enabled).await;
    world.enrollments.deleted(deleted);
    until(&cluster, "gone", |_, snapshot| snapshot.clusters.is_empty()).await;
    assert_eq!(reason(&cluster.published().borrow(), "ci"), Some(ObjectReason::ClusterNotFound));
}

/// Whoever may not read enrollments takes webhooks in all the same, and takes no cluster for missing.
#[tokio::test(start_paused = true)]
async fn other_events_do_not_wait_for_enrollments() {
    let world = World::new(vec![hook("a", 1, "s")], vec![to_cluster("ci", "eu", "s")]);
    world.secret("s", "one");
    world.server.allow(Call::get(ENROLLMENTS), Reply::status(403, "Forbidden", "not yours"));
    let cluster = world.start(Plane::Ingester).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && serves(&published, "ci") && published.complete, "{published:?}");
    assert_eq!(reason(&published, "ci"), Some(ObjectReason::RefPending));
    world.server.allow(Call::get(ENROLLMENTS), Reply::list(vec![enrollment(1, &json!({}), &joined(&[7]))]));
    until(&cluster, "granted", |published, _| reason(published, "ci").is_none()).await;
}

/// K-04, T-06: an ingester that restarts while the API server is away knows whom it may serve.
#[tokio::test(start_paused = true)]
async fn clusters_are_kept_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("objects.json");
    let world = World::new(vec![], vec![to_cluster("ci", "eu", "s")]);
    world.enrollments.added(enrollment(1, &json!({}), &joined(&[7])));
    let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
    until(&cluster, "joined", |published, _| reason(published, "ci").is_none()).await;
    cached::written(&path, "uid-eu").await;
    drop(cluster);
    let server = cached::away();
    let mesh_namespace = Namespace::from("zen-mesh");
    let options = Options { plane: Plane::Ingester, member: None, mesh_namespace, cache: Some(path) };
    let cluster = Cluster::start(server.client(), options).await.expect("starts at once");
    assert_eq!(cluster.snapshot().load().clusters[&eu()].newest(), Some(7));
    assert!(serves(&cluster.published().borrow(), "ci"));
}

#[tokio::test(start_paused = true)]
async fn a_member_reads_what_its_own_destinations_name() {
    let egress = own("Destination", "egress", 1, &json!({"target": {"url": "https://e.example/"}}));
    let mine = to_cluster("ci", "eu", "s");
    let world = World::new(vec![], vec![mine, to_cluster("other", "us", "foreign"), egress]);
    world.server.watch(SERVICES, Vec::new());
    world.server.watch(SLICES, Vec::new());
    world.secret("s", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let cluster = world.start_of(Plane::Member, Some("team-a/eu"), None).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "ci") && published.verdicts.len() == 1, "{published:?}");
    assert_eq!(cluster.snapshot().load().destination(&key("ci")).expect("in effect").signing.len(), 1);
    // One that comes while it runs is not watched for either.
    world.destinations.added(to_cluster("later", "us", "foreign"));
    world.destinations.added(to_cluster("mine", "eu", "s"));
    until(&cluster, "another", |published, _| serves(published, "mine")).await;
    let asked = world.server.received();
    assert!(asked.iter().all(|call| call.path != WEBHOOKS && call.path != ENROLLMENTS), "{asked:?}");
}
