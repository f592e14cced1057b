//! Slack's challenge, and that samples are events of their own.

use std::collections::BTreeSet;

use http::Method;
use zen_verify::{Request, Source, Verifier, presets, reference_markdown};

use crate::fixture::{Delivery, NOW, accepts, config, ways};

/// W-04: answered with what was asked, and only where the preset has it.
#[test]
fn slack_challenge() {
    let body = r#"{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let slack = config("slack", &["8f742231b10e8888abcd99yyyzzz85a5"]);
    let delivery = Delivery::signed(&slack, Some(body.into()), NOW);
    assert_eq!(accepts(&slack, &delivery), 0);
    let request = Request {
        method: &Method::POST,
        host: &delivery.host,
        path_and_query: &delivery.path_and_query,
        headers: &delivery.headers,
        body: &delivery.body,
    };
    let answer = Verifier::compile(slack).expect("compiles").challenge(&request).expect("a challenge");
    assert_eq!((answer.status, answer.content_type), (200, "text/plain; charset=utf-8"));
    assert_eq!(answer.body, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    let github = Verifier::compile(config("github", &["s"])).expect("compiles");
    assert_eq!(github.challenge(&request), None);
}

/// A sample is a request of its preset in every respect: content type, event id, and no two alike.
#[test]
fn samples() {
    for way in ways().into_iter().filter(|way| way.body.is_none()) {
        let preset = way.signing(0).preset;
        let mut bodies = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for nth in 0..20 {
            let sample = zen_verify::sign(&way.signing(0), crate::fixture::URL, None, nth, NOW).expect("signs");
            let content_type = sample.headers["content-type"].to_str().expect("text");
            let essence = content_type.split(';').next().expect("one");
            assert!(preset.content_types.is_empty() || preset.content_types.contains(&essence), "{}", way.name);
            let json: Option<serde_json::Value> = serde_json::from_slice(&sample.body).ok();
            assert_eq!(json.is_some(), essence == "application/json", "{}", way.name);
            assert!(!String::from_utf8_lossy(&sample.body).contains('$'), "{}: a placeholder is left", way.name);
            let find = |source: &Source| match source {
                Source::Header(name) => sample.headers.get(name.as_ref()).map(|value| format!("{value:?}")),
                Source::Headers(names) => {
                    names.iter().find_map(|name| sample.headers.get(*name)).map(|value| format!("{value:?}"))
                }
                Source::Pointer(at) => json.as_ref().and_then(|json| json.pointer(at)).map(ToString::to_string),
                Source::Form(name) => Some(name.to_string()),
                Source::Value(value) => Some(value.to_string()),
            };
            for source in [&preset.event.r#type, &preset.event.id].into_iter().flatten() {
                assert!(find(source).is_some(), "{}: the sample lacks {source:?}", way.name);
            }
            if let Some(source) = &preset.idempotency {
                assert!(ids.insert(find(source).expect("a key")), "{}: one key twice", way.name);
            }
            assert!(bodies.insert(sample.body), "{}: one body twice", way.name);
        }
    }
}

/// Git names commits by SHA-1: whoever parses them gets what the provider sends, however many are sent.
#[test]
fn commits_are_forty_digits() {
    let places: [(&str, &[&str]); 3] = [
        ("github", &["/before", "/after", "/head_commit/id"]),
        ("gitlab", &["/checkout_sha", "/commits/0/id"]),
        ("bitbucket", &["/push/changes/0/new/target/hash"]),
    ];
    for (preset, pointers) in places {
        for nth in [0, 7, 12_345, u64::MAX] {
            let sample = zen_verify::sign(&config(preset, &["s"]), crate::fixture::URL, None, nth, NOW).expect("signs");
            let json: serde_json::Value = serde_json::from_slice(&sample.body).expect("JSON");
            for pointer in pointers {
                let commit = json.pointer(pointer).and_then(|commit| commit.as_str()).expect(pointer);
                assert!(
                    commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()),
                    "{preset}{pointer}: {commit}"
                );
            }
        }
    }
}

/// The page is generated from the table, so it names every preset.
#[test]
fn reference_page() {
    let page = reference_markdown();
    for preset in presets() {
        assert!(page.contains(&format!("\n## {}\n", preset.name)), "{}", preset.name);
        assert!(page.contains(preset.docs), "{}", preset.name);
    }
    assert!(!page.contains("{{") && page.ends_with('\n') && !page.contains("  \n"));
}
