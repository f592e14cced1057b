//! Defaults: those of the API server, of the offline check and of the Rust types are the same.

use serde_json::{Value, json};
use zen_crds::{ClusterEnrollment, Destination, Webhook, ZenLock, defaulted};

use crate::api_server::api_server;
use crate::samples::{self, named};
use crate::verdicts::both_take;

#[tokio::test]
async fn the_api_server_fills_in_what_the_contract_states() {
    let api = api_server().await;
    api.namespace(samples::NAMESPACE).await;
    let stored = both_take(&api, "webhook", &named("Webhook", "smallest")).await;
    let expected = json!({
        "active": true, "verification": {"provider": "none"},
        "idempotency": {"window": "24h"}, "limits": {"body": "1Mi"},
    });
    assert_eq!(stored["spec"], expected);

    let stored = both_take(&api, "destination", &named("Destination", "smallest")).await;
    let expected = json!({
        "paused": false, "target": {"url": "https://target.example.com/hooks"}, "mode": "Egress",
        "delivery": {
            "format": "raw", "idempotent": true, "timeouts": {"connect": "5s", "request": "30s"},
            "maxResponse": "64Ki", "concurrency": 64,
            "retry": {
                "transient": {"attempts": 5, "initial": "1s", "factor": 2, "within": "15m"},
                "throttled": {"attempts": 3, "within": "30m"},
            },
            "circuitBreaker": {"failures": 10, "openFor": "30s", "hold": "24h"},
        },
        "deadLetter": {"retention": "336h", "autoReplay": false},
    });
    assert_eq!(stored["spec"], expected);

    let stored = both_take(&api, "member", &named("Destination", "member")).await;
    assert_eq!(stored["spec"]["target"]["service"]["path"], "/");
    assert_eq!(stored["spec"]["delivery"]["rate"]["per"], "1s");
    assert_eq!(stored["spec"]["delivery"]["ordering"]["onDeadLetter"], "continue");

    let mut enrollment = named("ClusterEnrollment", "prod-eu");
    let recipient = enrollment["spec"]["recipient"].clone();
    enrollment["spec"] = json!({"recipient": recipient});
    let stored = both_take(&api, "enrollment", &enrollment).await;
    assert_eq!(stored["spec"], json!({"recipient": recipient, "ttl": "30m", "bundle": "1", "disabled": false}));
}

/// A pod that reads an object from a folder sees what a pod sees that reads it from the API server.
#[tokio::test]
async fn folder_and_cluster_give_one_object() {
    let api = api_server().await;
    api.namespace(samples::NAMESPACE).await;
    for sample in samples::all() {
        let kind = sample["kind"].as_str().unwrap();
        let what = format!("{kind} {}", sample["metadata"]["name"]);
        let stored = both_take(&api, &what, &sample).await;
        assert_eq!(stored["spec"], defaulted(kind, &sample)["spec"], "{what}: offline defaults");
        assert_eq!(typed(kind, &sample), typed(kind, &stored), "{what}: defaults of the Rust types");
    }
}

fn typed(kind: &str, object: &Value) -> Value {
    let object = object.clone();
    match kind {
        "Webhook" => serde_json::to_value(serde_json::from_value::<Webhook>(object).unwrap().spec).unwrap(),
        "Destination" => serde_json::to_value(serde_json::from_value::<Destination>(object).unwrap().spec).unwrap(),
        "ZenLock" => serde_json::to_value(serde_json::from_value::<ZenLock>(object).unwrap().spec).unwrap(),
        _ => serde_json::to_value(serde_json::from_value::<ClusterEnrollment>(object).unwrap().spec).unwrap(),
    }
}
