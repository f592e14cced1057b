//! nothing that can be printed shows a secret.

use zen_verify::{Request, Verifier, sign};

use crate::fixture::{HOST, NOW, URL, config, ways};

#[test]
fn debug_shows_no_secret() {
    for way in ways() {
        let config = way.verifying(&[0, 1]);
        let secrets: Vec<_> = config.secrets.iter().map(|secret| secret.secret.expose().to_vec()).collect();
        let shown = format!("{config:?}{:#?}", Verifier::compile(config.clone()).expect("compiles"));
        for secret in secrets {
            let secret = String::from_utf8(secret).expect("text");
            assert!(!shown.contains(&secret), "{}", way.name);
            let encodings = [hex::encode(&secret), format!("{:?}", secret.as_bytes())];
            assert!(!encodings.iter().any(|text| shown.contains(text)), "{}", way.name);
        }
    }
}

/// Errors of compile and sign go into conditions.
#[test]
fn errors_show_no_secret() {
    let marker = "MARKER-of-a-secret";
    let bad = [
        config("standard-webhooks", &[&format!("whsec_{marker}!")]),
        config("basic", &[marker]),
        config("bearer", &[&format!("{marker}\n")]),
        config("gitlab", &[&format!("{marker}\r\n")]),
    ];
    for config in bad {
        let errors = [
            Verifier::compile(config.clone()).expect_err("refused"),
            sign(&config, URL, None, 0, NOW).expect_err("refused"),
        ];
        for error in errors {
            assert!(!format!("{error} {error:?}").contains("MARKER"), "{error}");
            assert!(error.message.contains("hook/key0"), "{error}");
        }
    }
}

/// Nor do requests show what proves them, or what they carry.
#[test]
fn debug_shows_no_proof_and_no_payload() {
    for way in ways() {
        let sample = sign(&way.signing(0), URL, Some("MARKER".into()), 0, NOW).expect("signs");
        let request = Request {
            method: &http::Method::POST,
            host: HOST,
            path_and_query: &sample.path_and_query,
            headers: &sample.headers,
            body: &sample.body,
        };
        let shown = format!("{sample:?} {request:?}");
        assert!(!shown.contains("MARKER") && !shown.contains("horse"), "{}", way.name);
        let carried = sample.headers.get(way.carrier).map(|value| String::from_utf8_lossy(value.as_bytes()));
        assert!(carried.is_none_or(|value| !shown.contains(&*value)), "{}", way.name);
        assert!(sample.headers.get(way.carrier).is_none_or(http::HeaderValue::is_sensitive), "{}", way.name);
    }
}

/// What carries a secret or a signature is named, so that it is neither stored nor forwarded.
#[test]
fn carriers_are_named() {
    for way in ways() {
        let verifier = Verifier::compile(way.verifying(&[0])).expect("compiles");
        let named = verifier.secret_headers().iter().any(|name| name.as_str() == way.carrier);
        assert!(named || verifier.secret_query() == Some("key"), "{}", way.name);
    }
}
