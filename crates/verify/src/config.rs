//! What a Webhook says under `spec.verification`, parsed and with its secrets resolved.

use std::time::Duration;

use zen_model::{ObjectReason, Secret};

use crate::Preset;

/// What a Webhook configures, before it is compiled.
#[derive(Clone, Debug)]
pub struct Config {
    /// The preset.
    pub preset: &'static Preset,
    /// Secrets in order of preference; any one may verify. Each with a label for status (`name/key`), never its bytes.
    /// For schemes with a public key it is that key: PEM, base64 of DER or of the raw key, or `whpk_…`.
    pub secrets: Vec<LabelledSecret>,
    /// Accepted distance between signed timestamp and clock, in either direction.
    pub tolerance: Duration,
    /// For schemes that sign the URL; none: rebuilt as `https://HOST PATH?QUERY`. A query that was received replaces
    /// the one written here, because providers append to it (Twilio's `bodySHA256`).
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
    /// Template of `{timestamp}`, `{body}`, `{url}`, `{header:NAME}` and literal text (`{{` and `}}` are braces);
    /// default `{body}`.
    pub signed_content: String,
    /// Timestamp header and format.
    pub timestamp: Option<(String, TimestampFormat)>,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-1 (RFC 2104); still sound as a MAC, kept for providers that offer nothing else.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256; the signature as ASN.1 DER or as 64 bytes r‖s.
    EcdsaP256Sha256,
}

impl Algorithm {
    /// As `verification.generic.algorithm` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }
}

/// Signature encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// RFC 4648 section 4, padded.
    Base64,
    /// RFC 4648 section 5, padded or not.
    Base64Url,
}

/// Timestamp formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Seconds since the Unix epoch, digits only.
    Unix,
    /// Milliseconds since the Unix epoch, digits only.
    UnixMillis,
    /// RFC 3339.
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// For the condition.
    pub reason: ObjectReason,
    /// For example `secrets[0]` or `generic.signedContent`.
    pub field: String,
    /// What is wrong, without the secret.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(reason: ObjectReason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, field: field.into(), message: message.into() }
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ObjectReason::Invalid, field, message)
    }
}
