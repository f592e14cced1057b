//! What a delivery carries (API.md, D-08, D-09, W-11, W-12).

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zen_compile::{Destination, Format};
use zen_model::event::Header;
use zen_model::{Event, Secret};
use zen_testkit::{Received, Upstream};

use crate::fixture::{NOW, deliverer, event, keys, plain, prepare};

async fn deliver(change: impl FnOnce(Destination) -> Destination, event: &Event) -> Received {
    let upstream = Upstream::http().await;
    let prepared = prepare(change(plain(&upstream)));
    deliverer().attempt(&prepared, event, NOW).await;
    upstream.wait_for(1).await.remove(0)
}

fn header(name: &str, value: &'static [u8]) -> Header {
    Header { name: name.into(), value: Bytes::from_static(value) }
}

#[tokio::test]
async fn binary_mode_carries_the_body_byte_for_byte_and_its_attributes() {
    let event = Event {
        r#type: "Grüße \"%\"".into(),
        extensions: vec![header("subject", b"a b"), header("id", b"forged")],
        ..event()
    };
    let request = deliver(|destination| destination, &event).await;
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hooks?x=1"));
    assert_eq!(request.body, event.body);
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "evt-1"),
        ("ce-type", "Gr%C3%BC%C3%9Fe%20%22%25%22"),
        ("ce-source", "https://github.com/acme"),
        ("ce-time", "2023-11-14T22:13:20.123Z"),
        ("ce-subject", "a%20b"),
        ("content-type", "application/json"),
        ("content-length", "15"),
        ("x-request-id", "req-1"),
        ("traceparent", event.traceparent.as_str()),
        ("user-agent", concat!("zen-mesh/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value), "{name}");
        assert_eq!(request.count(name), 1, "{name}");
    }
    assert!(request.header("webhook-signature").is_none(), "signing is not set");
}

#[tokio::test]
async fn x_zen_signature_verifies_with_the_targets_key() {
    for format in [Format::Raw, Format::Structured] {
        let request = deliver(|destination| Destination { format, ..destination }, &event()).await;
        let hash = digest::digest(&digest::SHA256, &request.body);
        let signature = request.header("x-zen-signature").expect("signed");
        keys().verify(signature, "evt-1", hash.as_ref(), NOW, Duration::from_mins(5)).expect("verifies");
    }
}

#[tokio::test]
async fn standard_webhooks_signatures_cover_what_is_sent_with_every_key() {
    let secrets: [&[u8]; 2] = [b"the newer secret of the target", b"the older secret of the target"];
    for format in [Format::Raw, Format::Structured] {
        let signing = secrets.map(Secret::new).to_vec();
        let request = deliver(|destination| Destination { format, signing, ..destination }, &event()).await;
        let (id, timestamp) =
            (request.header("webhook-id").expect("id"), request.header("webhook-timestamp").expect("t"));
        assert_eq!((id, timestamp), ("evt-1", "1700000000"));
        let mut content = format!("{id}.{timestamp}.").into_bytes();
        content.extend_from_slice(&request.body);
        let expected = secrets.map(|secret| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &content);
            format!("v1,{}", STANDARD.encode(tag))
        });
        assert_eq!(request.header("webhook-signature"), Some(expected.join(" ").as_str()));
    }
}

#[tokio::test]
async fn structured_mode_sends_one_json_object() {
    let with_encoding = Event { headers: vec![header("content-encoding", b"gzip")], ..event() };
    let request =
        deliver(|destination| Destination { format: Format::Structured, ..destination }, &with_encoding).await;
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    assert!(request.header("content-encoding").is_none() && request.header("ce-id").is_none());
    let json: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(json["id"], "evt-1");
    assert_eq!(json["contentencoding"], "gzip");
}

#[tokio::test]
async fn headers_pass_by_the_allow_list_only() {
    let name = HeaderName::from_static;
    let event = Event {
        headers: vec![
            header("x-github-event", b"push"),
            header("x-github-event", b"again"),
            header("x-not-listed", b"1"),
            header("content-encoding", b"identity"),
            header("authorization", b"Bearer MARKER"),
            header("cookie", b"MARKER"),
            header("transfer-encoding", b"chunked"),
            header("x-env", b"forged"),
            header("host", b"forged"),
            header("ce-id", b"forged"),
            header("x-broken", b"a\r\nb: c"),
        ],
        ..event()
    };
    let forward =
        ["x-github-event", "authorization", "cookie", "transfer-encoding", "x-env", "host", "ce-id", "x-broken"];
    let change = |destination| Destination {
        forward: forward.map(name).to_vec(),
        set: vec![
            (name("x-env"), HeaderValue::from_static("prod")),
            (name("transfer-encoding"), HeaderValue::from_static("chunked")),
        ],
        authentication: Some((name("authorization"), HeaderValue::from_static("Bearer ours"))),
        ..destination
    };
    let request = deliver(change, &event).await;
    assert_eq!(request.count("x-github-event"), 2);
    assert_eq!(request.header("content-encoding"), Some("identity"), "a safe default");
    for absent in ["x-not-listed", "cookie", "transfer-encoding", "x-broken", "b"] {
        assert!(request.header(absent).is_none(), "{absent}");
    }
    assert_eq!((request.header("x-env"), request.count("x-env")), (Some("prod"), 1));
    assert_eq!((request.header("authorization"), request.count("authorization")), (Some("Bearer ours"), 1));
    assert_eq!((request.header("ce-id"), request.count("ce-id")), (Some("evt-1"), 1));
    assert!(request.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")) && request.count("host") == 1);
}

#[tokio::test]
async fn an_empty_body_has_its_length_and_odd_ids_cannot_split_headers() {
    let hash = digest::digest(&digest::SHA256, b"");
    let event = Event {
        id: "a\r\nx-evil: 1\0é".into(),
        request_id: "r\nx-evil: 1".into(),
        content_type: "text/\nx".into(),
        content_hash: Bytes::copy_from_slice(hash.as_ref()),
        body: Bytes::new(),
        ..event()
    };
    let request = deliver(|d| Destination { signing: vec![Secret::new(*b"k")], ..d }, &event).await;
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("ce-id"), Some("a%0D%0Ax-evil:%201%00%C3%A9"));
    assert_eq!(request.header("webhook-id"), request.header("ce-id"));
    assert!(request.header("x-evil").is_none() && request.header("content-type").is_none());
}

#[test]
fn nothing_secret_is_in_debug_output() {
    // A-06, the part of this crate.
    let destination = Destination {
        signing: vec![Secret::new("MARKER")],
        authentication: Some((HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer MARKER"))),
        ..crate::fixture::destination(false, "127.0.0.1", 1)
    };
    assert!(!format!("{:?}", prepare(destination)).contains("MARKER"));
}
