//! Watches that end, expire, stall, or say what nobody understands.

use super::*;

/// So many lists of a kind came.
async fn listed(world: &World, path: &str, times: usize) {
    let watches = |call: &zen_testkit::api_server::Received| !call.query.contains_key("watch") && call.path == path;
    let deadline = tokio::time::Instant::now() + Duration::from_mins(5);
    while world.server.received().iter().filter(|call| watches(call)).count() < times {
        assert!(tokio::time::Instant::now() < deadline, "{path} is not listed {times} times");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_anew() {
    let world = World::new(vec![hook("a", 1, "s"), hook("gone", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    let kept = Arc::clone(&cluster.snapshot().load().webhooks[&key("a")]);
    world.server.allow(Call::get(WEBHOOKS), Reply::list(vec![hook("a", 1, "s"), hook("b", 5, "s")]));
    world.webhooks.expired();
    let published = until(&cluster, "listed anew", |published, _| serves(published, "b")).await;
    assert!(verdict(&published, "gone").is_none(), "what went meanwhile is gone");
    assert!(Arc::ptr_eq(&kept, &cluster.snapshot().load().webhooks[&key("a")]), "what is the same is the same");
    world.webhooks.modified(hook("c", 6, "s"));
    until(&cluster, "watched again", |published, _| serves(published, "c")).await;
    until(&cluster, "complete again", |published, _| published.complete).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_from_its_bookmark() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    world.webhooks.bookmark("Webhook", "zen-mesh.io/v1alpha1", "77");
    world.webhooks.end();
    let resumed = Call::get(WEBHOOKS).query("watch", "true").query("resourceVersion", "77");
    world.server.seen(&resumed, 1).await;
    world.webhooks.modified(hook("b", 80, "s"));
    until(&cluster, "resumed", |published, _| serves(published, "b")).await;
    let lists =
        world.server.received().into_iter().filter(|call| call.path == WEBHOOKS && !call.query.contains_key("watch"));
    assert_eq!(lists.count(), 1, "nothing was listed again");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_nobody_understands_loses_no_event() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    // The event about `b` is the one that is damaged.
    world.server.allow(Call::get(WEBHOOKS), Reply::list(vec![hook("a", 1, "s"), hook("b", 2, "s")]));
    world.webhooks.raw("{\"type\": \"ADDED\", \"object\": {\"meta");
    world.webhooks.raw("nonsense");
    until(&cluster, "listed", |published, _| serves(published, "b")).await;
}

/// An object that is unknown because its watch is broken was not deleted, and what was known stays.
#[tokio::test(start_paused = true)]
async fn a_broken_watch_deletes_nothing_and_says_so() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    let cluster = world.start(Plane::Ingester).await;
    assert!(cluster.published().borrow().complete);
    let mut version = 10;
    for broken in [Reply::internal(), Reply::unavailable(), Reply::forbidden(), Reply::gone(), Reply::busy(1)] {
        world.server.allow(Call::get(DESTINATIONS), broken);
        world.destinations.expired();
        let published = until(&cluster, "incomplete", |published, _| !published.complete).await;
        version += 1;
        let mut foreign = hook("f", version, "s");
        foreign["spec"]["routes"][0]["destinations"][0] = json!({"name": "new", "namespace": "other"});
        world.webhooks.modified(foreign);
        until(&cluster, "a Destination that nobody told of", |_, snapshot| {
            snapshot.webhooks.get(&key("f")).is_some_and(|own| own.routes[0].destinations.len() == 1)
        })
        .await;
        assert!(serves(&published, "ci") && serves(&published, "a"));
        version += 1;
        world.webhooks.modified(hook("b", version, "s"));
        until(&cluster, "the others go on", |published, _| {
            verdict(published, "b").is_some_and(|b| b.observed_generation == Some(version.into()))
        })
        .await;
        world.server.allow(Call::get(DESTINATIONS), Reply::list(vec![destination("ci")]));
        let published = until(&cluster, "complete", |published, _| published.complete).await;
        assert!(serves(&published, "ci"));
        until(&cluster, "it does not exist", |_, snapshot| {
            snapshot.webhooks[&key("f")].routes[0].destinations.is_empty()
        })
        .await;
    }
}

/// A list that never ends is given up; a Secret that cannot be read keeps nobody else waiting.
#[tokio::test(start_paused = true)]
async fn a_stalled_watch_keeps_nobody_else_waiting() {
    let world = World::new(vec![hook("a", 1, "s"), hook("b", 1, "slow"), hook("c", 1, "odd")], vec![destination("ci")]);
    world.secret("s", "one");
    world.one(SECRETS, "slow", Reply::never(), &Watch::default());
    world.one(SECRETS, "odd", Reply::internal(), &Watch::default());
    let begun = tokio::time::Instant::now();
    let cluster = world.start(Plane::Ingester).await;
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    let published = cluster.published().borrow().clone();
    assert!(serves(&published, "a") && published.complete);
    for name in ["b", "c"] {
        assert_eq!(reason(&published, name), Some(ObjectReason::RefPending), "{name}");
    }
    world.secret("slow", "two");
    world.secret("odd", "three");
    until(&cluster, "given up and begun anew", |published, _| serves(published, "b") && serves(published, "c")).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_takes_effect_before_everything_was_read() {
    let world = World::new(vec![hook("a", 1, "s")], vec![destination("ci")]);
    world.secret("s", "one");
    world.server.allow(Call::get(DESTINATIONS), Reply::unavailable());
    let started = world.start(Plane::Ingester);
    tokio::pin!(started);
    let early = tokio::time::timeout(Duration::from_secs(20), &mut started).await;
    assert!(early.is_err(), "a configuration without Destinations would route to nobody");
    listed(&world, DESTINATIONS, 3).await;
    world.server.allow(Call::get(DESTINATIONS), Reply::list(vec![destination("ci")]));
    let cluster = started.await;
    assert!(serves(&cluster.published().borrow(), "ci"));
}
