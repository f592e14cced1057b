//! The providers' own SDKs as judges, in both directions: what they sign we accept, what we sign they accept, and both
//! refuse it once it is changed (W-03).
//!
//! `ZEN_ORACLES` names the folder where they are installed; `cargo xtask test` sets it. Without it the test installs
//! them itself into the user's cache folder, where it needs `npm` and `pip` and, once, the network. Where `CI` is set
//! it fails instead: a check that quietly depends on the machine is none.

mod sdk;

use bytes::Bytes;
use serde_json::json;
use zen_model::{Refusal, Timestamp};
use zen_verify::{Algorithm, Config, Encoding, Generic, Verifier};

use self::sdk::{Language, ask};
use crate::fixture::{Delivery, HOST, config, ed25519, p256, whsk};

const WHSEC: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
const PLAIN: [&str; 2] = ["It's a Secret to Everybody", "another"];
const JSON: [&str; 4] =
    [r#"{"a":1}"#, "{\n  \"spaces\": [ 1, 2 ]\r\n}", r#"{"name":"Zoë ✓ 日本語 🦀"}"#, r#"{"type":"x","data":{}}"#];

/// What one SDK is asked about one preset.
struct Case {
    language: Language,
    oracle: &'static str,
    /// What we verify with, and with which secret it must fail.
    config: Config,
    wrong: Config,
    /// What we sign with.
    signing: Config,
    /// What the SDK signs and verifies with.
    sdk_keys: [String; 2],
    bodies: Vec<String>,
    sdk_signs: bool,
    sdk_verifies: bool,
}

impl Case {
    fn new(language: Language, oracle: &'static str, preset: &str, secrets: [&str; 2]) -> Self {
        Self {
            language,
            oracle,
            config: config(preset, &secrets[..1]),
            wrong: config(preset, &secrets[1..]),
            signing: config(preset, &secrets[..1]),
            sdk_keys: [secrets[0].into(), secrets[0].into()],
            bodies: JSON.map(str::to_owned).into(),
            sdk_signs: true,
            sdk_verifies: true,
        }
    }

    fn only_verifies(self) -> Self {
        Self { sdk_signs: false, ..self }
    }

    fn only_signs(self) -> Self {
        Self { sdk_verifies: false, ..self }
    }

    fn check(&self) {
        for body in &self.bodies {
            if self.sdk_signs {
                self.we_accept_what_it_signs(body);
            }
            if self.sdk_verifies {
                self.it_accepts_what_we_sign(body);
            }
        }
    }

    fn we_accept_what_it_signs(&self, body: &str) {
        let now = Timestamp::now();
        let content_type = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let request = json!({
            "oracle": self.oracle, "ask": "sign", "secret": self.sdk_keys[0], "body": body, "time": now.as_secs(),
            "url": format!("https://{HOST}/team-a/hook"), "headers": {"content-type": content_type},
        });
        let answer = ask(self.language, &request);
        let headers = answer["headers"].as_object().expect("the oracle signs");
        let mut delivery = Delivery::new(body).header("content-type", content_type);
        for (name, value) in headers {
            let value = value.as_str().expect("text");
            match name.as_str() {
                "url" => delivery = delivery.at(value.strip_prefix(&format!("https://{HOST}")).expect("our host")),
                name => delivery = delivery.header(name, value),
            }
        }
        let verifier = Verifier::compile(self.config.clone()).expect("compiles");
        let name = self.oracle;
        assert_eq!(delivery.verify(&verifier, now), Ok(0), "{name} signed {body:?}: {delivery:#?}");
        let wrong = Verifier::compile(self.wrong.clone()).expect("compiles");
        assert_eq!(delivery.verify(&wrong, now), Err(Refusal::Unauthenticated), "{name}: {body}");
        let changed = delivery.clone().body(format!("{body}0"));
        assert_eq!(changed.verify(&verifier, now), Err(Refusal::Unauthenticated), "{name}: {body}");
        if verifier.has_timestamp() {
            let late = now.plus(self.config.tolerance * 2);
            assert_eq!(delivery.verify(&verifier, late), Err(Refusal::Stale), "{name}: {body}");
        }
    }

    fn it_accepts_what_we_sign(&self, body: &str) {
        let now = Timestamp::now();
        let delivery = Delivery::signed(&self.signing, Some(Bytes::copy_from_slice(body.as_bytes())), now);
        self.expect(&delivery, body, &self.sdk_keys[1], true);
        self.expect(&delivery, &format!("{body}0"), &self.sdk_keys[1], false);
        let wrong = Delivery::signed(&self.wrong_signing(), Some(Bytes::copy_from_slice(body.as_bytes())), now);
        self.expect(&wrong, body, &self.sdk_keys[1], false);
    }

    fn wrong_signing(&self) -> Config {
        if self.signing.preset.name == "generic" || self.oracle == "standard-v1a" {
            return Config { secrets: self.wrong_secret_to_sign(), ..self.signing.clone() };
        }
        self.wrong.clone()
    }

    /// Another private key of the same kind.
    fn wrong_secret_to_sign(&self) -> Vec<zen_verify::LabelledSecret> {
        let private = match self.oracle {
            "standard-v1a" => whsk(9).0,
            "ed25519" => ed25519().0,
            _ => p256().0,
        };
        config("generic", &[&private]).secrets
    }

    fn expect(&self, delivery: &Delivery, body: &str, secret: &str, valid: bool) {
        let headers: serde_json::Map<_, _> = delivery
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().expect("text"))))
            .collect();
        let request = json!({
            "oracle": self.oracle, "ask": "verify", "secret": secret, "body": body, "headers": headers,
            "url": format!("https://{HOST}{}", delivery.path_and_query),
        });
        let answer = ask(self.language, &request);
        assert_eq!(answer["valid"], json!(valid), "{} of {body:?}: {answer} {delivery:#?}", self.oracle);
    }
}

#[test]
fn github() {
    Case::new(Language::JavaScript, "github", "github", PLAIN).check();
}

#[test]
fn stripe() {
    Case::new(Language::JavaScript, "stripe", "stripe", WHSEC).check();
}

#[test]
fn slack() {
    Case::new(Language::JavaScript, "slack", "slack", PLAIN).only_verifies().check();
    let forms = vec!["command=%2Fdeploy&text=now+please&user_name=Zo%C3%AB".to_owned()];
    let python = Case::new(Language::Python, "slack", "slack", PLAIN);
    Case { bodies: [python.bodies.clone(), forms].concat(), ..python }.check();
}

#[test]
fn shopify() {
    Case::new(Language::JavaScript, "shopify", "shopify", PLAIN).only_verifies().check();
    Case::new(Language::Python, "shopify", "shopify", PLAIN).only_signs().check();
}

#[test]
fn twilio() {
    let forms = [
        "CallSid=CA1234567890ABCDE&Caller=%2B12349013030&Digits=1234&From=%2B12349013030&To=%2B18005551212",
        "b=2&a=1&B=%C3%A4+%2B&empty=&a=1&a=0",
        "Body=%E2%9C%93+Zo%C3%AB%21*%27%28%29&NumMedia=0",
    ];
    for language in [Language::JavaScript, Language::Python] {
        let case = Case::new(language, "twilio", "twilio", PLAIN);
        Case { bodies: [forms.map(str::to_owned).to_vec(), case.bodies.clone()].concat(), ..case }.check();
    }
}

#[test]
fn standard_webhooks() {
    for (language, oracle) in [
        (Language::JavaScript, "standard-webhooks"),
        (Language::JavaScript, "svix"),
        (Language::Python, "standard-webhooks"),
    ] {
        Case::new(language, oracle, "standard-webhooks", WHSEC).check();
    }
}

/// v1a: the private key as seed for the oracle, as `whsk_` and `whpk_` for us.
#[test]
fn standard_webhooks_asymmetric() {
    use base64::Engine as _;

    let seed = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let (private, public) = whsk(7);
    let case = Case::new(Language::JavaScript, "standard-v1a", "standard-webhooks", WHSEC);
    Case {
        config: config("standard-webhooks", &[&public]),
        wrong: config("standard-webhooks", &[&whsk(8).1]),
        signing: config("standard-webhooks", &[&private]),
        sdk_keys: [seed.clone(), seed],
        ..case
    }
    .check();
}

/// GitLab's signing tokens are Standard Webhooks; a secret token is no signature (see `vectors.rs`).
#[test]
fn gitlab() {
    Case::new(Language::JavaScript, "standard-webhooks", "gitlab", WHSEC).check();
}

#[test]
fn linear() {
    let case = Case::new(Language::JavaScript, "linear", "linear", PLAIN).only_verifies();
    let now = Timestamp::now().0;
    let bodies = vec![
        format!(r#"{{"action":"create","webhookTimestamp":{now}}}"#),
        format!("{{\n \"webhookTimestamp\": {now}, \"data\": {{\"webhookTimestamp\": 1, \"title\": \"Zoë\"}}}}"),
    ];
    Case { bodies, ..case }.check();
}

#[test]
fn documented_algorithms() {
    Case::new(Language::Python, "pagerduty", "pagerduty", PLAIN).check();
    Case::new(Language::Python, "bitbucket", "bitbucket", PLAIN).check();
}

#[test]
fn generic_with_public_keys() {
    for (oracle, algorithm, pair, other) in [
        ("ed25519", Algorithm::Ed25519, ed25519(), ed25519()),
        ("p256-der", Algorithm::EcdsaP256Sha256, p256(), p256()),
        ("p256-fixed", Algorithm::EcdsaP256Sha256, p256(), p256()),
    ] {
        let generic = Generic {
            algorithm,
            signature_header: "x-signature".into(),
            prefix: String::new(),
            encoding: Encoding::Base64,
            signed_content: "{body}".into(),
            timestamp: None,
        };
        let with = |secret: &str| Config { generic: Some(generic.clone()), ..config("generic", &[secret]) };
        let case = Case::new(Language::JavaScript, oracle, "generic", PLAIN);
        let case = Case {
            config: with(&pair.1),
            wrong: with(&other.1),
            signing: with(&pair.0),
            sdk_keys: [pair.0.clone(), pair.1.clone()],
            ..case
        };
        // We sign in DER only.
        if oracle == "p256-fixed" { case.only_signs().check() } else { case.check() }
    }
}
