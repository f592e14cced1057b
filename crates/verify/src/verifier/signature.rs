//! MACs and asymmetric signatures.

use std::time::Duration;

use aws_lc_rs::{constant_time, digest, hmac};
use http::HeaderName;
use zen_model::{Refusal, Timestamp};

use super::header_name;
use crate::content::Content;
use crate::keys::Key;
use crate::parse::{self, MAX_SIGNATURE};
use crate::request::single;
use crate::scheme::{Signature, Time};
use crate::signed_url::{Port, PublicUrl, SignedUrl};
use crate::template::{self, Part};
use crate::{Algorithm, ConfigError, Encoding, LabelledSecret, Request, TimestampFormat};

/// How many signatures of one header are looked at. Providers send one for each secret during a rotation; a stranger
/// could send thousands, each of which costs a verification where keys are asymmetric.
const MAX_SIGNATURES: usize = 10;

/// A [`Signature`] with everything prepared.
#[derive(Debug)]
pub(super) struct PreparedSignature {
    header: HeaderName,
    separator: Option<u8>,
    labels: Vec<(Box<str>, Algorithm)>,
    encoding: Encoding,
    time: PreparedTime,
    content: Vec<Part>,
    either_port: bool,
    /// With the index of the secret that each came from.
    keys: Vec<(usize, Key)>,
}

#[derive(Debug)]
enum PreparedTime {
    None,
    Header(HeaderName, TimestampFormat),
    Label(Box<str>),
    Body(Box<str>, TimestampFormat),
}

impl PreparedSignature {
    pub(super) fn prepare(scheme: &Signature<'_>, secrets: &[LabelledSecret]) -> Result<Self, ConfigError> {
        let mut keys = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            if let Some(key) = Key::prepare(secret, index, scheme.secret, scheme.algorithm())? {
                keys.push((index, key));
            }
        }
        let content = template::parse(scheme.content);
        Ok(Self {
            header: header_name(scheme.header)?,
            separator: scheme.separator,
            labels: scheme.labels().map(|(label, algorithm)| (label.into(), algorithm)).collect(),
            encoding: scheme.encoding,
            time: match scheme.time {
                Time::None => PreparedTime::None,
                Time::Header(name, format) => PreparedTime::Header(header_name(name)?, format),
                Time::Label(label) => PreparedTime::Label(label.into()),
                Time::Body(pointer, format) => PreparedTime::Body(pointer.into(), format),
            },
            content: content.map_err(|error| ConfigError::invalid("generic.signedContent", error.to_string()))?,
            either_port: scheme.either_port,
            keys,
        })
    }

    /// The secrets that have a key here.
    pub(super) fn secrets(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().map(|(index, _)| *index)
    }

    pub(super) fn has_timestamp(&self) -> bool {
        !self.keys.is_empty() && !matches!(self.time, PreparedTime::None)
    }

    /// Whether the request claims to be signed this way, and we could tell.
    pub(super) fn applies(&self, request: &Request<'_>) -> bool {
        !self.keys.is_empty() && request.headers.contains_key(&self.header)
    }

    /// The index of the secret that verified.
    pub(super) fn verify(
        &self,
        request: &Request<'_>,
        public_url: Option<&PublicUrl>,
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<usize, Refusal> {
        let value = single(request.headers, &self.header).ok_or(Refusal::Unauthenticated)?.as_bytes();
        let (written, time) = self.timestamp(request, value).ok_or(Refusal::Unauthenticated)?;
        let url = SignedUrl::of(request, public_url);
        let content = Content::new(&self.content, request, url, written).map_err(|_| Refusal::Unauthenticated)?;
        if parse::list(value, self.separator).count() > MAX_SIGNATURES + usize::from(self.is_labelled_time()) {
            return Err(Refusal::Unauthenticated);
        }
        let matching = self.keys.iter().find(|(_, key)| self.matches(key, value, &content));
        let (index, _) = matching.ok_or(Refusal::Unauthenticated)?;
        let time = match &self.time {
            PreparedTime::Body(pointer, format) => {
                Some(parse::json_timestamp(request.body, pointer, *format).ok_or(Refusal::MalformedBody)?)
            }
            _ => time,
        };
        match time {
            Some(time) if time.abs_diff(now) > tolerance => Err(Refusal::Stale),
            _ => Ok(*index),
        }
    }

    fn is_labelled_time(&self) -> bool {
        matches!(self.time, PreparedTime::Label(_))
    }

    /// The timestamp as written and as a time, from where it can be read before the body is trusted.
    fn timestamp<'a>(&self, request: &Request<'a>, value: &'a [u8]) -> Option<(&'a [u8], Option<Timestamp>)> {
        let (written, format) = match &self.time {
            PreparedTime::None | PreparedTime::Body(..) => return Some((b"", None)),
            PreparedTime::Header(name, format) => (single(request.headers, name)?.as_bytes(), *format),
            PreparedTime::Label(label) => {
                let labelled = |part: &'a [u8]| part.strip_prefix(label.as_bytes());
                let mut found = parse::list(value, self.separator).filter_map(labelled);
                let written = found.next()?;
                if found.next().is_some() {
                    return None;
                }
                (written, TimestampFormat::Unix)
            }
        };
        Some((written, Some(parse::timestamp(written, format)?)))
    }

    /// Whether one of the signatures in the header is this key's.
    fn matches(&self, key: &Key, value: &[u8], content: &Content<'_>) -> bool {
        let algorithm = key.algorithm();
        let ports: &[Port] = if self.either_port { &[Port::Without, Port::With] } else { &[Port::AsIs] };
        ports.iter().any(|port| match key {
            Key::Hmac(_, key) => {
                let mut mac = hmac::Context::with_key(key);
                content.write(*port, &mut mac);
                let mac = mac.sign();
                self.any(value, algorithm, |found| constant_time::verify_slices_are_equal(found, mac.as_ref()).is_ok())
            }
            Key::Ed25519(key) => {
                let mut message = Vec::new();
                let message = if let [Part::Body] = self.content.as_slice() {
                    content.request.body
                } else {
                    content.write(*port, &mut message);
                    &message
                };
                self.any(value, algorithm, |found| key.verify_sig(message, found).is_ok())
            }
            Key::P256 { der, fixed } => {
                let mut hash = digest::Context::new(&digest::SHA256);
                content.write(*port, &mut hash);
                let hash = hash.finish();
                self.any(value, algorithm, |found| {
                    let key = if found.len() == 64 && !is_der(found) { fixed } else { der };
                    key.verify_digest_sig(&hash, found).is_ok()
                })
            }
        })
    }

    /// Whether a signature of this algorithm in the header passes.
    fn any(&self, value: &[u8], algorithm: Algorithm, pass: impl Fn(&[u8]) -> bool) -> bool {
        let mut buffer = [0; MAX_SIGNATURE];
        parse::list(value, self.separator).any(|part| {
            let mut labelled = self.labels.iter().filter(|(_, of)| *of == algorithm);
            let text = labelled.find_map(|(label, _)| part.strip_prefix(label.as_bytes()));
            let length = text.and_then(|text| parse::signature(text, self.encoding, &mut buffer));
            length.is_some_and(|length| pass(&buffer[..length]))
        })
    }
}

/// Whether 64 bytes are a DER sequence after all: its length byte says so. Two numbers that short are one in 2^32.
fn is_der(signature: &[u8]) -> bool {
    matches!(signature, [0x30, length, rest @ ..] if usize::from(*length) == rest.len())
}
