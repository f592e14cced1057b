//! Requests, configurations, and `accepts`/`rejects`.

use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zen_model::{Refusal, Secret, Timestamp};
use zen_verify::{
    Algorithm, ApiKey, Config, Encoding, Generic, LabelledSecret, Request, TimestampFormat, Verified, Verifier, preset,
    sign,
};

pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
pub const TOLERANCE: Duration = Duration::from_mins(5);
pub const HOST: &str = "hooks.example.com";
pub const URL: &str = "https://hooks.example.com/team-a/hook";

/// A request that can be changed piece by piece.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub host: String,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Delivery {
    pub fn new(body: &str) -> Self {
        let headers = HeaderMap::new();
        Self { host: HOST.into(), path_and_query: "/team-a/hook".into(), headers, body: body.to_owned().into() }
    }

    /// What a provider would send now.
    pub fn signed(config: &Config, body: Option<Bytes>, now: Timestamp) -> Self {
        let sample = sign(config, URL, body, 1, now).expect("signs");
        Self { host: HOST.into(), path_and_query: sample.path_and_query, headers: sample.headers, body: sample.body }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).expect("a name");
        self.headers.insert(name, HeaderValue::from_bytes(value.as_ref()).expect("a value"));
        self
    }

    pub fn and_header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn at(mut self, path_and_query: &str) -> Self {
        self.path_and_query = path_and_query.into();
        self
    }

    pub fn text(&self, header: &str) -> String {
        self.headers[header].to_str().expect("text").to_owned()
    }

    pub fn verify(&self, verifier: &Verifier, now: Timestamp) -> Result<usize, Refusal> {
        let request = Request {
            method: &Method::POST,
            host: &self.host,
            path_and_query: &self.path_and_query,
            headers: &self.headers,
            body: &self.body,
        };
        verifier.verify(&request, now).map(|Verified { secret }| secret)
    }
}

#[track_caller]
pub fn accepts(config: &Config, delivery: &Delivery) -> usize {
    let verifier = Verifier::compile(config.clone()).expect("compiles");
    let result = delivery.verify(&verifier, NOW);
    assert!(result.is_ok(), "{result:?} of {delivery:#?}");
    result.unwrap_or_default()
}

#[track_caller]
pub fn rejects(config: &Config, delivery: &Delivery, refusal: Refusal) {
    let verifier = Verifier::compile(config.clone()).expect("compiles");
    assert_eq!(delivery.verify(&verifier, NOW), Err(refusal), "{delivery:#?}");
}

/// A configuration of a preset with these secrets.
pub fn config(name: &str, secrets: &[&str]) -> Config {
    let secret = |(index, secret): (usize, &&str)| LabelledSecret {
        label: format!("hook/key{index}"),
        secret: Secret::new(secret.as_bytes()),
    };
    Config {
        preset: preset(name).expect("a preset"),
        secrets: secrets.iter().enumerate().map(secret).collect(),
        tolerance: TOLERANCE,
        public_url: None,
        generic: None,
        api_key: None,
    }
}

/// Another way for a preset, or a preset's only one, with what a test needs to know of it.
pub struct Way {
    pub name: &'static str,
    /// Without secrets.
    config: Config,
    /// What signs, and what verifies: the same unless there are two keys.
    keys: [(String, String); 2],
    /// The header with signature or token; empty: in the query.
    pub carrier: &'static str,
    pub has_timestamp: bool,
    /// Whether the body is covered.
    pub signs_body: bool,
    /// What separates several signatures in the header.
    pub separator: Option<char>,
    /// A body for which the scheme asks nothing more than its signature.
    pub body: Option<&'static str>,
}

impl Way {
    /// Signs with this of the two keys.
    pub fn signing(&self, key: usize) -> Config {
        self.with(&[&self.keys[key].0])
    }

    /// Verifies with these of the two keys.
    pub fn verifying(&self, keys: &[usize]) -> Config {
        self.with(&keys.iter().map(|key| self.keys[*key].1.as_str()).collect::<Vec<_>>())
    }

    fn with(&self, secrets: &[&str]) -> Config {
        Config { secrets: config(self.config.preset.name, secrets).secrets, ..self.config.clone() }
    }

    pub fn delivery(&self, now: Timestamp) -> Delivery {
        self.delivery_by(0, now)
    }

    pub fn delivery_by(&self, key: usize, now: Timestamp) -> Delivery {
        Delivery::signed(&self.signing(key), self.body.map(Bytes::from), now)
    }
}

fn way(name: &'static str, preset: &str, carrier: &'static str) -> Way {
    let keys = [("correct horse".to_owned(), "correct horse".to_owned()), ("battery".to_owned(), "battery".to_owned())];
    Way {
        name,
        config: config(preset, &[]),
        keys,
        carrier,
        has_timestamp: false,
        signs_body: true,
        separator: None,
        body: None,
    }
}

fn same(first: &str, second: &str) -> [(String, String); 2] {
    [(first.to_owned(), first.to_owned()), (second.to_owned(), second.to_owned())]
}

fn generic(algorithm: Algorithm, encoding: Encoding, prefix: &str) -> Generic {
    Generic {
        algorithm,
        signature_header: "x-signature".into(),
        prefix: prefix.into(),
        encoding,
        signed_content: "{body}".into(),
        timestamp: None,
    }
}

/// Every way in which a source can prove itself.
pub fn ways() -> Vec<Way> {
    let standard = same("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let token = |way: Way| Way { signs_body: false, ..way };
    let with_generic = |name, generic| Way {
        config: Config { generic: Some(generic), ..config("generic", &[]) },
        ..way(name, "generic", "x-signature")
    };
    let with_key = |way: Way, key| Way { config: Config { api_key: Some(key), ..way.config.clone() }, ..way };
    vec![
        way("github", "github", "x-hub-signature-256"),
        token(way("gitlab token", "gitlab", "x-gitlab-token")),
        Way {
            keys: standard.clone(),
            has_timestamp: true,
            separator: Some(' '),
            ..way("gitlab signing token", "gitlab", "webhook-signature")
        },
        Way { has_timestamp: true, separator: Some(','), ..way("stripe", "stripe", "stripe-signature") },
        Way { has_timestamp: true, ..way("slack", "slack", "x-slack-signature") },
        way("shopify", "shopify", "x-shopify-hmac-sha256"),
        way("twilio form", "twilio", "x-twilio-signature"),
        Way { body: Some(r#"{"a":1}"#), ..way("twilio json", "twilio", "x-twilio-signature") },
        Way {
            keys: standard,
            has_timestamp: true,
            separator: Some(' '),
            ..way("standard v1", "standard-webhooks", "webhook-signature")
        },
        Way {
            keys: [whsk(1), whsk(2)],
            has_timestamp: true,
            separator: Some(' '),
            ..way("standard v1a", "standard-webhooks", "webhook-signature")
        },
        way("bitbucket", "bitbucket", "x-hub-signature"),
        Way { separator: Some(','), ..way("pagerduty", "pagerduty", "x-pagerduty-signature") },
        Way { has_timestamp: true, ..way("linear", "linear", "linear-signature") },
        with_generic("generic sha1 hex", generic(Algorithm::HmacSha1, Encoding::Hex, "sha1=")),
        with_generic("generic sha256 base64", generic(Algorithm::HmacSha256, Encoding::Base64, "")),
        Way {
            has_timestamp: true,
            ..with_generic(
                "generic sha512 base64url",
                Generic {
                    signed_content: "{url} {timestamp}.{header:X-Tenant}.{body}".into(),
                    timestamp: Some(("x-timestamp".into(), TimestampFormat::Rfc3339)),
                    ..generic(Algorithm::HmacSha512, Encoding::Base64Url, "hmac ")
                },
            )
        },
        Way {
            keys: [ed25519(), ed25519()],
            ..with_generic("generic ed25519", generic(Algorithm::Ed25519, Encoding::Hex, ""))
        },
        Way {
            keys: [p256(), p256()],
            has_timestamp: true,
            ..with_generic(
                "generic p256",
                Generic {
                    signed_content: "{timestamp}{body}".into(),
                    timestamp: Some(("x-timestamp".into(), TimestampFormat::UnixMillis)),
                    ..generic(Algorithm::EcdsaP256Sha256, Encoding::Base64, "")
                },
            )
        },
        token(Way { keys: same("ada:secret", "ada:other"), ..way("basic", "basic", "authorization") }),
        token(way("bearer", "bearer", "authorization")),
        token(with_key(way("api key header", "apiKey", "x-api-key"), ApiKey::Header("x-api-key".into()))),
        token(with_key(way("api key query", "apiKey", ""), ApiKey::Query("key".into()))),
    ]
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub fn ed25519() -> (String, String) {
    let pair = Ed25519KeyPair::generate().expect("generates");
    let private = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("encodes").as_ref());
    (private, pem("PUBLIC KEY", pair.public_key().as_der().expect("encodes").as_ref()))
}

pub fn p256() -> (String, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generates");
    let private = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("encodes").as_ref());
    (private, pem("PUBLIC KEY", pair.public_key().as_der().expect("encodes").as_ref()))
}

pub fn whsk(byte: u8) -> (String, String) {
    let seed = [byte; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
    let public = pair.public_key().as_ref().to_vec();
    let private = [&seed[..], &public].concat();
    (format!("whsk_{}", STANDARD.encode(private)), format!("whpk_{}", STANDARD.encode(public)))
}
