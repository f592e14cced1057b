//! What the status says, and what the API is not (T-01, T-08).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use super::super::service::{REDEEM, SYNC, router};
use super::stage::{Stage, workloads};

#[tokio::test]
async fn a_mesh_that_is_no_hub_says_which_value_to_set() {
    let stage = Stage::with("", true).await;
    stage.apply("team-a/prod-eu", &json!({}));
    let condition = |status: &serde_json::Value| {
        let condition = &status["conditions"][0];
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        (text("type"), text("status"), text("reason"), text("message"))
    };
    for (hub, value) in [("", "hub.enabled"), ("hub: {}", "hub.url")] {
        stage.workloads.send_replace(workloads(hub));
        let says = async || condition(&stage.status("team-a/prod-eu")).3.contains(value);
        stage.until(says).await;
        let (kind, status, reason, _) = condition(&stage.status("team-a/prod-eu"));
        assert_eq!((&*kind, &*status, &*reason), ("Accepted", "False", "HubNotConfigured"));
        assert_eq!(stage.status("team-a/prod-eu")["phase"], "Pending");
    }
    stage.workloads.send_replace(workloads("hub: {url: 'https://hub.example.com:8445'}"));
    let status = stage.phase("team-a/prod-eu", "BundleIssued").await;
    let (_, is, reason, message) = condition(&status);
    assert_eq!((&*is, &*reason), ("True", "Accepted"));
    assert!(message.contains("kubectl zen enroll prod-eu -n team-a"), "{message}");
    let writes = stage.writes();
    stage.bundle("team-a/prod-eu", None).await;
    stage.hub.0.lead.load().as_ref().expect("leads").changed.notify_one();
    stage.apply("team-b/x", &json!({"recipient": "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"}));
    stage.until(async || condition(&stage.status("team-b/x")).2 == "RecipientInvalid").await;
    assert_eq!(stage.writes(), writes + 1, "what stands as it should is not written again");
}

/// T-08: two routes, both of `zen_enroll`'s own types. Nothing else is answered with anything but 404, so that there is no way
/// for an event in or out.
#[tokio::test]
async fn no_route_takes_or_gives_an_event() {
    let stage = Stage::start().await;
    let router = router(Arc::clone(&stage.hub.0));
    assert_eq!(
        BTreeSet::from([REDEEM, SYNC]),
        BTreeSet::from(["/v1/enrollments/{tenant}/{cluster}", "/v1/clusters/{tenant}/{cluster}/sync"])
    );
    let (redeem, sync) = ("/v1/enrollments/a/b", "/v1/clusters/a/b/sync");
    let event = "{\"specversion\":\"1.0\",\"id\":\"1\",\"data\":\"planted-marker\"}";
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        for path in [
            redeem,
            sync,
            "/",
            "/v1",
            "/v1/events",
            "/v1/events/a",
            "/v1/enrollments",
            "/v1/clusters/a/b",
            "/v1/clusters/a/b/events",
            "/v1/dead-letters",
            "/v1/replay",
            "/v1/lease",
            "/a/github",
            "/v1/clusters/a/b/sync/x",
        ] {
            let request = Request::builder().method(&method).uri(path).body(Body::from(event)).expect("a request");
            let response = router.clone().oneshot(request).await.expect("infallible");
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            let is_ours = method == Method::POST && (path == redeem || path == sync);
            assert_eq!(status, if is_ours { 400 } else { 404 }, "{method} {path}");
            assert!(!String::from_utf8_lossy(&body).contains("planted-marker"), "{method} {path}");
        }
    }
}
