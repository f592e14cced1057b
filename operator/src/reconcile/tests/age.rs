//! The age key of ZenLocks (Z-06).

use super::*;

fn with_zen_locks() -> String {
    LEAST.replace("egress: e}", "egress: e, zenlockWebhook: z}") + "zenLock: {replicas: 1}\n"
}

/// Z-06: the first key is made once, and pods that mount it wait for it.
#[tokio::test]
async fn the_first_age_key_is_made_before_the_pods_that_mount_it() {
    let mut setup = Setup::new();
    setup.workloads = with_zen_locks();
    let cluster = setup.start();
    cluster.settled().await;
    let (age, pods) = (format!("{CORE}/secrets/zen-mesh-age"), format!("{APPS}/deployments/zenlock-webhook"));
    let times = |path: &str| cluster.written().iter().filter(|call| **call == format!("PATCH {path}")).count();
    assert_eq!((times(&age), times(&pods)), (1, 0));
    let made =
        cluster.server.received().into_iter().find(|call| call.path == age && call.method == http::Method::PATCH);
    let mut made = made.expect("made").body;
    assert!(made["data"].as_object().is_some_and(|data| data.len() == 1), "one key");
    made["metadata"]["resourceVersion"] = "2".into();
    made["metadata"]["uid"] = "uid-age".into();
    cluster.watches[names::AGE].added(made);
    cluster.server.seen(&Call::patch(&pods), 1).await;
    cluster.workloads.send_modify(|_| {});
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(times(&age), 1, "and never again");
    cluster.end().await;
}

/// Another key would open none of the ZenLocks that were made for the published one.
#[tokio::test]
async fn a_lost_age_key_is_said_and_not_replaced() {
    let recipients = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": names::RECIPIENTS,
        "namespace": "zen-mesh", "uid": "u", "resourceVersion": "1"}});
    let mut setup = Setup::new().has(&format!("{CORE}/configmaps"), recipients);
    setup.workloads = with_zen_locks();
    let event = Call::post("/apis/events.k8s.io/v1/namespaces/zen-mesh/events");
    let event = event.body(|body| body["reason"] == "AgeIdentityLost");
    setup.server.allow(event.clone(), Reply::stored());
    let cluster = setup.start();
    cluster.settled().await;
    cluster.server.seen(&event, 1).await;
    let written = cluster.written();
    assert!(
        written.iter().all(|call| !call.ends_with("zen-mesh-age") && !call.ends_with("deployments/zenlock-webhook")),
        "{written:?}"
    );
    cluster.end().await;
}
