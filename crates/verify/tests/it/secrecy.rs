//! nothing that can be printed shows a secret.

use zen_verify::{Verifier, sign};

use crate::fixture::{NOW, URL, config, ways};

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

/// What carries a secret or a signature is named, so that it is neither stored nor forwarded.
#[test]
fn carriers_are_named() {
    for way in ways() {
        let verifier = Verifier::compile(way.verifying(&[0])).expect("compiles");
        let named = verifier.secret_headers().iter().any(|name| name.as_str() == way.carrier);
        assert!(named || verifier.secret_query() == Some("key"), "{}", way.name);
    }
}
