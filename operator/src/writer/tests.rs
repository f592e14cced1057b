//! Against a scripted API server that fails on any call that is not expected. K-02, K-03.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use zen_testkit::api_server::{ApiServer, Call, Reply};

use super::*;

const ALL: &str = "/api/v1/namespaces/zen-mesh/configmaps";
const PATH: &str = "/api/v1/namespaces/zen-mesh/configmaps/zen-mesh-trust";

fn writer(server: &ApiServer) -> Writer {
    Writer::new(server.client(), Leadership::unguarded(), "zen-operator-0", Metrics::default())
}

fn wanted(text: &str) -> Object {
    Object::new::<ConfigMap>(Some("zen-mesh"), "zen-mesh-trust", json!({"data": {"ca.crt": text}}))
}

fn find() -> Call {
    Call::get(ALL).query("fieldSelector", "metadata.name=zen-mesh-trust")
}

/// As the API server would have it after our apply.
fn stored(text: &str, version: &str) -> ConfigMap {
    let object = wanted(text);
    let mut value = Value::Object(object.body().clone());
    value["metadata"]["resourceVersion"] = version.into();
    value["metadata"]["uid"] = "uid-1".into();
    value["metadata"]["annotations"][names::APPLIED] = digest(object.body()).into();
    value["metadata"]["managedFields"] = json!([ours(&["ca.crt"])]);
    serde_json::from_value(value).expect("a ConfigMap")
}

fn ours(keys: &[&str]) -> Value {
    let data: serde_json::Map<_, _> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({"manager": names::FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
           "fieldsV1": {"f:data": data}})
}

fn value(config_map: &ConfigMap) -> Value {
    serde_json::to_value(config_map).expect("JSON")
}

#[tokio::test]
async fn what_does_not_exist_is_asked_for_and_applied_without_force() {
    let server = ApiServer::new();
    server.expect(find(), Reply::list(vec![]));
    let call = Call::patch(PATH).query("fieldManager", "zen-operator").query("fieldValidation", "Strict");
    let call = call.body(|body| {
        body["metadata"]["labels"][names::MANAGED_BY_LABEL] == names::MANAGED_BY
            && body["metadata"]["uid"].is_null()
            && body["metadata"]["annotations"][names::APPLIED].is_string()
    });
    server.expect(call, Reply::ok(value(&stored("a", "2"))));
    assert_eq!(writer(&server).apply(&wanted("a"), None).await.expect("written"), Outcome::Created);
    let applied = server.received().pop().expect("a call");
    assert_ne!(applied.query.get("force").map(String::as_str), Some("true"));
    server.finish();
}

#[tokio::test]
async fn what_is_ours_is_applied_with_force_over_the_same_object_only() {
    let server = ApiServer::new();
    let call = Call::patch(PATH).query("force", "true").body(|body| body["metadata"]["uid"] == "uid-1");
    server.expect(call, Reply::ok(value(&stored("b", "3"))));
    let writer = writer(&server);
    let old = stored("a", "2");
    assert_eq!(writer.apply(&wanted("b"), Some(&old)).await.expect("written"), Outcome::Applied);
    // The store still shows the old one, then the new one: nothing is sent.
    assert_eq!(writer.apply(&wanted("b"), Some(&old)).await.expect("same"), Outcome::Unchanged);
    assert_eq!(writer.apply(&wanted("b"), Some(&stored("b", "3"))).await.expect("same"), Outcome::Unchanged);
    server.finish();
}

#[tokio::test]
async fn what_another_made_is_left_alone() {
    let server = ApiServer::new();
    let mut foreign = stored("a", "2");
    foreign.metadata.labels = None;
    let error = writer(&server).apply(&wanted("a"), Some(&foreign)).await.expect_err("foreign");
    assert!(matches!(error, Error::Foreign(_)), "{error}");
    assert_eq!(error.requeue(), Requeue::Change);
    // The store sees only what carries our label: the API server is asked.
    server.expect(find(), Reply::list(vec![value(&foreign)]));
    let error = writer(&server).apply(&wanted("a"), None).await.expect_err("foreign");
    assert!(error.to_string().contains("ConfigMap zen-mesh/zen-mesh-trust"), "{error}");
    let resource = ApiResource::erase::<ConfigMap>(&());
    assert!(matches!(writer(&server).delete(&resource, &foreign).await, Err(Error::Foreign(_))));
    server.finish();
}

#[tokio::test]
async fn a_new_process_sends_nothing_that_an_earlier_one_applied() {
    let server = ApiServer::new();
    let writer = writer(&server);
    let there = stored("a", "2");
    assert_eq!(writer.apply(&wanted("a"), Some(&there)).await.expect("same"), Outcome::Unchanged);
    // Later changes of others that touch no field of ours, such as a status, are none of our business.
    let mut later = there.clone();
    later.metadata.resource_version = Some("9".to_owned());
    later.metadata.finalizers = Some(vec!["other".to_owned()]);
    assert_eq!(writer.apply(&wanted("a"), Some(&later)).await.expect("same"), Outcome::Unchanged);
    server.finish();
}

#[tokio::test]
async fn drift_is_corrected() {
    let server = ApiServer::new();
    let writer = writer(&server);
    writer.apply(&wanted("a"), Some(&stored("a", "2"))).await.expect("same");
    let mut value_now = value(&stored("a", "3"));
    value_now["data"]["ca.crt"] = "edited".into();
    value_now["metadata"]["managedFields"] = json!([ours(&[]), {"manager": "kubectl-edit", "operation": "Update"}]);
    let edited: ConfigMap = serde_json::from_value(value_now).expect("a ConfigMap");
    server.expect(Call::patch(PATH).query("force", "true"), Reply::ok(value(&stored("a", "4"))));
    assert_eq!(writer.apply(&wanted("a"), Some(&edited)).await.expect("mended"), Outcome::Applied);
    // The same for a process that has just started.
    let server = ApiServer::new();
    server.expect(Call::patch(PATH).query("force", "true"), Reply::ok(value(&stored("a", "4"))));
    assert_eq!(self::writer(&server).apply(&wanted("a"), Some(&edited)).await.expect("mended"), Outcome::Applied);
    server.finish();
}

#[tokio::test]
async fn failures_have_a_category_and_a_time_to_try_again() {
    let transient = Requeue::Transient(None);
    for (reply, category, requeue) in [
        (Reply::conflict(), "Conflict", transient),
        (Reply::busy(3), "Busy", Requeue::Transient(Some(Duration::from_secs(3)))),
        (Reply::internal(), "Unavailable", transient),
        (Reply::unavailable(), "Unavailable", transient),
        (Reply::not_found(), "Gone", transient),
        (Reply::forbidden(), "Refused", Requeue::Change),
        (Reply::status(422, "Invalid", "spec.replicas: must be positive"), "Refused", Requeue::Change),
        (Reply::made_again(), "Conflict", transient),
    ] {
        let server = ApiServer::new();
        server.expect(Call::patch(PATH), reply);
        let error = writer(&server).apply(&wanted("b"), Some(&stored("a", "2"))).await.expect_err("fails");
        assert_eq!((error.category(), error.requeue()), (category, requeue), "{error}");
        server.finish();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_given_up_before_another_may_lead() {
    let server = ApiServer::new();
    server.expect(Call::patch(PATH), Reply::never());
    let start = time::Instant::now();
    let error = writer(&server).apply(&wanted("b"), Some(&stored("a", "2"))).await.expect_err("slow");
    assert!(matches!(error, Error::Slow), "{error}");
    let options = zen_runtime::lease::Options::new("", "", "");
    assert_eq!(start.elapsed() + options.renew_deadline, options.duration);
}

#[tokio::test]
async fn nothing_is_written_without_the_lease() {
    let server = ApiServer::new();
    let options = zen_runtime::lease::Options::new("zen-mesh", "zen-operator", "us");
    let standby = zen_runtime::lease::Elector::new(server.client(), options).leadership();
    let writer = Writer::new(server.client(), standby, "zen-operator-0", Metrics::default());
    let error = writer.apply(&wanted("b"), Some(&stored("a", "2"))).await.expect_err("not the leader");
    assert_eq!((error.category(), error.requeue()), ("NotLeader", Requeue::Never));
    server.finish();
}

#[tokio::test]
async fn a_secret_is_written_only_over_the_version_that_was_seen() {
    let server = ApiServer::new();
    let body = |data: &str| json!({"type": "Opaque", "data": {"root.key": data}});
    let object = Object::new::<k8s_openapi::api::core::v1::Secret>(Some("zen-mesh"), "zen-mesh-issuer", body("YQ=="));
    let mut there = Value::Object(object.body().clone());
    there["metadata"]["resourceVersion"] = "5".into();
    let there: k8s_openapi::api::core::v1::Secret = serde_json::from_value(there).expect("a Secret");
    let call = Call::patch("/api/v1/namespaces/zen-mesh/secrets/zen-mesh-issuer");
    server.expect(call.body(|body| body["metadata"]["resourceVersion"] == "5"), Reply::conflict());
    let object = Object::new::<k8s_openapi::api::core::v1::Secret>(Some("zen-mesh"), "zen-mesh-issuer", body("Yg=="));
    assert!(matches!(writer(&server).apply(&object, Some(&there)).await, Err(Error::Conflict(_))));
    assert!(!format!("{object:?}").contains("Yg"), "A-06");
    server.finish();
}

#[tokio::test]
async fn a_key_is_made_once() {
    let server = ApiServer::new();
    let once = || Call::patch(PATH).body(|body| body["metadata"]["uid"].is_null());
    server.expect(find(), Reply::list(vec![]));
    server.expect(once(), Reply::ok(value(&stored("a", "2"))));
    // Another came between the look and the write.
    server.expect(find(), Reply::list(vec![]));
    server.expect(once(), Reply::conflict());
    server.expect(find(), Reply::list(vec![value(&stored("a", "2"))]));
    let writer = writer(&server);
    assert!(writer.create(&wanted("a")).await.expect("made"));
    assert!(!writer.create(&wanted("b")).await.expect("left as it is"));
    assert!(!writer.create(&wanted("b")).await.expect("left as it is"));
    let managers: Vec<_> =
        server.received().iter().filter_map(|call| call.query.get("fieldManager").cloned()).collect();
    assert!(managers[0].starts_with("zen-operator-once-") && managers[0] != managers[1], "{managers:?}");
    assert!(server.received().iter().all(|call| call.query.get("force").is_none_or(|force| force != "true")));
    server.finish();
}

#[tokio::test]
async fn status_has_a_manager_of_its_own_and_is_sent_only_when_it_changes() {
    let server = ApiServer::new();
    let target = Target {
        resource: ApiResource::erase::<zen_crds::Webhook>(&()),
        namespace: "team-a".to_owned(),
        name: "github".to_owned(),
        uid: "uid-7".to_owned(),
    };
    let path = "/apis/zen-mesh.io/v1alpha1/namespaces/team-a/webhooks/github/status";
    let call = Call::patch(path).query("fieldManager", "zen-operator-status").query("force", "true");
    server.expect(call.body(|body| body["metadata"]["uid"] == "uid-7"), Reply::stored());
    server.expect(Call::patch(path), Reply::not_found());
    let writer = writer(&server);
    let status = json!({"url": "https://x"});
    assert_eq!(writer.status(&target, &status, None).await.expect("written"), Outcome::Applied);
    assert_eq!(writer.status(&target, &status, Some(&status)).await.expect("same"), Outcome::Unchanged);
    assert!(matches!(writer.status(&target, &status, None).await, Err(Error::Gone(_))));
    server.finish();
}

#[tokio::test]
async fn deletes_are_of_the_object_that_was_seen_and_gone_is_fine() {
    let server = ApiServer::new();
    let call = || Call::delete(PATH).body(|body| body["preconditions"]["uid"] == "uid-1");
    server.expect(call(), Reply::ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
    server.expect(call(), Reply::not_found());
    let (writer, resource) = (writer(&server), ApiResource::erase::<ConfigMap>(&()));
    assert_eq!(writer.delete(&resource, &stored("a", "2")).await.expect("gone"), Outcome::Deleted);
    assert_eq!(writer.delete(&resource, &stored("a", "2")).await.expect("gone"), Outcome::Unchanged);
    server.finish();
}

#[tokio::test]
async fn events_are_written_once_and_counted() {
    let server = ApiServer::new();
    let call = Call::post("/apis/events.k8s.io/v1/namespaces/zen-mesh/events");
    let call = call.body(|body| body["reason"] == "Foreign" && body["reportingInstance"] == "zen-operator-0");
    server.expect(call, Reply::stored());
    let metrics = Metrics::default();
    let writer = Writer::new(server.client(), Leadership::unguarded(), "zen-operator-0", metrics.clone());
    let regarding = ObjectReference { namespace: Some("zen-mesh".to_owned()), ..ObjectReference::default() };
    let notice = Notice { warning: true, reason: "Foreign", action: "Reconcile", note: "in the way" };
    for _ in 0..3 {
        writer.event(&regarding, &notice).await.expect("said");
    }
    let mut registry = prometheus_client::registry::Registry::with_prefix("zen_operator");
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert_eq!(zen_runtime::metrics::problems(&text), Vec::<String>::new());
    let count = |outcome| zen_runtime::metrics::value(&text, "zen_operator_writes_total", &[("outcome", outcome)]);
    assert_eq!((count("Created"), count("Unchanged")), (Some(1.0), Some(2.0)));
    server.finish();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_expired_is_made_again_and_one_that_failed_is_tried_again() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/zen-mesh/events";
    let server = ApiServer::new();
    server.expect(Call::post(EVENTS), Reply::unavailable());
    server.expect(Call::post(EVENTS), Reply::stored());
    let writer = writer(&server);
    let text = |text: &str| Some(text.to_owned());
    let regarding =
        ObjectReference { namespace: text("zen-mesh"), name: text("zen-mesh-workloads"), ..ObjectReference::default() };
    let notice = Notice { warning: true, reason: "Foreign", action: "Reconcile", note: "in the way" };
    assert!(matches!(writer.event(&regarding, &notice).await, Err(Error::Unavailable(_))));
    assert_eq!(writer.event(&regarding, &notice).await.expect("said"), Outcome::Created);
    assert_eq!(writer.event(&regarding, &notice).await.expect("said already"), Outcome::Unchanged);
    // Hours later.
    let name = |call: zen_testkit::api_server::Received| call.body["metadata"]["name"].as_str().map(str::to_owned);
    let name = server.received().pop().and_then(name).expect("a name");
    server.expect(Call::patch(&format!("{EVENTS}/{name}")), Reply::not_found());
    server.expect(Call::post(EVENTS), Reply::stored());
    time::advance(Duration::from_hours(3)).await;
    assert_eq!(writer.event(&regarding, &notice).await.expect("said again"), Outcome::Created);
    assert_eq!(writer.event(&regarding, &notice).await.expect("said already"), Outcome::Unchanged);
    server.finish();
}

/// K-02: the lease is given back after it, so that no write of a former leader comes after the first of the next one.
#[tokio::test(start_paused = true)]
async fn a_write_on_its_way_is_waited_for_though_its_caller_is_gone() {
    let server = ApiServer::new();
    server.expect(Call::patch(PATH), Reply::never());
    let writer = writer(&server);
    let applies = writer.clone();
    let caller = tokio::spawn(async move { applies.apply(&wanted("b"), Some(&stored("a", "2"))).await });
    server.done().await;
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    let start = time::Instant::now();
    writer.ended().await;
    assert_eq!(start.elapsed(), WRITE);
    let start = time::Instant::now();
    writer.ended().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    server.finish();
}
