//! Configurations that are refused before a request comes: reason and field, and never the secret (W-05, A-06).

use zen_model::ObjectReason::{self, BadSecret, EmptySecret, Invalid, NotSupported};
use zen_verify::{Algorithm, ApiKey, Config, Encoding, Generic, TimestampFormat, Verifier, presets, sign};

use crate::fixture::{Delivery, NOW, URL, accepts, config, ways};

#[track_caller]
fn refuses(config: Config, reason: ObjectReason, field: &str) {
    let error = Verifier::compile(config).expect_err("must be refused");
    assert_eq!((error.reason, error.field.as_str()), (reason, field), "{error}");
}

#[test]
fn no_secret_and_empty_secret() {
    for preset in presets().iter().filter(|preset| preset.needs_secret()) {
        let name = preset.name;
        let full = |secrets: &[&str]| Config {
            generic: (name == "generic").then(|| generic("{body}")),
            api_key: Some(ApiKey::Header("x-api-key".into())),
            ..config(name, secrets)
        };
        refuses(full(&[]), EmptySecret, "secrets");
        for empty in ["", " ", "\n"] {
            refuses(full(&[empty]), EmptySecret, "secrets[0]");
            refuses(full(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", empty]), EmptySecret, "secrets[1]");
        }
    }
}

#[test]
fn secrets_of_the_wrong_form() {
    for (name, secret, reason) in [
        ("standard-webhooks", "whsec_", EmptySecret),
        ("standard-webhooks", "whsec_not base64!", BadSecret),
        ("standard-webhooks", "whpk_AAAA", BadSecret),
        ("standard-webhooks", "whsk_AAAA", BadSecret),
        ("gitlab", "whsec_%", BadSecret),
        ("gitlab", "token\n", BadSecret),
        ("bearer", "token\n", BadSecret),
        ("bearer", " token", BadSecret),
        ("basic", "no-colon", BadSecret),
        ("basic", ":password", BadSecret),
        ("basic", "user:", BadSecret),
    ] {
        refuses(config(name, &[secret]), reason, "secrets[0]");
    }
    for way in ways().into_iter().filter(|way| way.name.ends_with("ed25519") || way.name.ends_with("p256")) {
        refuses(way.signing(0), BadSecret, "secrets[0]");
        let mut config = way.verifying(&[0]);
        let swapped = match config.generic.as_ref().expect("generic").algorithm {
            Algorithm::Ed25519 => Algorithm::EcdsaP256Sha256,
            _ => Algorithm::Ed25519,
        };
        config.generic.as_mut().expect("generic").algorithm = swapped;
        refuses(config, BadSecret, "secrets[0]");
    }
}

#[test]
fn a_public_key_signs_nothing() {
    for way in ways().into_iter().filter(|way| ["standard v1a", "generic ed25519", "generic p256"].contains(&way.name))
    {
        let error = sign(&way.verifying(&[0]), URL, None, 1, NOW).expect_err("must be refused");
        assert_eq!(error.reason, BadSecret);
        assert!(error.message.contains("public key"), "{error}");
    }
}

/// During a rotation, any secret that can sign will do.
#[test]
fn the_first_secret_that_can_sign_signs() {
    let secrets = ["whpk_ioqIDdQJ/gNy1uvGqsiDw3HKVGgcGLLUOHEwMvC0SWw=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
    let config = config("standard-webhooks", &secrets);
    assert_eq!(accepts(&config, &Delivery::signed(&config, None, NOW)), 1);
}

fn generic(signed_content: &str) -> Generic {
    Generic {
        algorithm: Algorithm::HmacSha256,
        signature_header: "x-signature".into(),
        prefix: String::new(),
        encoding: Encoding::Hex,
        signed_content: signed_content.into(),
        timestamp: None,
    }
}

#[test]
fn generic_that_would_protect_nothing() {
    let with = |generic| Config { generic: Some(generic), ..config("generic", &["s"]) };
    refuses(config("generic", &["s"]), Invalid, "generic");
    for (content, reason) in [
        ("{timestamp}", Invalid),
        ("{url}", Invalid),
        ("{body", Invalid),
        ("{everything}{body}", Invalid),
        ("{form}{body}", Invalid),
        ("{timestamp}.{nonce}.{body}", NotSupported),
    ] {
        refuses(with(generic(content)), reason, "generic.signedContent");
    }
    let timed =
        |content, header: &str| Generic { timestamp: Some((header.into(), TimestampFormat::Unix)), ..generic(content) };
    refuses(with(generic("{timestamp}{body}")), Invalid, "generic.timestamp");
    refuses(with(timed("{body}", "x-timestamp")), Invalid, "generic.signedContent");
    refuses(with(timed("{timestamp}{body}", "x timestamp")), Invalid, "generic.timestamp.header");
    refuses(
        with(Generic { signature_header: String::new(), ..generic("{body}") }),
        Invalid,
        "generic.signature.header",
    );
    assert!(Verifier::compile(with(timed("{header:X-Timestamp}{body}", "x-timestamp"))).is_ok());
    assert!(Verifier::compile(with(generic(""))).is_ok(), "an empty template is the default");
}

#[test]
fn other_fields() {
    refuses(config("apiKey", &["s"]), Invalid, "apiKey");
    let key = |key| Config { api_key: Some(key), ..config("apiKey", &["s"]) };
    refuses(key(ApiKey::Header("a b".into())), Invalid, "apiKey.header");
    refuses(key(ApiKey::Query(String::new())), Invalid, "apiKey.query");
    refuses(Config { public_url: Some("hooks".into()), ..config("twilio", &["s"]) }, Invalid, "publicUrl");
}
