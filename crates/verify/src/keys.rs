//! From a configured secret to a prepared key. Every refusal is one for the condition: it never quotes the secret.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, ParsedPublicKey,
};
use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zen_model::ObjectReason;
use zeroize::Zeroizing;

use crate::scheme::SecretForm;
use crate::{Algorithm, ConfigError, LabelledSecret};

/// A key that verifies.
pub(crate) enum Key {
    /// Boxed: the prepared state of both hashes takes more than a kilobyte.
    Hmac(Algorithm, Box<hmac::Key>),
    Ed25519(ParsedPublicKey),
    /// One key for each way of writing the signature.
    P256 {
        der: ParsedPublicKey,
        fixed: ParsedPublicKey,
    },
}

impl Key {
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hmac(algorithm, _) => *algorithm,
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::P256 { .. } => Algorithm::EcdsaP256Sha256,
        }
    }

    /// Prepares the key of one secret; none when the secret is of a form that another scheme of the preset takes.
    pub(crate) fn prepare(
        secret: &LabelledSecret,
        index: usize,
        form: SecretForm,
        algorithm: Algorithm,
    ) -> Result<Option<Self>, ConfigError> {
        let bytes = secret.secret.expose();
        let error = |message: &str| bad(secret, index, message);
        match form {
            SecretForm::Bytes => Ok(Some(hmac_key(algorithm, bytes))),
            SecretForm::StandardOnly if !is_standard(bytes) => Ok(None),
            SecretForm::Standard | SecretForm::StandardOnly => match standard(secret, index)? {
                Standard::Shared(key) => Ok(Some(hmac_key(Algorithm::HmacSha256, &key))),
                Standard::Public(key) => {
                    let key = ParsedPublicKey::new(&ED25519, &*key);
                    key.map(Self::Ed25519).map(Some).map_err(|_| error("is not an Ed25519 public key"))
                }
                Standard::Private(_) => {
                    Err(error("is a private key (whsk_); configure the public key (whpk_) that belongs to it"))
                }
            },
            SecretForm::PublicKey => {
                if pem(bytes, "PRIVATE KEY").is_some() {
                    return Err(error("is a private key; configure the public key that belongs to it"));
                }
                let der = der(bytes, "PUBLIC KEY").ok_or_else(|| error("is neither PEM nor base64 of a public key"))?;
                let refused = |_| error(&format!("is not a public key for {}", algorithm.name()));
                Ok(Some(if algorithm == Algorithm::Ed25519 {
                    Self::Ed25519(ParsedPublicKey::new(&ED25519, &*der).map_err(refused)?)
                } else {
                    Self::P256 {
                        fixed: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &*der).map_err(refused)?,
                        der: ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &*der).map_err(refused)?,
                    }
                }))
            }
        }
    }
}

/// Neither a key nor anything derived from one.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm().name())
    }
}

/// A key that signs, for samples.
pub(crate) enum SigningKey {
    Hmac(Box<hmac::Key>),
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// The signing counterpart of [`Key::prepare`]: for asymmetric schemes the secret is the private key.
    pub(crate) fn prepare(
        secret: &LabelledSecret,
        index: usize,
        form: SecretForm,
        algorithm: Algorithm,
    ) -> Result<Option<(Algorithm, Self)>, ConfigError> {
        let bytes = secret.secret.expose();
        let error = |message: &str| bad(secret, index, message);
        let public = "is a public key, which verifies but cannot sign; give the private key to sign with";
        match form {
            SecretForm::StandardOnly if !is_standard(bytes) => Ok(None),
            SecretForm::Standard | SecretForm::StandardOnly => match standard(secret, index)? {
                Standard::Public(_) => Err(error(public)),
                Standard::Shared(key) => {
                    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                    Ok(Some((Algorithm::HmacSha256, Self::Hmac(Box::new(key)))))
                }
                // Some libraries write the seed alone, others seed and public key (RFC 8032 section 5.1.5).
                Standard::Private(key) => {
                    let seed = key.get(..32).filter(|_| matches!(key.len(), 32 | 64));
                    let pair = seed.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(seed).ok());
                    let pair = pair.ok_or_else(|| error("is not an Ed25519 private key"))?;
                    Ok(Some((Algorithm::Ed25519, Self::Ed25519(pair))))
                }
            },
            SecretForm::Bytes => Ok(match hmac_key(algorithm, bytes) {
                Key::Hmac(algorithm, key) => Some((algorithm, Self::Hmac(key))),
                _ => None,
            }),
            SecretForm::PublicKey => {
                if pem(bytes, "PUBLIC KEY").is_some() {
                    return Err(error(public));
                }
                let der = der(bytes, "PRIVATE KEY").ok_or_else(|| error("is not a private key in PKCS#8"))?;
                let refused = |_| error(public);
                let key = if algorithm == Algorithm::Ed25519 {
                    Self::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(refused)?)
                } else {
                    Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).map_err(refused)?)
                };
                Ok(Some((algorithm, key)))
            }
        }
    }
}

/// The SHA-256 of a token: comparing digests takes the same time whatever was sent, however long.
pub(crate) struct TokenDigest(digest::Digest);

impl TokenDigest {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(digest::digest(&digest::SHA256, token))
    }

    pub(crate) fn matches(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// Whether a secret says of itself that it is a signing key of Standard Webhooks.
pub(crate) fn is_standard(secret: &[u8]) -> bool {
    secret.starts_with(b"whsec_")
}

/// The refusal of a secret. Never quotes it.
pub(crate) fn bad(secret: &LabelledSecret, index: usize, message: &str) -> ConfigError {
    let reason = ObjectReason::BadSecret;
    ConfigError::new(reason, format!("secrets[{index}]"), format!("the secret {} {message}", secret.label))
}

fn hmac_key(algorithm: Algorithm, bytes: &[u8]) -> Key {
    let hash = match algorithm {
        Algorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    Key::Hmac(algorithm, Box::new(hmac::Key::new(hash, bytes)))
}

/// A key in the notation of Standard Webhooks.
enum Standard {
    Shared(Zeroizing<Vec<u8>>),
    Public(Zeroizing<Vec<u8>>),
    Private(Zeroizing<Vec<u8>>),
}

fn standard(secret: &LabelledSecret, index: usize) -> Result<Standard, ConfigError> {
    let text = secret.secret.expose().trim_ascii();
    let (kind, text): (fn(_) -> Standard, _) = if let Some(text) = text.strip_prefix(b"whpk_") {
        (Standard::Public, text)
    } else if let Some(text) = text.strip_prefix(b"whsk_") {
        (Standard::Private, text)
    } else {
        (Standard::Shared, text.strip_prefix(b"whsec_").unwrap_or(text))
    };
    let key = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| {
        bad(secret, index, "is not base64; Standard Webhooks secrets are whsec_ or whpk_ followed by base64")
    })?;
    if key.is_empty() {
        let field = format!("secrets[{index}]");
        let message = format!("the secret {} has nothing after its prefix", secret.label);
        return Err(ConfigError::new(ObjectReason::EmptySecret, field, message));
    }
    Ok(kind(key))
}

/// The bytes of a key that is written as PEM with this label, or as base64 alone.
fn der(text: &[u8], label: &str) -> Option<Zeroizing<Vec<u8>>> {
    pem(text, label).or_else(|| decode_lines(std::str::from_utf8(text).ok()?))
}

/// The first PEM block with this label (RFC 7468).
fn pem(text: &[u8], label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = after.split_once(&format!("-----END {label}-----"))?;
    decode_lines(body)
}

fn decode_lines(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let joined: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    STANDARD.decode(joined.as_bytes()).ok().filter(|der| !der.is_empty()).map(Zeroizing::new)
}
