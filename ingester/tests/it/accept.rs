//! What is accepted: byte-exact bodies, types and ids, duplicates, routes, `CloudEvents` (W-07, W-10, W-11, W-13).

use std::sync::Arc;

use serde_json::json;
use zen_compile::Snapshot;
use zen_ingester::Limits;
use zen_model::Timestamp;
use zen_model::observe::Observation;

use crate::kit::{Intake, bearer, signed};

#[tokio::test]
async fn an_event_is_kept_byte_for_byte_with_its_facts() {
    let intake = Intake::usual();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let headers =
        ["content-type: application/octet-stream; a=b", "x-request-id: req-1", "traceparent: 00-ab-cd-01", "cookie: c"];
    let answer = intake.good("/a/hook", &headers, &every_byte).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (202, Some("req-1")));
    let events = intake.queue.events();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(answer.json(), json!({"id": event.id}));
    assert!(event.body == every_byte, "the body differs");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &every_byte);
    assert_eq!(event.content_hash, hash.as_ref());
    assert_eq!(event.content_type, "application/octet-stream; a=b");
    assert_eq!((event.r#type.as_str(), event.source.as_str()), ("bearer.event", "/a/hook"));
    assert_eq!((event.request_id.as_str(), event.traceparent.as_str()), ("req-1", "00-ab-cd-01"));
    assert!(event.headers.iter().all(|header| header.name != "authorization" && header.name != "cookie"));
    assert_eq!(intake.queue.open("a/ci"), 1);
    let seen = intake.seen.0.lock().unwrap();
    assert!(matches!(&seen[..], [Observation::Accepted { bytes: 100_000, deliveries: 1, .. }]), "{seen:?}");
}

#[tokio::test]
async fn an_empty_body_is_an_event_too() {
    let intake = Intake::usual();
    assert_eq!(intake.good("/a/hook", &[], b"").await.status, 202);
    assert_eq!(intake.queue.events()[0].body, "");
}

/// Many at once with one key: one event, every answer names it, all but one say that it is a repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_repeats_are_one_event() {
    let spec = bearer(
        &json!({"idempotency": {"key": {"header": "X-Id"}, "window": "1h"}, "event": {"id": {"header": "X-Id"}}}),
    );
    let intake = Arc::new(Intake::with(&[("hook", spec)], Limits::default()));
    let requests = (0..16).map(|_| {
        let intake = Arc::clone(&intake);
        tokio::spawn(async move { intake.good("/a/hook", &["x-id: 7"], b"x").await })
    });
    let mut repeats = 0;
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.json()), (202, json!({"id": "7"})));
        repeats += usize::from(answer.header("zen-duplicate") == Some("true"));
    }
    assert_eq!((repeats, intake.queue.events().len()), (15, 1));
    assert_eq!(intake.good("/a/hook", &["x-id: 8"], b"x").await.header("zen-duplicate"), None);
    assert_eq!(intake.good("/a/hook", &[], b"x").await.status, 202, "without a key there is no claim");
    assert!(intake.metrics().contains("zen_ingester_duplicates_total{provider=\"bearer\"} 15"));
}

#[tokio::test]
async fn type_and_id_come_from_where_the_webhook_says_and_never_refuse() {
    let spec = bearer(
        &json!({"event": {"type": {"pointer": "/kind"}, "id": {"pointer": "/nr"}, "source": "https://example.com"}}),
    );
    let intake = Intake::with(&[("hook", spec)], Limits::default());
    for body in [&br#"{"kind":"push","nr":5}"#[..], b"not json", br#"{"kind":{},"nr":""}"#, br#"{"kind":"a\nb"}"#] {
        assert_eq!(intake.good("/a/hook", &[], body).await.status, 202);
    }
    let facts: Vec<_> = intake.queue.events().into_iter().map(|event| (event.r#type, event.id, event.source)).collect();
    let fact = |r#type: &str, id: &str| (r#type.to_owned(), id.to_owned(), "https://example.com".to_owned());
    assert_eq!(
        facts,
        [
            fact("push", "5"),
            fact("bearer.event", "generated-2"),
            fact("bearer.event", "generated-3"),
            fact("bearer.event", "generated-4")
        ]
    );
}

#[tokio::test]
async fn routes_choose_and_what_none_takes_is_kept_unrouted() {
    let routes = json!({"routes": [
        {"match": [{"pointer": "/to", "equals": "ci"}], "destinations": [{"name": "ci"}]},
        {"match": [{"header": "X-Both", "exists": true}], "destinations": [{"name": "ci"}, {"name": "audit"}]},
    ]});
    let intake = Intake::with(&[("hook", bearer(&routes))], Limits::default());
    intake.good("/a/hook", &["x-both: 1"], br#"{"to":"ci"}"#).await;
    intake.good("/a/hook", &[], br#"{"to":"ci"}"#).await;
    intake.good("/a/hook", &[], br#"{"to":"other"}"#).await;
    assert_eq!((intake.queue.open("a/ci"), intake.queue.open("a/audit")), (2, 1));
    assert_eq!(intake.queue.events().len(), 3);
    assert!(intake.metrics().contains("zen_ingester_unrouted_total 1"));
}

#[tokio::test]
async fn cloud_events_keep_their_attributes_and_bytes() {
    let intake = Intake::usual();
    let binary = ["ce-specversion: 1.0", "ce-id: c1", "ce-type: t1", "ce-source: /s1", "ce-tenant: x"];
    intake.good("/a/hook", &binary, b"data").await;
    let envelope = br#"{"specversion":"1.0","id":"c2","type":"t2","source":"/s2","data":1}"#;
    intake.good("/a/hook", &["content-type: application/cloudevents+json"], envelope).await;
    let events = intake.queue.events();
    let facts: Vec<_> = events.iter().map(|e| (e.id.as_str(), e.r#type.as_str(), e.source.as_str())).collect();
    assert_eq!(facts, [("c1", "t1", "/s1"), ("c2", "t2", "/s2")]);
    assert_eq!(events[0].extensions.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["tenant"]);
    assert_eq!(events[1].body, &envelope[..]);
}

/// A change of the configuration holds from the next request on, without a restart (W-01).
#[tokio::test]
async fn a_new_configuration_holds_at_once() {
    let intake = Intake::usual();
    assert_eq!(intake.good("/a/hook", &[], b"x").await.status, 202);
    intake.snapshot.store(Arc::new(Snapshot::default()));
    assert_eq!(intake.good("/a/hook", &[], b"x").await.code(), "UnknownPath");
}

#[tokio::test]
async fn a_slack_challenge_is_answered_and_not_stored() {
    let spec = json!({
        "verification": {"provider": "slack", "secrets": [{"secretRef": {"name": "s", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    let intake = Intake::with(&[("slack", spec)], Limits::default());
    let body = br#"{"type":"url_verification","challenge":"3eZbrw1a","token":"t"}"#;
    let (headers, body) = signed("slack", Some(body), Timestamp::now());
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let answer = intake.post("/a/slack", &headers, &body).await;
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("3eZbrw1a"));
    assert_eq!(intake.queue.events().len(), 0);
    let unsigned = intake.post("/a/slack", &["content-type: application/json"], &body).await;
    assert_eq!(unsigned.code(), "Unauthenticated", "a challenge verifies first");
}

#[tokio::test]
async fn metrics_keep_the_rules() {
    let intake = Intake::usual();
    intake.good("/a/hook", &[], b"x").await;
    assert_eq!(zen_runtime::metrics::problems(&intake.metrics()), Vec::<String>::new());
    assert!(intake.metrics().contains("zen_ingester_accepted_total{provider=\"bearer\"} 1"));
}
