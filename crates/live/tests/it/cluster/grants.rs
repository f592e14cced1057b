//! Secrets whose grant comes later, go away, or never come (K-06).

use super::*;

#[tokio::test(start_paused = true)]
async fn a_secret_that_may_not_be_read_yet_is_told_from_one_that_is_missing() {
    let world = World::new(vec![hook("a", 1, "ungranted"), hook("b", 1, "missing")], vec![destination("ci")]);
    let (ungranted, missing) = (Watch::default(), Watch::default());
    world.one(SECRETS, "ungranted", Reply::forbidden(), &ungranted);
    world.one(SECRETS, "missing", Reply::list(vec![]), &missing);
    let cluster = world.start(Plane::Ingester).await;
    let published = cluster.published().borrow().clone();
    assert_eq!(reason(&published, "a"), Some(ObjectReason::RefPending));
    assert_eq!(reason(&published, "b"), Some(ObjectReason::RefNotFound));

    // The grant comes: in effect within a second, as the API server answers.
    let granted = tokio::time::Instant::now();
    world.secret("ungranted", "one");
    until(&cluster, "granted", |published, _| serves(published, "a")).await;
    assert!(granted.elapsed() <= Duration::from_millis(1100), "{:?}", granted.elapsed());

    missing.added(secret("missing", "one"));
    until(&cluster, "made", |published, _| serves(published, "b")).await;
    missing.deleted(secret("missing", "one"));
    let published = until(&cluster, "vanished", |published, _| !serves(published, "b")).await;
    assert_eq!(reason(&published, "b"), Some(ObjectReason::RefNotFound));
    assert!(serves(&published, "a"), "no other object is touched");
}

/// While the grant for a new Secret is on its way, the version before stays in force: nothing is refused that was served.
#[tokio::test(start_paused = true)]
async fn a_version_with_a_new_secret_waits_until_it_can_be_read() {
    let world = World::new(vec![hook("a", 1, "old")], vec![destination("ci")]);
    world.secret("old", "one");
    world.one(SECRETS, "new", Reply::forbidden(), &Watch::default());
    let cluster = world.start(Plane::Ingester).await;
    let first = Arc::clone(&cluster.snapshot().load().webhooks[&key("a")]);
    world.webhooks.modified(hook("a", 2, "new"));
    // Asked for over and over, and something else takes effect meanwhile.
    let asked = Call::get(SECRETS).query("fieldSelector", "metadata.name=new");
    world.server.seen(&asked, 8).await;
    world.webhooks.added(hook("b", 3, "old"));
    let published = until(&cluster, "another", |published, _| serves(published, "b")).await;
    assert_eq!(verdict(&published, "a").and_then(|a| a.observed_generation), Some(1), "not programmed yet");
    assert!(Arc::ptr_eq(&first, &cluster.snapshot().load().webhooks[&key("a")]));

    world.secret("new", "two");
    let published = until(&cluster, "granted", |published, _| {
        verdict(published, "a").is_some_and(|a| a.observed_generation == Some(2))
    });
    assert!(serves(&*published.await, "a"));
    assert_eq!(cluster.snapshot().load().webhooks[&key("a")].secret_labels, ["new/k"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_object_does_not_wait_for_long() {
    let world = World::new(vec![], vec![destination("ci")]);
    world.one(SECRETS, "s", Reply::forbidden(), &Watch::default());
    let cluster = world.start(Plane::Ingester).await;
    let begun = tokio::time::Instant::now();
    world.webhooks.added(hook("a", 2, "s"));
    let published = until(&cluster, "told", |published, _| verdict(published, "a").is_some()).await;
    assert_eq!(reason(&published, "a"), Some(ObjectReason::RefPending));
    assert!(begun.elapsed() <= Duration::from_millis(1500), "{:?}", begun.elapsed());
    world.secret("s", "one");
    until(&cluster, "granted", |published, _| serves(published, "a")).await;
}

/// A Role that shrank does not take what was read: only its watch ends.
#[tokio::test(start_paused = true)]
async fn a_grant_that_goes_leaves_what_was_read() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    let watch = world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    let asked = Call::get(SECRETS).query("fieldSelector", "metadata.name=s");
    world.one(SECRETS, "s", Reply::forbidden(), &watch);
    watch.expired();
    world.server.seen(&asked, 6).await;
    world.webhooks.added(hook("b", 2, "s"));
    let published = until(&cluster, "another", |published, _| serves(published, "b")).await;
    assert!(serves(&published, "a"));
}

#[tokio::test(start_paused = true)]
async fn watches_come_and_go_with_what_is_named() {
    let world = World::new(vec![hook("a", 1, "one")], vec![destination("ci")]);
    world.secret("one", "1");
    let cluster = world.start(Plane::Ingester).await;
    let watches = |name: &str| Call::get(SECRETS).query("fieldSelector", &format!("metadata.name={name}"));
    let two = world.secret("two", "2");
    world.webhooks.modified(hook("a", 2, "two"));
    until(&cluster, "another Secret", |_, snapshot| snapshot.webhooks[&key("a")].secret_labels == ["two/k"]).await;
    assert_eq!(
        cluster.published().borrow().references.iter().map(|it| it.key.name.as_str()).collect::<Vec<_>>(),
        ["two"]
    );
    world.webhooks.deleted(hook("a", 2, "two"));
    until(&cluster, "nothing", |published, _| published.references.is_empty()).await;
    // Its watch ended: an event finds nobody, and naming it again lists it again.
    two.modified(secret("two", "3"));
    let before = world.server.received().iter().filter(|call| call.path == SECRETS).count();
    world.webhooks.added(hook("a", 3, "two"));
    until(&cluster, "named again", |published, _| serves(published, "a")).await;
    assert!(world.server.received().iter().filter(|call| call.path == SECRETS).count() > before);
    world.server.seen(&watches("two"), 2).await;
}
