//! What `kubectl get` shows.

use serde_json::{Value, json};

use crate::api_server::{ApiServer, api_server};
use crate::samples::named;

async fn shown(
    api: &ApiServer,
    mut object: Value,
    name: &str,
    status: Value,
    short: &str,
    wide: bool,
) -> Vec<Vec<String>> {
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!("columns");
    api.apply(&object).await.unwrap();
    api.patch_status(&object, &status).await.unwrap();
    let mut arguments = vec!["get", "-n", "columns", short, name];
    if wide {
        arguments.extend(["-o", "wide"]);
    }
    let table = api.control_plane.kubectl(&arguments).await.unwrap();
    table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!([{
        "type": kind, "status": status, "reason": reason, "message": "words", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }])
}

#[tokio::test]
async fn kubectl_shows_what_matters_of_each_kind() {
    let api = api_server().await;
    api.namespace("columns").await;

    let status = json!({"url": "https://hooks.example.com/team-a/github", "conditions": condition("Accepted", "False", "Conflicted")});
    let table = shown(&api, named("Webhook", "smallest"), "hook", status.clone(), "wh", false).await;
    assert_eq!(table[0], ["NAME", "PROVIDER", "URL", "ACCEPTED", "PROGRAMMED", "PROBLEM", "AGE"]);
    assert_eq!(table[1][..5], ["hook", "none", "https://hooks.example.com/team-a/github", "False", "Conflicted"]);
    let table = shown(&api, named("Webhook", "smallest"), "hook", status, "wh", true).await;
    assert_eq!(table[0], ["NAME", "PROVIDER", "URL", "ACCEPTED", "PROGRAMMED", "PROBLEM", "MESSAGE", "ACTIVE", "AGE"]);
    assert_eq!(table[1][4..7], ["Conflicted", "words", "true"]);

    let status = json!({
        "health": "Unhealthy", "breaker": {"state": "Open", "since": "2026-01-01T00:00:00Z"},
        "conditions": condition("Programmed", "True", "Programmed"),
    });
    let table = shown(&api, named("Destination", "ci"), "ci", status, "dest", false).await;
    assert_eq!(table[0], ["NAME", "SERVICE", "URL", "ACCEPTED", "PROGRAMMED", "PROBLEM", "BREAKER", "AGE"]);
    assert_eq!(table[1][..4], ["ci", "ci", "True", "Open"], "no URL, no problem: {table:?}");

    let status = json!({"decryptableWith": ["age1q"], "conditions": condition("Decryptable", "True", "Decryptable")});
    let table = shown(&api, named("ZenLock", "ci-token"), "lock", status, "zl", false).await;
    assert_eq!(table[0], ["NAME", "DECRYPTABLE", "PROBLEM", "AGE"]);
    assert_eq!(table[1][..2], ["lock", "True"]);

    let status = json!({"phase": "Enrolled", "connected": true});
    let table = shown(&api, named("ClusterEnrollment", "prod-eu"), "prod-eu", status, "ce", false).await;
    assert_eq!(table[0], ["NAME", "PHASE", "CONNECTED", "PROBLEM", "AGE"]);
    assert_eq!(table[1][..3], ["prod-eu", "Enrolled", "true"]);
}

#[tokio::test]
async fn the_status_is_a_subresource_with_one_condition_of_each_type() {
    let api = api_server().await;
    api.namespace("status").await;
    let mut object = named("Destination", "smallest");
    object["metadata"]["namespace"] = json!("status");
    object["status"] = json!({"health": "Healthy"});
    let stored = api.apply(&object).await.unwrap();
    assert!(stored.get("status").is_none(), "a writer of the object wrote its status: {stored}");
    assert_eq!(stored["metadata"]["generation"], 1);

    let stored = api.patch_status(&object, &json!({"observedGeneration": 1, "health": "Degraded"})).await.unwrap();
    assert_eq!(stored["metadata"]["generation"], 1, "a status is not a change of the object");
    let twice: Vec<Value> = [condition("Accepted", "True", "Accepted"), condition("Accepted", "False", "Conflicted")]
        .into_iter()
        .flat_map(|conditions| conditions.as_array().cloned().unwrap())
        .collect();
    let refused = api.patch_status(&object, &json!({"conditions": twice})).await.unwrap_err();
    assert!(refused.contains("Duplicate value"), "{refused}");
    let refused = api.patch_status(&object, &json!({"health": "Splendid"})).await.unwrap_err();
    assert!(refused.contains("supported values"), "{refused}");
}
