//! The admin API over its router: token, status, listings without payload, replays with pace and progress (D-05, A-06).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zen_ingester::Limits;
use zen_ingester::admin::{Parts, router, types::Status};
use zen_model::{DeadReason, Secret};
use zen_queue::Queue;

use crate::kit::{Intake, TOKEN, bearer};

fn api(intake: &Intake) -> Router {
    let verdicts = Arc::new(ArcSwap::from_pointee(intake.verdicts.clone()));
    router(&intake.ingester, Parts { verdicts, token: Secret::new("admin"), durability: "fsynced" })
}

async fn call(api: &Router, method: Method, path: &str, body: Value) -> (u16, Value) {
    call_with(api, method, path, body, Some("Bearer admin")).await
}

async fn call_with(api: &Router, method: Method, path: &str, body: Value, token: Option<&str>) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}")))
}

async fn get(api: &Router, path: &str) -> (u16, Value) {
    call(api, Method::GET, path, Value::Null).await
}

/// Nothing is said without the token, not even whether a path exists.
#[tokio::test]
async fn every_path_needs_the_token() {
    let intake = Intake::usual();
    let api = api(&intake);
    for token in
        [None, Some("Bearer wrong"), Some("Bearer "), Some("admin"), Some("Basic admin"), Some("Bearer admin ")]
    {
        for path in ["status", "events", "events/1", "dead-letters", "dead-letters/1-0", "replays", "none"] {
            let (status, body) = call_with(&api, Method::GET, path, Value::Null, token).await;
            assert_eq!((status, body["code"].as_str()), (401, Some("Unauthenticated")), "{token:?} {path}");
            assert!(body["request_id"].is_string() && body["message"].is_string());
        }
    }
    assert_eq!(get(&api, "none").await.1["code"], "NotFound");
    assert_eq!(call_with(&api, Method::GET, "status", Value::Null, Some("bearer admin")).await.0, 200);
}

#[tokio::test]
async fn the_status_tells_all_and_no_secret() {
    let broken = json!({
        "verification": {"provider": "bearer", "secrets": [{"secretRef": {"name": "missing", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    let webhooks = [("hook", bearer(&json!({}))), ("off", bearer(&json!({"active": false}))), ("broken", broken)];
    let intake = Intake::with(&webhooks, Limits::default());
    intake.good("/a/hook", &[], b"x").await;
    intake.post("/a/hook", &[], b"x").await;
    let (code, body) = get(&api(&intake), "status").await;
    assert_eq!(code, 200);
    assert!(!body.to_string().contains(TOKEN));
    let status: Status = serde_json::from_value(body).expect("the client's type");
    let webhook = |name: &str| status.webhooks.iter().find(|webhook| webhook.key.name.as_str() == name).unwrap();
    let hook = webhook("hook");
    assert_eq!((hook.path.as_str(), hook.provider.as_str(), hook.accepted), ("/a/hook", "bearer", true));
    assert_eq!((hook.counts.accepted, hook.counts.refused), (1, 1));
    assert!(hook.last_verified.as_ref().unwrap().secret.contains("s/token"), "{hook:?}");
    assert!(webhook("off").inactive);
    assert!(!webhook("broken").accepted && !webhook("broken").problems.is_empty());
    let destination = &status.destinations[0];
    assert_eq!(
        (destination.target.as_str(), destination.breaker.as_str()),
        ("https://ci.example.com:443/hooks", "closed")
    );
    assert_eq!((destination.waiting, status.queue.committed), (1, 1));
    assert_eq!((status.queue.durability.as_str(), status.queue.health.as_str()), ("fsynced", "ok"));
    let of = |namespace: &'static str| {
        let api = api(&intake);
        async move {
            let (_, body) = get(&api, &format!("status?namespace={namespace}")).await;
            let status: Status = serde_json::from_value(body).expect("the client's type");
            (status.webhooks.len(), status.destinations.len())
        }
    };
    assert_eq!((of("a").await, of("b").await), ((3, 1), (0, 0)), "of one namespace alone");
}

#[tokio::test]
async fn events_can_be_listed_and_shown() {
    let intake = Intake::usual();
    intake.good("/a/hook", &[], b"MARKER").await;
    let api = api(&intake);
    let (_, list) = get(&api, "events?webhook=a/hook&limit=5").await;
    assert_eq!(list[0]["id"], "generated-1");
    assert!(!list.to_string().contains("MARKER"));
    assert_eq!(get(&api, "events?webhook=a/other").await.1, json!([]));
    assert_eq!(get(&api, "events/generated-1").await.1[0]["bytes"], 6);
    assert_eq!(get(&api, "events/none").await.0, 404);
    for bad in ["events?webhook=nonsense", "events?state=nonsense", "events?since=yesterday", "events?limit=-1"] {
        assert_eq!(get(&api, bad).await.1["code"], "BadRequest", "{bad}");
    }
}

/// Four dead letters of `a/ci`.
async fn with_dead_letters() -> Intake {
    let intake = Intake::usual();
    for _ in 0..4 {
        intake.good("/a/hook", &[], b"MARKER").await;
    }
    intake.queue.bury("a/ci".parse().unwrap(), None, DeadReason::HoldExceeded).await.unwrap();
    intake
}

#[tokio::test]
async fn a_payload_is_shown_only_when_it_is_asked_for() {
    let intake = with_dead_letters().await;
    let api = api(&intake);
    let (_, list) = get(&api, "dead-letters?destination=a/ci").await;
    assert_eq!(list.as_array().unwrap().len(), 4);
    assert!(!list.to_string().contains("what the target said"), "a listing holds no response");
    let id = list[0]["id"].as_str().unwrap();
    let (_, shown) = get(&api, &format!("dead-letters/{id}")).await;
    assert_eq!(shown["last_response"], "what the target said");
    assert_eq!(shown["stored"]["payload"], Value::Null);
    let (_, shown) = get(&api, &format!("dead-letters/{id}?payload=true")).await;
    assert_eq!(shown["stored"]["payload"], "TUFSS0VS");
    assert_eq!(get(&api, "dead-letters/999-0").await.0, 404);
    for bad in ["dead-letters/nonsense", "dead-letters?reason=Nonsense", "dead-letters?nonsense=1"] {
        assert_eq!(get(&api, bad).await.1["code"], "BadRequest", "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_counted_paced_and_followed() {
    let intake = with_dead_letters().await;
    let api = api(&intake);
    let filter = json!({"destination": "a/ci"});
    let dry = call(&api, Method::POST, "replays", json!({"filter": filter, "dry_run": true})).await;
    assert_eq!(dry, (200, json!({"count": 4})));
    assert_eq!(intake.queue.dead("a/ci").len(), 4, "a dry run changes nothing");
    let (status, replay) = call(&api, Method::POST, "replays", json!({"filter": filter, "rate": 1})).await;
    assert_eq!((status, &replay["total"], &replay["state"]), (202, &json!(4), &json!("running")));
    let path = format!("replays/{}", replay["id"].as_str().unwrap());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(get(&api, &path).await.1["replayed"], 2, "one at once, one after a second");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (_, done) = get(&api, &path).await;
    assert_eq!((&done["replayed"], &done["state"]), (&json!(4), &json!("done")));
    assert_eq!((intake.queue.dead("a/ci").len(), intake.queue.open("a/ci")), (0, 4));
    assert_eq!(get(&api, "replays").await.1.as_array().unwrap().len(), 1);
}

/// C-02: one tenant's slow replays keep no other one waiting.
#[tokio::test(start_paused = true)]
async fn replays_are_bounded_for_each_namespace() {
    let intake = with_dead_letters().await;
    let api = api(&intake);
    let start = |namespace: &'static str| {
        let api = api.clone();
        async move {
            let body = json!({"filter": {"namespace": namespace}, "rate": 1});
            call(&api, Method::POST, "replays", body).await
        }
    };
    for _ in 0..4 {
        assert_eq!(start("a").await.0, 202);
    }
    let (status, refused) = start("a").await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("TooManyReplays")));
    assert_eq!(start("b").await.0, 202);
    let ids = vec!["1-1"; 1001];
    let (status, _) = call(&api, Method::POST, "replays", json!({"filter": {"ids": ids}, "dry_run": true})).await;
    assert_eq!(status, 400, "a filter is bounded");
}

#[tokio::test(start_paused = true)]
async fn a_replay_can_be_cancelled() {
    let intake = with_dead_letters().await;
    let api = api(&intake);
    let (_, replay) = call(&api, Method::POST, "replays", json!({"rate": 1})).await;
    let path = format!("replays/{}", replay["id"].as_str().unwrap());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(call(&api, Method::DELETE, &path, Value::Null).await.1["state"], "cancelled");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(intake.queue.dead("a/ci").len(), 3, "what was replayed stays so, the rest is left");
    assert_eq!(call(&api, Method::DELETE, "replays/none", Value::Null).await.0, 404);
    for bad in [json!({"rate": 0}), json!({"filter": {"ids": ["x"]}}), json!({"unknown": 1})] {
        assert_eq!(call(&api, Method::POST, "replays", bad.clone()).await.1["code"], "BadRequest", "{bad}");
    }
}
