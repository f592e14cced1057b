use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zen_compile::{Address, Destination, Format, Target};
use zen_deliver::{AttemptResult, Deliverer, Prepared, StaticResolver};
use zen_model::{Event, ObjectKey, Secret, Timestamp, breaker, retry};
use zen_testkit::{TestCa, Upstream};
use zen_verify::zen_signature::Keys;

pub const NOW: Timestamp = Timestamp(1_700_000_000_123);

/// A Destination for this host and port, loopback allowed.
pub fn destination(tls: bool, host: &str, port: u16) -> Destination {
    Destination {
        key: ObjectKey::new("team-a", "ci"),
        revision: 1,
        mode: zen_compile::DeliveryMode::Egress,
        cluster: None,
        paused: false,
        target: Target::Url { tls, host: host.into(), port, path_and_query: "/hooks?x=1".into() },
        allow_from: Vec::new(),
        tls: None,
        server_name: host.into(),
        authentication: None,
        signing: Vec::new(),
        forward: Vec::new(),
        set: Vec::new(),
        format: Format::Raw,
        idempotent: true,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(30),
        max_response: 64 * 1024,
        concurrency: 64,
        transient: retry::Policy::TRANSIENT,
        throttled: retry::Policy::THROTTLED,
        breaker: breaker::Settings::default(),
        allow_cidrs: vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")],
        dead_letter_retention: Duration::from_hours(336),
    }
}

pub fn plain(upstream: &Upstream) -> Destination {
    destination(false, "127.0.0.1", upstream.address().port())
}

pub fn secure(upstream: &Upstream, ca: &TestCa) -> Destination {
    Destination {
        tls: Some(ca.client()),
        server_name: "localhost".into(),
        ..destination(true, "127.0.0.1", upstream.address().port())
    }
}

pub fn service(addresses: &[SocketAddr]) -> Destination {
    let target = Target::Service {
        tls: false,
        host: "ci.team-a.svc".into(),
        port: 80,
        addresses: addresses.iter().map(|socket| Address { socket: *socket, trusted: true }).collect(),
        path_and_query: "/".into(),
    };
    Destination { target, allow_cidrs: Vec::new(), ..destination(false, "", 80) }
}

pub fn keys() -> Arc<Keys> {
    Arc::new(Keys::new(vec![("k1".into(), Secret::new(*b"0123456789abcdef0123456789abcdef"))]).expect("a key ring"))
}

pub fn prepare(destination: Destination) -> Prepared {
    Prepared::new(Arc::new(destination), keys()).expect("a destination that can be prepared")
}

pub fn deliverer() -> Deliverer {
    Deliverer::new(Arc::new(StaticResolver::default()))
}

pub fn event() -> Event {
    let body = Bytes::from_static(br#"{"zen": "mesh"}"#);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
    Event {
        id: "evt-1".into(),
        namespace: "team-a".into(),
        webhook: "github".into(),
        r#type: "push".into(),
        source: "https://github.com/acme".into(),
        time: NOW.0,
        content_type: "application/json".into(),
        request_id: "req-1".into(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        content_hash: Bytes::copy_from_slice(hash.as_ref()),
        body,
        ..Event::default()
    }
}

/// One attempt on a connection of its own.
pub async fn attempt(destination: Destination) -> AttemptResult {
    deliverer().attempt(&prepare(destination), &event(), NOW).await
}
