//! What a Webhook becomes: defaults, routes, secrets, places (W-01, W-05, W-07, W-13).

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use zen_compile::select::Facts;
use zen_compile::{Serving, compile};
use zen_model::{ObjectKey, ObjectReason};
use zen_verify::Source;

use crate::{own, reasons, secret, standalone, verdict, webhook};

fn github(rest: &str) -> String {
    own(
        "Webhook",
        "github",
        &format!("{{verification: {{provider: github, secrets: [{{secretRef: {{name: s, key: k}}}}]}}{rest}}}"),
    ) + &secret("s", "{k: secret}")
        + &own("Destination", "ci", "{target: {url: \"https://ci.example/\"}}")
}

const ROUTED: &str = ", routes: [{destinations: [{name: ci}]}]";

#[test]
fn defaults_come_from_the_preset() {
    let compiled = standalone(&github(ROUTED));
    let webhook = webhook(&compiled, "github");
    assert!(matches!(webhook.serving, Serving::Active(_)));
    assert_eq!((webhook.path.as_str(), webhook.max_body, webhook.provider), ("/team-a/github", 1 << 20, "github"));
    assert_eq!(webhook.event_type, Some(Source::Header("x-github-event".into())));
    assert_eq!(webhook.idempotency, Some((Source::Header("x-github-delivery".into()), Duration::from_hours(24))));
    assert_eq!(webhook.secret_labels, ["s/k"]);
    assert!(!webhook.needs_json && webhook.unconditional.is_some());
    assert!(verdict(&compiled, "Webhook team-a/github").accepted());
    assert!(compiled.snapshot.webhook("any.example", "/team-a/github").is_some());
    assert!(compiled.snapshot.webhook("any.example", "/team-a/github/").is_none());
}

#[test]
fn an_inactive_webhook_keeps_its_place() {
    let compiled = standalone(&github(&format!(", active: false{ROUTED}")));
    let served = compiled.snapshot.webhook("h", "/team-a/github").expect("routed");
    assert!(matches!(served.serving, Serving::Inactive));
    assert!(verdict(&compiled, "Webhook team-a/github").accepted());
}

#[test]
fn one_good_secret_serves_and_the_missing_one_is_reported() {
    let two = "{verification: {provider: github, secrets: [{secretRef: {name: next, key: k}}, {secretRef: {name: s, key: k}}]}, routes: [{destinations: [{name: ci}]}]}";
    let text = own("Webhook", "github", two)
        + &secret("s", "{k: secret}")
        + &own("Destination", "ci", "{target: {url: \"https://ci.example/\"}}");
    let compiled = standalone(&text);
    assert!(matches!(webhook(&compiled, "github").serving, Serving::Active(_)));
    assert_eq!(webhook(&compiled, "github").secret_labels, ["s/k"]);
    let verdict_ = verdict(&compiled, "Webhook team-a/github");
    assert!(verdict_.serving && !verdict_.accepted());
    assert_eq!(reasons(verdict_), [("spec.verification.secrets[0].secretRef.name", ObjectReason::RefNotFound)]);

    let compiled = standalone(&(text + &secret("next", "{k: ''}")));
    assert!(matches!(webhook(&compiled, "github").serving, Serving::Active(_)));
    let empty = [("spec.verification.secrets[0].secretRef.key", ObjectReason::EmptySecret)];
    assert_eq!(reasons(verdict(&compiled, "Webhook team-a/github")), empty);
}

#[test]
fn without_any_secret_it_refuses_and_the_others_go_on() {
    let broken = "{verification: {provider: stripe, secrets: [{secretRef: {name: none, key: k}}]}, routes: [{destinations: [{name: ci}]}]}";
    let compiled = standalone(&(github(ROUTED) + &own("Webhook", "stripe", broken)));
    assert!(matches!(webhook(&compiled, "stripe").serving, Serving::Invalid(ObjectReason::RefNotFound)));
    assert!(compiled.snapshot.webhook("h", "/team-a/stripe").is_some(), "its place answers NotConfigured");
    assert!(matches!(webhook(&compiled, "github").serving, Serving::Active(_)));
}

#[test]
fn what_is_not_built_is_not_served() {
    let compiled = standalone(&github(&format!(", limits: {{rate: {{requests: 5}}}}{ROUTED}")));
    assert!(matches!(webhook(&compiled, "github").serving, Serving::Invalid(ObjectReason::NotSupported)));
}

#[test]
fn one_that_the_reader_refused_keeps_its_place_too() {
    let (objects, findings) = zen_live::testing::objects(&github(&format!(", path: /team-a/x, activ: true{ROUTED}")));
    assert_eq!(findings.len(), 1);
    let compiled = compile(&objects, None, zen_compile::Mode::Standalone);
    let served = compiled.snapshot.webhook("h", "/team-a/x").expect("routed");
    assert!(matches!(served.serving, Serving::Invalid(ObjectReason::UnknownField)));
}

#[test]
fn routes_with_conditions_choose_and_need_json_only_for_pointers() {
    let routes = ", routes: [{match: [{eventType: [push]}, {pointer: /repository/full_name, in: [acme/shop]}], destinations: [{name: ci}]},
        {match: [{header: X-Kind, exists: true}], destinations: [{name: ci}, {name: audit}]}]";
    let text = github(routes)
        + &own(
            "Destination",
            "audit",
            "{target: {url: \"https://audit.example/\"}, headers: {forward: [X-Kind, X-Hub-Signature-256]}}",
        );
    let compiled = standalone(&text);
    let webhook = webhook(&compiled, "github");
    assert!(webhook.needs_json && webhook.unconditional.is_none());
    let json = serde_json::json!({"repository": {"full_name": "acme/shop"}});
    let mut headers = HeaderMap::new();
    let chosen = |headers: &HeaderMap, event: &str| {
        let facts = Facts { headers, json: Some(&json), body: b"" };
        webhook.select(event, facts).iter().map(|key| key.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&headers, "push"), ["ci"]);
    assert!(chosen(&headers, "ping").is_empty());
    headers.insert("x-kind", HeaderValue::from_static("1"));
    assert_eq!(chosen(&headers, "push"), ["ci", "audit"]);
    let kept: Vec<_> = webhook.kept_headers.iter().map(http::HeaderName::as_str).collect();
    assert_eq!(kept, ["content-encoding", "content-language", "tracestate", "x-kind"], "never the signature");
}

#[test]
fn a_missing_destination_of_its_own_waits_and_a_foreign_one_gets_nothing() {
    let routes = ", routes: [{destinations: [{name: later}, {name: audit, namespace: security}]}]";
    let compiled = standalone(&github(routes));
    assert_eq!(webhook(&compiled, "github").routes[0].destinations, [ObjectKey::new("team-a", "later")]);
    assert!(verdict(&compiled, "Webhook team-a/github").serving);
}

#[test]
fn a_host_comes_before_any_host() {
    let named = own("Webhook", "named", "{hosts: [A.example], path: /team-a/github, verification: {provider: none}}");
    let (objects_, _) = zen_live::testing::objects(&(github(ROUTED) + &named.replace("A.example", "a.example")));
    let compiled = compile(&objects_, None, zen_compile::Mode::Standalone);
    let at = |host: &str| compiled.snapshot.webhook(host, "/team-a/github").map(|webhook| webhook.key.name.to_string());
    assert_eq!(at("a.example").as_deref(), Some("named"));
    assert_eq!(at("b.example").as_deref(), Some("github"));
}
