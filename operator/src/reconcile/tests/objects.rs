//! What is made, left alone, tried again and deleted.

use super::*;

#[tokio::test]
async fn everything_is_made_once_and_a_steady_mesh_writes_nothing() {
    let cluster = Setup::new().start();
    cluster.settled().await;
    let written = cluster.written();
    assert_eq!((written.len(), written.into_iter().collect::<BTreeSet<_>>()), (all().len(), all()));
    // The watches show what was made, the pods come and go: nothing more to write.
    for call in cluster.server.received().into_iter().filter(|call| call.method == http::Method::PATCH) {
        let (collection, _) = call.path.rsplit_once('/').expect("a path");
        let mut object = call.body;
        object["metadata"]["resourceVersion"] = "2".into();
        object["metadata"]["uid"] = "uid-1".into();
        cluster.watches[collection].added(object);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "zen-ingester-0", "namespace": "zen-mesh",
        "uid": "p0", "resourceVersion": "3"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    cluster.watches[&format!("{CORE}/pods")].added(pod);
    // It is not ready, so that the drains are asked about it: then the loop has seen all of that.
    let mut orders = cluster.orders.clone();
    orders.wait_for(|orders| orders.look.contains(&0)).await.expect("goes on");
    cluster.known.send_replace(Known::new());
    cluster.workloads.send_modify(|_| {});
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.written().len(), all().len(), "{:?}", cluster.written());
    cluster.end().await;
}

#[tokio::test]
async fn an_object_of_another_is_left_alone_and_the_others_are_made() {
    let setup = Setup::new();
    let foreign = json!({"metadata": {"name": "zen-egress", "namespace": "zen-mesh", "uid": "x"}});
    let path = format!("{CORE}/services");
    let named = Call::get(&path).query("fieldSelector", "metadata.name=zen-egress");
    setup.server.allow(named, Reply::list(vec![foreign]));
    let event = Call::post("/apis/events.k8s.io/v1/namespaces/zen-mesh/events");
    let event = event.body(|body| {
        let note = body["note"].as_str().unwrap_or_default();
        body["reason"] == "Foreign" && note.contains("Service zen-mesh/zen-egress") && body["regarding"]["uid"] == "u1"
    });
    setup.server.allow(event.clone(), Reply::stored());
    let cluster = setup.start();
    cluster.settled().await;
    cluster.server.seen(&event, 1).await;
    let mut expected = all();
    expected.remove(&format!("PATCH {path}/zen-egress"));
    let written: BTreeSet<_> = cluster.written().into_iter().filter(|call| call.starts_with("PATCH")).collect();
    assert_eq!(written, expected);
    cluster.end().await;
}

#[tokio::test]
async fn one_that_is_refused_or_fails_holds_up_no_other() {
    let setup = Setup::new();
    let refused = Call::patch(&format!("{NETWORK}/zen-egress"));
    setup.server.allow(refused.clone(), Reply::status(422, "Invalid", "spec.egress: invalid"));
    let busy = Call::patch(&format!("{CORE}/services/zen-egress"));
    setup.server.allow(busy.clone(), Reply::unavailable());
    setup.server.allow(Call::post("/apis/events.k8s.io/v1/").under(), Reply::stored());
    let cluster = setup.start();
    cluster.settled().await;
    let written: BTreeSet<_> = cluster.written().into_iter().filter(|call| call.starts_with("PATCH")).collect();
    assert_eq!(written, all());
    // What passes by itself is tried again, what needs a change is not, for now.
    cluster.server.seen(&busy, 3).await;
    cluster.server.allow(busy, Reply::stored());
    let refusals = cluster.written().iter().filter(|call| call.ends_with(&format!("{NETWORK}/zen-egress"))).count();
    assert_eq!(refusals, 1);
    cluster.end().await;
}

#[tokio::test]
async fn what_is_switched_off_is_deleted_if_it_is_ours() {
    let ours = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "zen-mesh", "uid": "u",
            "resourceVersion": "1", "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}}})
    };
    let services = format!("{CORE}/services");
    let mut setup = Setup::new().has(&services, ours("zen-ingester-api"));
    setup.workloads = format!("{LEAST}\napi: {{enabled: false}}\n");
    let delete = Call::delete(&format!("{services}/zen-ingester-api"));
    setup.server.allow(delete.clone(), Reply::ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
    let cluster = setup.start();
    cluster.settled().await;
    let deleted: Vec<_> = cluster.written().into_iter().filter(|call| call.starts_with("DELETE")).collect();
    assert_eq!(deleted, [format!("DELETE {services}/zen-ingester-api")]);
    cluster.end().await;
}

/// The watch says 410, and the list after it no longer has what was there: it is made again.
#[tokio::test]
async fn what_vanished_while_a_watch_was_away_is_made_again() {
    let cluster = Setup::new().start();
    cluster.settled().await;
    let path = format!("{CORE}/services");
    let mut made = cluster.server.received();
    made.retain(|call| call.path.starts_with(&path) && call.method == http::Method::PATCH);
    for call in made {
        let mut object = call.body;
        object["metadata"]["resourceVersion"] = "2".into();
        object["metadata"]["uid"] = "uid-1".into();
        cluster.watches[&path].added(object);
    }
    cluster.watches[&path].bookmark("Service", "v1", "7");
    cluster.watches[&path].expired();
    for name in ["zen-ingester", "zen-ingester-peers", "zen-ingester-api", "zen-egress"] {
        cluster.server.seen(&Call::patch(&format!("{path}/{name}")), 2).await;
    }
    cluster.end().await;
}

/// A mistake of ours while one object is written holds up no other, and that one is tried again.
#[tokio::test(start_paused = true)]
async fn a_write_that_breaks_is_tried_again() {
    let setup = Setup::new();
    let path = format!("{CORE}/services/zen-ingester-peers");
    setup.server.expect(Call::patch(&path), Reply::with(|_| panic!("a mistake")));
    let (cluster, began) = (setup.start(), Instant::now());
    cluster.server.seen(&Call::patch(&path), 2).await;
    assert!(began.elapsed() >= crate::backoff::LONGEST, "{:?}", began.elapsed());
    cluster.end().await;
}
