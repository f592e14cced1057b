//! Signs like a provider: for `zen send`, the demo and tests. Never on the request path.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use zen_model::{ObjectReason, Timestamp};

use crate::content::{Content, Sink};
use crate::keys::SigningKey;
use crate::scheme::{Place, Scheme, Signature, Time, Token};
use crate::signed_url::{Port, PublicUrl, SignedUrl};
use crate::template::{self, Part};
use crate::verifier::{check_secrets, header_name, schemes, written_token};
use crate::{Config, ConfigError, Encoding, LabelledSecret, Request, TimestampFormat};

/// A request as a provider would send it, for `zen send`, the demo and tests.
pub struct Sample {
    /// Headers with the signature; those that carry a secret or a signature are marked sensitive.
    pub headers: HeaderMap,
    /// Path and query (API keys in the query); starts with `/`.
    pub path_and_query: String,
    /// Body.
    pub body: Bytes,
}

/// No token, no signature, no payload.
impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Sample").field("headers", &names).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Signs like the provider, with the first secret that can sign: `body` none takes the preset's sample payload, made
/// unique by `nth` and `now`; a body of the user's own is sent as it is, so for Linear it must hold a current
/// `webhookTimestamp`. `url` is where the request will be sent; where `publicUrl` is set, that is what is signed.
///
/// For asymmetric schemes the secret must be the private key (PKCS#8, or `whsk_…`).
///
/// # Errors
/// The same as [`crate::Verifier::compile`], and `BadSecret` where only a public key is known: it cannot sign.
pub fn sign(config: &Config, url: &str, body: Option<Bytes>, nth: u64, now: Timestamp) -> Result<Sample, ConfigError> {
    check_secrets(config)?;
    let schemes = schemes(config)?;
    let signer = Signer { config, now, unique: Unique::new(nth, now) };
    let draft = signer.draft(url, body)?;
    if schemes.is_empty() {
        return Ok(draft.finish());
    }
    let mut refused = None;
    for (index, secret) in config.secrets.iter().enumerate() {
        match signer.prove(draft.clone(), &schemes, secret, index) {
            Ok(draft) => return Ok(draft.finish()),
            Err(error) => drop(refused.get_or_insert(error)),
        }
    }
    Err(refused.unwrap_or_else(|| ConfigError::invalid("secrets", "none can sign")))
}

/// A request that proves nothing yet.
#[derive(Clone)]
struct Draft {
    headers: HeaderMap,
    target: String,
    body: Bytes,
}

impl Draft {
    fn finish(self) -> Sample {
        let path_and_query = SignedUrl::parse(&self.target).path_and_query();
        Sample { headers: self.headers, path_and_query, body: self.body }
    }
}

struct Signer<'a> {
    config: &'a Config,
    now: Timestamp,
    unique: Unique,
}

impl Signer<'_> {
    fn draft(&self, url: &str, body: Option<Bytes>) -> Result<Draft, ConfigError> {
        let sample = &self.config.preset.sample;
        let content_type = body.as_deref().map_or(sample.content_type, |body| content_type(self.config, body));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in sample.headers {
            headers.insert(header_name(name)?, text_value(&self.unique.fill(value))?);
        }
        let body = body.unwrap_or_else(|| self.unique.fill(sample.body).into());
        Ok(Draft { headers, target: url.split('#').next().unwrap_or_default().to_owned(), body })
    }

    /// By the first scheme that takes this secret.
    fn prove(
        &self,
        mut draft: Draft,
        schemes: &[Scheme<'_>],
        secret: &LabelledSecret,
        index: usize,
    ) -> Result<Draft, ConfigError> {
        for scheme in schemes {
            match scheme {
                Scheme::Signature(signature) => {
                    let key = SigningKey::prepare(secret, index, signature.secret, signature.algorithm())?;
                    if let Some((algorithm, key)) = key {
                        self.sign(&mut draft, signature, &key, signature.label_of(algorithm))?;
                        return Ok(draft);
                    }
                }
                Scheme::Token(token) => {
                    if let Some(text) = written_token(token, secret, index)? {
                        send_token(token, &text, &mut draft)?;
                        return Ok(draft);
                    }
                }
            }
        }
        Err(crate::keys::bad(secret, index, "is of no form that the provider uses"))
    }

    fn sign(
        &self,
        Draft { headers, target, body }: &mut Draft,
        signature: &Signature<'_>,
        key: &SigningKey,
        label: &str,
    ) -> Result<(), ConfigError> {
        let parts = template::parse(signature.content)
            .map_err(|error| ConfigError::invalid("generic.signedContent", error.to_string()))?;
        // What the template names must be in the request, whatever it is called: an id or a subject of the user's own.
        for part in &parts {
            if let Part::Header(name) = part
                && !headers.contains_key(name)
            {
                headers.insert(name.clone(), text_value(&self.unique.fill("$UUID"))?);
            }
        }
        let written = match signature.time {
            Time::None | Time::Body(..) => String::new(),
            Time::Label(_) => written_time(self.now, TimestampFormat::Unix),
            Time::Header(name, format) => {
                let written = written_time(self.now, format);
                headers.insert(header_name(name)?, text_value(&written)?);
                written
            }
        };
        if parts.contains(&Part::Form) && !is_form(headers) {
            let hash = hex::encode(digest::digest(&digest::SHA256, body));
            add_query(target, "bodySHA256", &hash);
        }
        let public = self.config.public_url.as_deref().map(PublicUrl::parse).transpose()?;
        let sent = SignedUrl::parse(target);
        let (host, path_and_query) = (sent.authority(), sent.path_and_query());
        let request = Request { method: &Method::POST, host: &host, path_and_query: &path_and_query, headers, body };
        let url = if public.is_some() { SignedUrl::of(&request, public.as_ref()) } else { sent };
        let content = Content::new(&parts, &request, url, written.as_bytes())
            .map_err(|_| ConfigError::invalid("generic.signedContent", "names what the request does not have"))?;
        let port = if signature.either_port { Port::Without } else { Port::AsIs };
        let raw = raw_signature(key, |sink| content.write(port, sink));
        let raw = raw.ok_or_else(|| ConfigError::new(ObjectReason::BadSecret, "secrets[0]", "the key cannot sign"))?;
        let encoded = match signature.encoding {
            Encoding::Hex => hex::encode(raw),
            Encoding::Base64 => STANDARD.encode(raw),
            Encoding::Base64Url => URL_SAFE_NO_PAD.encode(raw),
        };
        let time = match signature.time {
            Time::Label(label) => format!("{label}{written},"),
            _ => String::new(),
        };
        let mut value = text_value(&format!("{time}{label}{encoded}"))?;
        value.set_sensitive(true);
        headers.insert(header_name(signature.header)?, value);
        Ok(())
    }
}

/// Collects signed content; a sample is small.
struct Message(Vec<u8>);

impl Sink for Message {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn raw_signature(key: &SigningKey, write: impl FnOnce(&mut Message)) -> Option<Vec<u8>> {
    let mut message = Message(Vec::new());
    write(&mut message);
    Some(match key {
        SigningKey::Hmac(key) => hmac::sign(key, &message.0).as_ref().to_vec(),
        SigningKey::Ed25519(key) => key.sign(&message.0).as_ref().to_vec(),
        SigningKey::P256(key) => key.sign(&SystemRandom::new(), &message.0).ok()?.as_ref().to_vec(),
    })
}

fn send_token(token: &Token<'_>, text: &[u8], draft: &mut Draft) -> Result<(), ConfigError> {
    let Draft { headers, target, .. } = draft;
    let secret_value = |bytes: &[u8]| {
        let value = HeaderValue::from_bytes(bytes);
        let mut value = value.map_err(|_| ConfigError::invalid("secrets[0]", "cannot be sent in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    };
    match token.place {
        Place::Header(name) => {
            headers.insert(header_name(name)?, secret_value(text)?);
        }
        Place::Authorization(scheme) => {
            let value = [scheme.as_bytes(), b" ", text].concat();
            headers.insert(header::AUTHORIZATION, secret_value(&value)?);
        }
        Place::Query(name) => add_query(target, name, &String::from_utf8_lossy(text)),
    }
    Ok(())
}

fn add_query(target: &mut String, name: &str, value: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    target.push_str(&form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish());
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

/// The content type of a body that the user gave: JSON where it looks so, else what the provider sends beside JSON.
fn content_type(config: &Config, body: &[u8]) -> &'static str {
    const JSON: &str = "application/json";
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return JSON;
    }
    let types = config.preset.content_types;
    types.iter().find(|name| **name != JSON).or(types.first()).copied().unwrap_or("application/octet-stream")
}

fn written_time(now: Timestamp, format: TimestampFormat) -> String {
    match format {
        TimestampFormat::Unix => now.as_secs().to_string(),
        TimestampFormat::UnixMillis => now.0.to_string(),
        TimestampFormat::Rfc3339 => now.to_string(),
    }
}

fn text_value(text: &str) -> Result<HeaderValue, ConfigError> {
    HeaderValue::from_str(text).map_err(|_| ConfigError::invalid("generic", "a value cannot be sent in a header"))
}

/// What fills a sample's placeholders: the same for the same `nth` and `now` in one process, different otherwise.
struct Unique {
    uuid: uuid::Uuid,
    nth: u64,
    now: Timestamp,
}

impl Unique {
    fn new(nth: u64, now: Timestamp) -> Self {
        // Two processes that send at one instant must not make the same ids.
        static PROCESS: OnceLock<[u8; 4]> = OnceLock::new();
        let process = PROCESS.get_or_init(|| {
            let mut bytes = [0; 4];
            // Without randomness the ids are merely less unique.
            let _ = rand::fill(&mut bytes);
            bytes
        });
        let mut tail = [0; 10];
        tail[..4].copy_from_slice(process);
        tail[4..].copy_from_slice(&nth.to_be_bytes()[2..]);
        Self { uuid: uuid::Builder::from_unix_timestamp_millis(now.0, &tail).into_uuid(), nth, now }
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("$UUID", &self.uuid.hyphenated().to_string())
            .replace("$HEX", &self.uuid.simple().to_string())
            .replace("$COMMIT", &format!("{}{:08x}", self.uuid.simple(), self.nth & 0xffff_ffff))
            .replace("$SECONDS", &self.now.as_secs().to_string())
            .replace("$MILLIS", &self.now.0.to_string())
            .replace("$TIME", &self.now.to_string())
            .replace("$N", &self.nth.to_string())
    }
}
