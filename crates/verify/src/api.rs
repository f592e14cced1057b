//! SKELETON for the owner of this crate: the signatures that other crates are written against. Split into files by
//! concept (preset/table.rs, scheme.rs, verifier.rs, extract.rs, answer.rs, sign.rs, zen_signature.rs, …).

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use zen_model::{ObjectReason, Refusal, Secret, Timestamp};

/// A request as the engine sees it. Nothing here is copied.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// `https://host/path?query` is rebuilt from these for schemes that sign the URL, unless `publicUrl` is set.
    pub host: &'a str,
    /// Path and query exactly as received.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// A row of the preset table, as other crates may look at it.
#[derive(Debug)]
pub struct Preset {
    /// What `verification.provider` says.
    pub name: &'static str,
    /// For people, e.g. `GitHub`.
    pub title: &'static str,
    /// Content types that the provider sends.
    pub content_types: &'static [&'static str],
    /// Where type, id and source come from unless the Webhook says otherwise.
    pub event: EventDefaults,
    /// Where the idempotency key comes from unless the Webhook says otherwise; none: no default idempotency.
    pub idempotency: Option<Source>,
    /// What the provider wants to hear when the event is stored.
    pub answer: Answer,
    /// The provider's documentation of the scheme (for docs and comments).
    pub docs: &'static str,
    // scheme, sample payload and headers for `zen send`, challenge kind, has_timestamp, … : the owner adds them.
}

/// Where a value is found in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header, name in lower case.
    Header(std::borrow::Cow<'static, str>),
    /// RFC 6901 pointer into the JSON body.
    Pointer(std::borrow::Cow<'static, str>),
    /// A field of a form body.
    Form(std::borrow::Cow<'static, str>),
    /// Always this.
    Value(std::borrow::Cow<'static, str>),
}

/// Preset's defaults for `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDefaults {
    /// CloudEvents type.
    pub r#type: Option<Source>,
    /// CloudEvents id.
    pub id: Option<Source>,
    /// CloudEvents source, a constant URI such as `https://github.com`; none: the Webhook's URL path.
    pub source: Option<&'static str>,
}

/// What the source hears when its event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202 with `{"id": "…"}`.
    Accepted,
    /// This status with the same JSON.
    Json(u16),
    /// This status and body, for providers that read them (Twilio: 200 with empty TwiML).
    Fixed {
        /// HTTP status.
        status: u16,
        /// Content type.
        content_type: &'static str,
        /// Body.
        body: &'static str,
    },
}

/// All presets, in the order of the documentation. `generic`, `basic`, `bearer`, `apiKey` and `none` are among them.
pub fn presets() -> &'static [Preset] {
    todo!()
}

/// The preset of a name; none is `UnknownProvider`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|preset| preset.name == name)
}

/// What a Webhook configures, before it is compiled.
#[derive(Clone, Debug)]
pub struct Config {
    /// The preset.
    pub preset: &'static Preset,
    /// Secrets in order of preference; any one may verify. Each with a label for status (`name/key`), never its bytes.
    pub secrets: Vec<LabelledSecret>,
    /// Accepted distance between signed timestamp and clock.
    pub tolerance: Duration,
    /// For schemes that sign the URL; none: rebuilt as `https://HOST PATH?QUERY`.
    pub public_url: Option<String>,
    /// `generic` only.
    pub generic: Option<Generic>,
    /// `apiKey` only.
    pub api_key: Option<ApiKey>,
}

/// A secret and how the status calls it.
#[derive(Clone, Debug)]
pub struct LabelledSecret {
    /// For example `github-webhook/secret`.
    pub label: String,
    /// Its bytes. For `basic` the bytes are `username:password`.
    pub secret: Secret,
}

/// `verification.generic` of API.md, strings already parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generic {
    /// Signature algorithm.
    pub algorithm: Algorithm,
    /// Header of the signature, lower case.
    pub signature_header: String,
    /// Text before the signature in that header.
    pub prefix: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// Template of `{timestamp}`, `{nonce}`, `{body}`, `{url}`, `{header:NAME}` … and literal text; default `{body}`.
    pub signed_content: String,
    /// Timestamp header and format.
    pub timestamp: Option<(String, TimestampFormat)>,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    Ed25519,
    EcdsaP256Sha256,
}

/// Signature encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Encoding {
    Hex,
    Base64,
    Base64Url,
}

/// Timestamp formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TimestampFormat {
    Unix,
    UnixMillis,
    Rfc3339,
}

/// Where an API key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKey {
    /// In this header, lower case.
    Header(String),
    /// In this query parameter.
    Query(String),
}

/// A configuration that cannot work: reason, field inside `spec.verification` and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// For the condition.
    pub reason: ObjectReason,
    /// For example `secrets[0]` or `generic.signedContent`.
    pub field: String,
    /// What is wrong, without the secret.
    pub message: String,
}

/// A compiled verifier: keys are prepared, nothing is parsed or allocated per request that need not be.
#[derive(Debug)]
pub struct Verifier {
    _owner: (),
}

/// A request that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Index into `Config::secrets`; 0 for `none`.
    pub secret: usize,
}

impl Verifier {
    /// Prepares keys and templates. Refuses empty secrets, no secrets (unless `none`), secrets of the wrong form.
    pub fn compile(config: Config) -> Result<Self, ConfigError> {
        let _ = config;
        todo!()
    }

    /// Warnings for settings without effect, e.g. a tolerance where the scheme signs no timestamp.
    pub fn has_timestamp(&self) -> bool {
        todo!()
    }

    /// Headers that carry signatures, tokens or nonces: never stored, forwarded or logged. Lower case.
    pub fn secret_headers(&self) -> &[http::HeaderName] {
        todo!()
    }

    /// Verifies signature, then freshness. Only `Unauthenticated`, `Stale` and `MalformedBody` come back.
    pub fn verify(&self, request: &Request<'_>, now: Timestamp) -> Result<Verified, Refusal> {
        let _ = (request, now);
        todo!()
    }

    /// The answer to a challenge that verified (Slack's `url_verification`): not an event, not stored.
    pub fn challenge(&self, request: &Request<'_>) -> Option<ChallengeAnswer> {
        let _ = request;
        todo!()
    }
}

/// How a challenge is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
}

/// A request as a provider would send it, for `zen send`, the demo and tests.
#[derive(Debug)]
pub struct Sample {
    /// Headers with the signature.
    pub headers: HeaderMap,
    /// Path and query (API keys in the query); starts with `/`.
    pub path_and_query: String,
    /// Body.
    pub body: Bytes,
}

/// Signs like the provider: `body` none takes the preset's sample payload, made unique by `nth` and `now`.
pub fn sign(config: &Config, url: &str, body: Option<Bytes>, nth: u64, now: Timestamp) -> Result<Sample, ConfigError> {
    let _ = (config, url, body, nth, now);
    todo!()
}
