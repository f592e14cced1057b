//! `spec.verification` of a Webhook: how requests prove who sent them (W-03, W-05, W-06).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{CredentialsSource, SecretSource};
use crate::rules;
use crate::text::{HeaderName, HttpsUrl, ProviderName, QueryName, ShortText, SignedContent, words};
use crate::units::DurationText;
use crate::webhook::FreeObject;

/// How requests prove who sent them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::VERIFICATION)))]
pub struct Verification {
    /// A preset such as `github`, or `generic`, `basic`, `bearer`, `apiKey` or `none`.
    pub provider: ProviderName,
    /// Secrets, any one of which may verify: two while one replaces the other. The status says which did last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub secrets: Vec<CredentialsSource>,
    /// Greatest accepted distance between the signed timestamp and the clock, `5m` unless set. Without effect where
    /// the scheme signs no timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<DurationText>,
    /// The URL that the provider was given, for schemes that sign it. `https`, Host, path and query as received unless
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<HttpsUrl>,
    /// What a preset needs beside a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FreeObject>")]
    pub parameters: Option<Value>,
    /// Token with which the provider asks whether this address is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<SecretSource>,
    /// The signature scheme of provider `generic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generic: Option<Generic>,
    /// Where provider `apiKey` finds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
}

/// A signature scheme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::GENERIC)))]
pub struct Generic {
    /// Algorithm of the signature.
    pub algorithm: Algorithm,
    /// Where and how the signature is written.
    pub signature: Signature,
    /// What is signed: text with `{timestamp}`, `{nonce}` and `{body}` in place of the request's values.
    #[serde(default = "the_body")]
    pub signed_content: SignedContent,
    /// Where the signed timestamp is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampSource>,
    /// Where the signed nonce is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<NonceSource>,
}

fn the_body() -> SignedContent {
    "{body}".into()
}

/// Where and how a signature is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// The header that carries it.
    pub header: HeaderName,
    /// Text before it in that header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<ShortText>,
    /// How its bytes are written.
    #[serde(default)]
    pub encoding: Encoding,
}

/// Where the signed timestamp is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimestampSource {
    /// The header that carries it.
    pub header: HeaderName,
    /// How it is written.
    #[serde(default)]
    pub format: TimestampFormat,
}

/// Where the signed nonce is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NonceSource {
    /// The header that carries it.
    pub header: HeaderName,
}

/// Where an API key is found: exactly one of `header` and `query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::API_KEY)))]
pub struct ApiKey {
    /// The header that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The query parameter that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryName>,
}

words! {
    /// Algorithm of a signature.
    Algorithm {
        /// HMAC with SHA-1, for providers that have nothing better.
        HmacSha1 = "hmac-sha1",
        /// HMAC with SHA-256.
        HmacSha256 = "hmac-sha256",
        /// HMAC with SHA-512.
        HmacSha512 = "hmac-sha512",
        /// Ed25519; the secret holds the public key.
        Ed25519 = "ed25519",
        /// ECDSA on P-256 with SHA-256; the secret holds the public key.
        EcdsaP256Sha256 = "ecdsa-p256-sha256",
    }
}

words! {
    /// How a signature's bytes are written.
    #[derive(Default)]
    Encoding {
        /// Hexadecimal digits of either case.
        #[default]
        Hex = "hex",
        /// Base64 (RFC 4648, section 4).
        Base64 = "base64",
        /// Base64 for URLs (RFC 4648, section 5).
        Base64Url = "base64url",
    }
}

words! {
    /// How a timestamp is written.
    #[derive(Default)]
    TimestampFormat {
        /// Seconds since 1970.
        #[default]
        Unix = "unix",
        /// Milliseconds since 1970.
        UnixMillis = "unixMillis",
        /// RFC 3339.
        Rfc3339 = "rfc3339",
    }
}
