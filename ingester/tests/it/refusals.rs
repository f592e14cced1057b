//! Every refusal of the table, over a real connection: status, code, `Retry-After`, request id, and nothing stored (W-02,
//! And their order: the first check that fails is the one that answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zen_ingester::Limits;
use zen_model::observe::Observation;
use zen_model::{Refusal, Timestamp};
use zen_queue::{CommitError, Fault, QuotaScope};

use crate::kit::{Answer, Intake, TOKEN, bearer, post, signed};

fn check(answer: &Answer, reason: Refusal) {
    let row = reason.row();
    assert_eq!((answer.status, answer.code().as_str()), (row.status, row.code), "{answer:?}");
    let retry_after = answer.header("retry-after").map(|seconds| seconds.parse().unwrap());
    assert_eq!(retry_after, reason.retry_after(), "{reason:?}");
    let body = answer.json();
    let fields: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["code", "message", "request_id"]);
    assert_eq!(answer.header("x-request-id"), body["request_id"].as_str());
    assert!(!String::from_utf8_lossy(&answer.body).contains(TOKEN));
}

fn webhooks() -> Vec<(&'static str, Value)> {
    let github = json!({
        "verification": {"provider": "github", "secrets": [{"secretRef": {"name": "s", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    let stripe = json!({
        "verification": {"provider": "stripe", "secrets": [{"secretRef": {"name": "s", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    let linear = json!({
        "verification": {"provider": "linear", "secrets": [{"secretRef": {"name": "s", "key": "token"}}]},
        "routes": [{"destinations": [{"name": "ci"}]}],
    });
    vec![
        ("hook", bearer(&json!({}))),
        ("json", bearer(&json!({"contentTypes": ["application/json"], "limits": {"body": "10"}}))),
        ("elsewhere", bearer(&json!({"limits": {"sources": ["192.0.2.0/24"]}}))),
        ("off", bearer(&json!({"active": false}))),
        (
            "broken",
            json!({
                "verification": {"provider": "bearer", "secrets": [{"secretRef": {"name": "missing", "key": "token"}}]},
                "routes": [{"destinations": [{"name": "ci"}]}],
            }),
        ),
        ("github", github),
        ("stripe", stripe),
        ("linear", linear),
    ]
}

/// One row for each refusal but those of the connection, which stand in `hygiene`.
#[tokio::test]
async fn each_refusal_has_its_status_and_code_and_stores_nothing() {
    let intake = Intake::with(&webhooks(), Limits { body_budget: 100_000, ..Limits::default() });
    let mut shown = BTreeSet::from([Refusal::BadRequest, Refusal::HeadersTooLarge, Refusal::RequestTimeout]);
    let mut row = |answer: &Answer, reason: Refusal| {
        check(answer, reason);
        shown.insert(reason);
    };
    let good = format!("authorization: Bearer {TOKEN}");
    let good = good.as_str();
    row(&intake.good("/a/none", &[], b"x").await, Refusal::UnknownPath);
    let get = b"GET /a/hook HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    row(&intake.talk(get).await[0], Refusal::MethodNotAllowed);
    let large = intake.good("/a/json", &["content-type: application/json"], b"12345678901").await;
    assert!(large.json()["message"].as_str().unwrap().contains("10 bytes"), "413 names the limit: {large:?}");
    row(&large, Refusal::BodyTooLarge);
    row(&intake.good("/a/json", &["content-type: text/plain"], b"x").await, Refusal::UnsupportedMediaType);
    row(&intake.good("/a/json", &[], b"x").await, Refusal::UnsupportedMediaType);
    row(&intake.good("/a/elsewhere", &[], b"x").await, Refusal::SourceNotAllowed);
    row(&intake.good("/a/off", &[], b"x").await, Refusal::Inactive);
    row(&intake.good("/a/broken", &[], b"x").await, Refusal::NotConfigured);
    row(&intake.post("/a/hook", &[], b"x").await, Refusal::Unauthenticated);
    row(&intake.post("/a/hook", &["authorization: Bearer wrong"], b"x").await, Refusal::Unauthenticated);
    row(&intake.post("/a/hook", &[good, good], b"x").await, Refusal::Unauthenticated);
    row(&stale(&intake).await, Refusal::Stale);
    row(&provider(&intake, "linear", Some(b"[]"), Timestamp::now()).await, Refusal::MalformedBody);
    row(&intake.good("/a/hook", &[], &vec![b'x'; 100_001]).await, Refusal::Overloaded);
    for (error, reason) in [
        (CommitError::Full { scope: QuotaScope::Global }, Refusal::QuotaExceeded),
        (CommitError::Overloaded, Refusal::Overloaded),
        (CommitError::Unavailable(Fault::DiskFull), Refusal::QueueUnavailable),
        (CommitError::Unavailable(Fault::Closed), Refusal::Draining),
    ] {
        intake.queue.with(|state| state.refuse_admit = Some(error.clone()));
        row(&intake.good("/a/hook", &[], b"x").await, reason);
        intake.queue.with(|state| (state.refuse_admit, state.refuse_commit) = (None, Some(error)));
        row(&intake.good("/a/hook", &[], b"x").await, reason);
    }
    assert_eq!(intake.queue.events().len(), 0, "a refusal stores nothing");
    intake.queue.with(|state| state.refuse_commit = None);
    assert_eq!(intake.good("/a/hook", &[], b"x").await.status, 202, "and burns nothing");
    assert_eq!(shown, Refusal::ALL.into_iter().collect());
    assert_eq!(intake.ingester.body_bytes_in_flight(), 0, "every share came back");
    let metrics = intake.metrics();
    assert!(metrics.contains("zen_ingester_refusals_total{code=\"Unauthenticated\"} 3"), "{metrics}");
    let seen = intake.seen.0.lock().unwrap();
    let refused = |key: &str| {
        let named =
            |o: &&Observation| matches!(o, Observation::Refused { webhook: Some(w), .. } if w.to_string() == key);
        seen.iter().filter(named).count()
    };
    assert_eq!((refused("a/json"), refused("a/off")), (3, 1));
}

/// A Stripe request that was signed an hour ago.
async fn stale(intake: &Intake) -> Answer {
    provider(intake, "stripe", None, Timestamp(Timestamp::now().0 - 3_600_000)).await
}

/// A request that a provider signed at this time, to the Webhook of its name.
async fn provider(intake: &Intake, name: &str, body: Option<&'static [u8]>, at: Timestamp) -> Answer {
    let (headers, body) = signed(name, body, at);
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    intake.post(&format!("/a/{name}"), &headers, &body).await
}

/// Requests that fail two checks: the earlier one answers.
#[tokio::test]
async fn checks_come_in_their_order() {
    let intake = Intake::with(&webhooks(), Limits::default());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").into_bytes();
    let large = post("/a/json", &["content-type: text/plain", "connection: close"], b"12345678901");
    let typed = post("/a/json", &["content-type: text/plain", "connection: close"], b"x");
    for (what, request, reason) in [
        ("path before method", get("/a/none"), Refusal::UnknownPath),
        ("method before serving state", get("/a/off"), Refusal::MethodNotAllowed),
        ("state before signature", post("/a/off", &["connection: close"], b"x"), Refusal::Inactive),
        ("size before content type and signature", large, Refusal::BodyTooLarge),
        ("content type before signature", typed, Refusal::UnsupportedMediaType),
        ("source before signature", post("/a/elsewhere", &["connection: close"], b"x"), Refusal::SourceNotAllowed),
    ] {
        let answers = intake.talk(&request).await;
        assert_eq!(answers[0].code(), reason.code(), "{what}");
    }
    intake.queue.with(|state| state.refuse_admit = Some(CommitError::Full { scope: QuotaScope::Global }));
    assert_eq!(intake.post("/a/hook", &[], b"x").await.code(), "QuotaExceeded", "quota before signature");
    intake.queue.with(|state| {
        state.refuse_admit = None;
        state.refuse_commit = Some(CommitError::Overloaded);
    });
    assert_eq!(intake.post("/a/hook", &[], b"x").await.code(), "Unauthenticated", "signature before commit");
}

/// Under chunked coding the size is found out while reading: same answer, nothing truncated.
#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_and_never_cut() {
    let intake = Intake::with(&webhooks(), Limits::default());
    let chunks = "5\r\n12345\r\n".repeat(3);
    let request = format!(
        "POST /a/json HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let answers = intake.talk(request.as_bytes()).await;
    check(&answers[0], Refusal::BodyTooLarge);
    assert_eq!(intake.queue.events().len(), 0);
}
