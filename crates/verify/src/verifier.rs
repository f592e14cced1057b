//! The engine: a configuration compiled into prepared keys, and the check of one request.

mod signature;
mod token;

use std::time::Duration;

use http::HeaderName;
use zen_model::{ObjectReason, Refusal, Timestamp};

use self::signature::PreparedSignature;
use self::token::PreparedToken;
pub(crate) use self::token::written as written_token;
use crate::preset::Kind;
use crate::scheme::{Place, Scheme, SecretForm, Signature, Time, Token, TokenForm};
use crate::signed_url::PublicUrl;
use crate::{Algorithm, ApiKey, Challenge, ChallengeAnswer, Config, ConfigError, Generic, Request};

/// A compiled verifier: keys are prepared, nothing is parsed or allocated per request that need not be.
#[derive(Debug)]
pub struct Verifier {
    /// Empty only for `none`.
    schemes: Vec<Prepared>,
    tolerance: Duration,
    public_url: Option<PublicUrl>,
    challenge: Option<Challenge>,
    secret_headers: Vec<HeaderName>,
    secret_query: Option<Box<str>>,
    has_timestamp: bool,
}

#[derive(Debug)]
enum Prepared {
    Signature(PreparedSignature),
    Token(PreparedToken),
}

/// A request that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Index into `Config::secrets`; 0 for `none`.
    pub secret: usize,
}

impl Verifier {
    /// Prepares keys and templates. Refuses empty secrets, no secrets (unless `none`), secrets of the wrong form.
    #[expect(clippy::needless_pass_by_value, reason = "the plain secrets are wiped when this returns")]
    pub fn compile(config: Config) -> Result<Self, ConfigError> {
        let public_url = config.public_url.as_deref().map(PublicUrl::parse).transpose()?;
        let schemes = schemes(&config)?;
        check_secrets(&config)?;
        let mut prepared = Vec::with_capacity(schemes.len());
        let mut used = vec![false; config.secrets.len()];
        let mut secret_headers = Vec::new();
        let mut secret_query = None;
        for scheme in &schemes {
            match scheme {
                Scheme::Signature(signature) => {
                    secret_headers.push(header_name(signature.header)?);
                    let signature = PreparedSignature::prepare(signature, &config.secrets)?;
                    signature.secrets().for_each(|index| used[index] = true);
                    prepared.push(Prepared::Signature(signature));
                }
                Scheme::Token(token) => {
                    match token.place {
                        Place::Header(name) => secret_headers.push(header_name(name)?),
                        Place::Authorization(_) => secret_headers.push(http::header::AUTHORIZATION),
                        Place::Query(name) => secret_query = Some(name.into()),
                    }
                    let token = PreparedToken::prepare(token, &config.secrets)?;
                    token.secrets().for_each(|index| used[index] = true);
                    prepared.push(Prepared::Token(token));
                }
            }
        }
        if !prepared.is_empty()
            && let Some(index) = used.iter().position(|used| !used)
        {
            return Err(crate::keys::bad(&config.secrets[index], index, "is of no form that the provider uses"));
        }
        for name in config.preset.secret_headers {
            secret_headers.push(header_name(name)?);
        }
        secret_headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        secret_headers.dedup();
        Ok(Self {
            has_timestamp: prepared.iter().any(|scheme| matches!(scheme, Prepared::Signature(s) if s.has_timestamp())),
            schemes: prepared,
            tolerance: config.tolerance,
            public_url,
            challenge: config.preset.challenge,
            secret_headers,
            secret_query,
        })
    }

    /// Whether the scheme signs a timestamp. Where it does not, a tolerance has no effect, and the Webhook's condition
    /// says so.
    pub fn has_timestamp(&self) -> bool {
        self.has_timestamp
    }

    /// Headers that carry signatures, tokens or nonces: never stored, forwarded or logged. Lower case, sorted.
    pub fn secret_headers(&self) -> &[HeaderName] {
        &self.secret_headers
    }

    /// The query parameter that carries the API key, if it is there: never stored, forwarded or logged.
    pub fn secret_query(&self) -> Option<&str> {
        self.secret_query.as_deref()
    }

    /// Verifies signature, then freshness. Only `Unauthenticated`, `Stale` and `MalformedBody` come back, the latter
    /// two only for a request whose signature is right.
    pub fn verify(&self, request: &Request<'_>, now: Timestamp) -> Result<Verified, Refusal> {
        if self.schemes.is_empty() {
            return Ok(Verified { secret: 0 });
        }
        let scheme = self.schemes.iter().find(|scheme| match scheme {
            Prepared::Signature(signature) => signature.applies(request),
            Prepared::Token(token) => token.applies(request),
        });
        let secret = match scheme.ok_or(Refusal::Unauthenticated)? {
            Prepared::Signature(signature) => {
                signature.verify(request, self.public_url.as_ref(), now, self.tolerance)?
            }
            Prepared::Token(token) => token.verify(request).ok_or(Refusal::Unauthenticated)?,
        };
        Ok(Verified { secret })
    }

    /// The answer to a challenge that verified (Slack's `url_verification`): not an event, not stored.
    pub fn challenge(&self, request: &Request<'_>) -> Option<ChallengeAnswer> {
        self.challenge?.answer(request)
    }
}

/// The schemes of a configuration: the preset's row, or what `generic` and `apiKey` describe.
pub(crate) fn schemes(config: &Config) -> Result<Vec<Scheme<'_>>, ConfigError> {
    match config.preset.kind {
        Kind::Schemes(schemes) => Ok(schemes.to_vec()),
        Kind::Open => Ok(Vec::new()),
        Kind::Generic => {
            let generic = config.generic.as_ref();
            let generic =
                generic.ok_or_else(|| ConfigError::invalid("generic", "is needed by the provider generic"))?;
            generic_scheme(generic).map(|signature| vec![Scheme::Signature(signature)])
        }
        Kind::ApiKey => {
            let place = match config.api_key.as_ref() {
                Some(ApiKey::Header(name)) => Place::Header(name),
                Some(ApiKey::Query(name)) if !name.is_empty() => Place::Query(name),
                Some(ApiKey::Query(_)) => return Err(ConfigError::invalid("apiKey.query", "is empty")),
                None => return Err(ConfigError::invalid("apiKey", "is needed by the provider apiKey")),
            };
            Ok(vec![Scheme::Token(Token { place, secret: TokenForm::Plain })])
        }
    }
}

/// `generic` as a scheme. Refuses what would verify and protect nothing.
fn generic_scheme(generic: &Generic) -> Result<Signature<'_>, ConfigError> {
    use crate::template::Part;

    let field = "generic.signedContent";
    let content = if generic.signed_content.is_empty() { "{body}" } else { generic.signed_content.as_str() };
    let parts = crate::template::parse(content).map_err(|error| {
        let unsupported = matches!(error, crate::template::Error::Nonce);
        let reason = if unsupported { ObjectReason::NotSupported } else { ObjectReason::Invalid };
        ConfigError::new(reason, field, error.to_string())
    })?;
    if parts.contains(&Part::Form) {
        return Err(ConfigError::invalid(field, "{form} is not a placeholder here"));
    }
    if !parts.contains(&Part::Body) {
        return Err(ConfigError::invalid(field, "must contain {body}, or anybody could change the body"));
    }
    let time = match &generic.timestamp {
        None if parts.contains(&Part::Timestamp) => {
            return Err(ConfigError::invalid("generic.timestamp", "is needed by {timestamp} in signedContent"));
        }
        None => Time::None,
        Some((name, format)) => {
            let header = Part::Header(header_name(name).map_err(|_| {
                ConfigError::invalid("generic.timestamp.header", format!("{name:?} is not a header name"))
            })?);
            if !parts.contains(&Part::Timestamp) && !parts.contains(&header) {
                let message = "must contain {timestamp}, or anybody could change the timestamp";
                return Err(ConfigError::invalid(field, message));
            }
            Time::Header(name, *format)
        }
    };
    let labels: &[(&str, Algorithm)] = &[];
    let asymmetric = matches!(generic.algorithm, Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256);
    header_name(&generic.signature_header).map_err(|_| {
        let message = format!("{:?} is not a header name", generic.signature_header);
        ConfigError::invalid("generic.signature.header", message)
    })?;
    Ok(Signature {
        header: &generic.signature_header,
        separator: None,
        labels,
        label: Some((&generic.prefix, generic.algorithm)),
        encoding: generic.encoding,
        time,
        content,
        secret: if asymmetric { SecretForm::PublicKey } else { SecretForm::Bytes },
        either_port: false,
    })
}

/// At least one secret, none of them empty. `none` needs none.
pub(crate) fn check_secrets(config: &Config) -> Result<(), ConfigError> {
    if matches!(config.preset.kind, Kind::Open) {
        return Ok(());
    }
    if config.secrets.is_empty() {
        let message = format!("the provider {} needs a secret", config.preset.name);
        return Err(ConfigError::new(ObjectReason::EmptySecret, "secrets", message));
    }
    for (index, secret) in config.secrets.iter().enumerate() {
        if secret.secret.expose().trim_ascii().is_empty() {
            let message = format!("the secret {} is empty", secret.label);
            return Err(ConfigError::new(ObjectReason::EmptySecret, format!("secrets[{index}]"), message));
        }
    }
    Ok(())
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::try_from(name)
        .map_err(|_| ConfigError::invalid("apiKey.header", format!("{name:?} is not a header name")))
}
