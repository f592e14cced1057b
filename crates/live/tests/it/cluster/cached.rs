//! A container that restarts while the API server is away goes on with what was in force (K-04).

use std::path::Path;

use super::*;

/// An API server that answers nothing.
pub(super) fn away() -> ApiServer {
    let server = ApiServer::new();
    server.allow(Call::get("/").under(), Reply::never());
    server
}

pub(super) async fn written(path: &Path, holds: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !std::fs::read_to_string(path).is_ok_and(|text| text.contains(holds)) {
        assert!(tokio::time::Instant::now() < deadline, "the cache does not hold {holds:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test(start_paused = true)]
async fn what_was_in_force_is_in_force_again_and_is_corrected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("objects.json");
    let world = World::new(vec![hook("a", 1, "s"), hook("b", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
    let first = cluster.snapshot().load().webhooks[&key("a")].revision;
    written(&path, "uid-b").await;
    assert_eq!(mode(&path), 0o600);
    world.webhooks.added(hook("later", 2, "s"));
    until(&cluster, "another", |published, _| serves(published, "later")).await;
    written(&path, "uid-later").await;
    drop(cluster);

    let server = away();
    let options = Options {
        plane: Plane::Ingester,
        member: None,
        mesh_namespace: Namespace::from("zen-mesh"),
        cache: Some(path.clone()),
    };
    let cluster = Cluster::start(server.client(), options).await.expect("starts at once");
    let published = cluster.published().borrow().clone();
    assert!(["a", "b", "later", "ci"].iter().all(|name| serves(&published, name)), "{published:?}");
    assert!(!published.complete, "nobody knows what was deleted meanwhile");
    assert_eq!(cluster.snapshot().load().webhooks[&key("a")].revision, first, "the very same, Secret included");
    assert_eq!(cluster.snapshot().load().mesh.trust_domain, "example.org");
    drop(cluster);

    let world = World::new(vec![hook("a", 1, "s"), hook("d", 9, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
    assert!(serves(&cluster.published().borrow(), "b"), "at once, from the cache");
    let published = until(&cluster, "corrected", |published, _| published.complete).await;
    assert!(verdict(&published, "b").is_none() && serves(&published, "d"), "{published:?}");
    written(&path, "uid-d").await;
    assert!(!std::fs::read_to_string(&path).expect("is there").contains("uid-b"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_half_corrected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("objects.json");
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    drop(world.start_with(Plane::Ingester, Some(path.clone())).await);
    let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
    written(&path, "uid-a").await;
    drop(cluster);

    let world = World::new(vec![hook("b", 2, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    world.server.allow(Call::get(DESTINATIONS), Reply::unavailable());
    let cluster = world.start_with(Plane::Ingester, Some(path)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && verdict(&published, "b").is_none(), "Destinations were not read yet");
    world.server.allow(Call::get(DESTINATIONS), Reply::list(vec![destination("ci")]));
    until(&cluster, "corrected", |published, _| serves(published, "b") && verdict(published, "a").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_used_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("objects.json");
    for content in ["", "{", "{\"version\": 99}", "[]", "\u{0}"] {
        std::fs::write(&path, content).expect("writes");
        let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
        world.secret("s", "one");
        let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
        assert!(cluster.published().borrow().complete, "{content:?}: the API server was asked");
    }
    // That of another plane is none either.
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start_with(Plane::Ingester, Some(path.clone())).await;
    written(&path, "uid-a").await;
    drop(cluster);
    let cluster = world.start_with(Plane::Operator, Some(path)).await;
    assert!(cluster.published().borrow().complete);
}
