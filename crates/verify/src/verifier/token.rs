//! Shared secrets that are sent as they are: API keys, bearer tokens, basic credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use zeroize::Zeroizing;

use super::header_name;
use crate::keys::{TokenDigest, bad, is_standard};
use crate::request::single;
use crate::scheme::{Place, Token, TokenForm};
use crate::{ConfigError, LabelledSecret, Request};

/// A [`Token`] with the digests of what must be sent.
#[derive(Debug)]
pub(super) struct PreparedToken {
    place: PreparedPlace,
    /// With the index of the secret that each came from.
    digests: Vec<(usize, TokenDigest)>,
}

#[derive(Debug)]
enum PreparedPlace {
    Header(HeaderName),
    Authorization(Box<str>),
    Query(Box<str>),
}

impl PreparedToken {
    pub(super) fn prepare(token: &Token<'_>, secrets: &[LabelledSecret]) -> Result<Self, ConfigError> {
        let mut digests = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            if let Some(text) = written(token, secret, index)? {
                digests.push((index, TokenDigest::of(&text)));
            }
        }
        let place = match token.place {
            Place::Header(name) => PreparedPlace::Header(header_name(name)?),
            Place::Authorization(scheme) => PreparedPlace::Authorization(scheme.into()),
            Place::Query(name) => PreparedPlace::Query(name.into()),
        };
        Ok(Self { place, digests })
    }

    /// The secrets that have a token here.
    pub(super) fn secrets(&self) -> impl Iterator<Item = usize> {
        self.digests.iter().map(|(index, _)| *index)
    }

    /// Whether the request carries something in this place, and we could tell.
    pub(super) fn applies(&self, request: &Request<'_>) -> bool {
        !self.digests.is_empty()
            && match &self.place {
                PreparedPlace::Header(name) => request.headers.contains_key(name),
                PreparedPlace::Authorization(_) => request.headers.contains_key(header::AUTHORIZATION),
                PreparedPlace::Query(_) => true,
            }
    }

    /// The index of the secret that verified.
    pub(super) fn verify(&self, request: &Request<'_>) -> Option<usize> {
        let sent = match &self.place {
            PreparedPlace::Header(name) => TokenDigest::of(single(request.headers, name)?.as_bytes()),
            PreparedPlace::Authorization(scheme) => {
                let value = single(request.headers, header::AUTHORIZATION)?.as_bytes();
                let (word, token) = value.split_at_checked(scheme.len())?;
                if !word.eq_ignore_ascii_case(scheme.as_bytes()) || !token.starts_with(b" ") {
                    return None;
                }
                TokenDigest::of(token.trim_ascii())
            }
            PreparedPlace::Query(name) => {
                let (_, query) = request.path_and_query.split_once('?')?;
                let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name.as_ref());
                let (_, value) = values.next()?;
                if values.next().is_some() {
                    return None;
                }
                TokenDigest::of(value.as_bytes())
            }
        };
        // No early end: how long this takes does not tell which of the secrets it was.
        let mut matching = None;
        for (index, digest) in &self.digests {
            if digest.matches(&sent) && matching.is_none() {
                matching = Some(*index);
            }
        }
        matching
    }
}

/// The token as it is sent; none when the secret belongs to another scheme of the preset.
pub(crate) fn written(
    token: &Token<'_>,
    secret: &LabelledSecret,
    index: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
    let bytes = secret.secret.expose();
    let text = match token.secret {
        TokenForm::PlainNotStandard if is_standard(bytes) => return Ok(None),
        TokenForm::Plain | TokenForm::PlainNotStandard => Zeroizing::new(bytes.to_vec()),
        TokenForm::Basic => {
            let parts = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once(':'));
            if !parts.is_some_and(|(user, password)| !user.is_empty() && !password.is_empty()) {
                return Err(bad(secret, index, "has no user name or no password"));
            }
            Zeroizing::new(STANDARD.encode(bytes).into_bytes())
        }
    };
    // A header cannot carry it, so nothing would ever verify; most often it is the newline at the end of a file.
    if !matches!(token.place, Place::Query(_)) && text.iter().any(u8::is_ascii_control) {
        return Err(bad(secret, index, "has a line break or another control character in it"));
    }
    if text.trim_ascii().len() != text.len() {
        return Err(bad(secret, index, "begins or ends with white space"));
    }
    Ok(Some(text))
}
