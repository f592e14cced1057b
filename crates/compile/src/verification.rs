//! `spec.verification` → a verifier. One good secret is enough to serve; none, or a scheme that cannot work, is not.

use std::time::Duration;

use zen_crds::{CredentialsRef, CredentialsSource, KeyRef, SubjectKind, Verification};
use zen_model::{LockReason, ObjectKey, ObjectReason, Secret};
use zen_verify as verify;
use zen_verify::{Config, LabelledSecret, Preset, Verifier};

use crate::problem::Problems;
use crate::resolve::{Gap, Resolver};
use crate::{Access, Withheld};

/// Default of `tolerance` (W-06).
const TOLERANCE: Duration = Duration::from_mins(5);

/// The outcome. Without a verifier a blocking problem was reported, or the secrets are not known.
pub(crate) struct Compiled {
    pub(crate) preset: Option<&'static Preset>,
    pub(crate) verifier: Option<Verifier>,
    /// What the verifier was made of, for whoever signs.
    pub(crate) config: Option<Config>,
    pub(crate) labels: Vec<String>,
}

pub(crate) fn compile(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &Verification,
    problems: &mut Problems,
) -> Compiled {
    refuse_unbuilt(spec, problems);
    let provider: &str = &spec.provider;
    let Some(preset) = verify::preset(provider) else {
        let names: Vec<_> = verify::presets().iter().map(|preset| preset.name).collect();
        let message = format!("there is no provider {provider:?}; use one of {}", names.join(", "));
        problems.block(ObjectReason::UnknownProvider, "spec.verification.provider", message);
        return Compiled { preset: None, verifier: None, config: None, labels: Vec::new() };
    };
    let tolerance =
        spec.tolerance.as_ref().map(|text| problems.valid("spec.verification.tolerance", text.to_duration()));
    let (mut secrets, missing) = secrets(resolver, key, provider, &spec.secrets);
    for (reason, field, message) in missing {
        // One that can be used is enough to serve; without any the scheme is closed, not open.
        if secrets.is_empty() {
            problems.block(reason, field, message);
        } else {
            problems.note(reason, field, message);
        }
    }
    if secrets.is_empty() && !spec.secrets.is_empty() {
        return Compiled { preset: Some(preset), verifier: None, config: None, labels: Vec::new() };
    }
    let config = Config {
        preset,
        secrets: Vec::new(),
        tolerance: tolerance.flatten().unwrap_or(TOLERANCE),
        public_url: spec.public_url.as_ref().map(ToString::to_string),
        generic: spec.generic.as_ref().map(generic),
        api_key: spec.api_key.as_ref().and_then(api_key),
    };
    let assumed = resolver.environment.mode.assumes();
    let verifier = verifier(&config, &mut secrets, assumed, problems);
    if let Some(verifier) = &verifier {
        if spec.tolerance.is_some() && !verifier.has_timestamp() {
            let message = format!("{provider} signs no timestamp, so tolerance has no effect; remove it");
            problems.note(ObjectReason::NoEffect, "spec.verification.tolerance", message);
        }
        if provider == "none" {
            problems.note(
                ObjectReason::NoEffect,
                "spec.verification.provider",
                "provider none verifies nothing: anybody who reaches the URL can send events",
            );
        }
    }
    let labels = secrets.iter().map(|(_, secret)| secret.label.clone()).collect();
    let config = Config { secrets: secrets.into_iter().map(|(_, secret)| secret).collect(), ..config };
    Compiled { preset: Some(preset), verifier, config: Some(config), labels }
}

fn refuse_unbuilt(spec: &Verification, problems: &mut Problems) {
    if spec.verify_token.is_some() {
        problems.not_supported("spec.verification.verifyToken", "challenge tokens");
    }
    let parameters = spec.parameters.as_ref();
    if parameters.is_some_and(|value| value.as_object().is_none_or(|fields| !fields.is_empty())) {
        problems.not_supported("spec.verification.parameters", "no preset of this release takes parameters");
    }
    if spec.generic.as_ref().is_some_and(|generic| generic.nonce.is_some()) {
        problems.not_supported("spec.verification.generic.nonce", "replay protection by nonces");
    }
}

/// Compiles with all secrets that can be used. A bad one is reported and left out, so that a botched rotation does not
/// refuse what the other secret still verifies (W-05).
///
/// Where the secrets are `assumed`, only what is wrong beside them counts.
fn verifier(
    config: &Config,
    secrets: &mut Vec<(usize, LabelledSecret)>,
    assumed: bool,
    problems: &mut Problems,
) -> Option<Verifier> {
    loop {
        let config = Config { secrets: secrets.iter().map(|(_, secret)| secret.clone()).collect(), ..config.clone() };
        let error = match Verifier::compile(config) {
            Ok(verifier) => return Some(verifier),
            Err(error) => error,
        };
        let index = error.field.strip_prefix("secrets[").and_then(|rest| rest.split_once(']')?.0.parse().ok());
        match index {
            Some(_) if assumed => return None,
            Some(index) if index < secrets.len() => {
                let (original, secret) = secrets.remove(index);
                let field = format!("spec.verification.secrets[{original}]");
                let message = format!("{}: {}", secret.label, error.message);
                if secrets.is_empty() {
                    problems.block(error.reason, field, message);
                    return None;
                }
                problems.note(error.reason, field, message);
            }
            _ => {
                problems.block(error.reason, format!("spec.verification.{}", error.field), error.message);
                return None;
            }
        }
    }
}

/// A reference that cannot be used: reason, field, message.
type Missing = (ObjectReason, String, String);

/// The secrets that exist, each with its index in the spec, and the references that lead nowhere.
fn secrets(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    provider: &str,
    sources: &[CredentialsSource],
) -> (Vec<(usize, LabelledSecret)>, Vec<Missing>) {
    let (mut found, mut missing) = (Vec::with_capacity(sources.len()), Vec::new());
    for (index, source) in sources.iter().enumerate() {
        let at = format!("spec.verification.secrets[{index}]");
        let from = Origin::of(key, SubjectKind::Webhook, source.secret_ref.as_ref(), source.zen_lock_ref.as_ref());
        let Some(from) = from else {
            missing.push((ObjectReason::Invalid, at.clone(), format!("{at} must have a secretRef or a zenLockRef")));
            continue;
        };
        let looked_up = match from.key {
            _ if provider == "basic" => credentials(resolver, &from),
            Some(name) => value(resolver, &from, name).map(|secret| (format!("{}/{name}", from.object.name), secret)),
            None => Err((ObjectReason::Invalid, format!("{} {} must name a key", from.field(), from.object), "key")),
        };
        match looked_up {
            Ok((label, secret)) => found.push((index, LabelledSecret { label, secret })),
            Err((reason, message, part)) => missing.push((reason, format!("{at}.{}.{part}", from.field()), message)),
        }
    }
    (found, missing)
}

/// Reason, message, and the part of the reference that is to blame.
pub(crate) type Unusable = (ObjectReason, String, &'static str);

/// Where a value comes from, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) object: ObjectKey,
    pub(crate) key: Option<&'a str>,
    /// The subject that a `ZenLock` has to allow; none for a Secret, which everything of its namespace may name.
    subject: Option<(SubjectKind, &'a str)>,
}

impl<'a> Origin<'a> {
    /// Of exactly one of the two references, for this object.
    pub(crate) fn of<R: Reference>(
        owner: &'a ObjectKey,
        kind: SubjectKind,
        secret: Option<&'a R>,
        lock: Option<&'a R>,
    ) -> Option<Self> {
        let (reference, subject) = match (secret, lock) {
            (Some(secret), None) => (secret, None),
            (None, Some(lock)) => (lock, Some((kind, owner.name.as_str()))),
            _ => return None,
        };
        let object = ObjectKey::new(owner.namespace.clone(), reference.name());
        Some(Self { object, key: reference.key(), subject })
    }

    pub(crate) fn secret(object: ObjectKey) -> Self {
        Self { object, key: None, subject: None }
    }

    /// As manifests write it.
    pub(crate) const fn field(&self) -> &'static str {
        if self.subject.is_some() { "zenLockRef" } else { "secretRef" }
    }

    const fn kind(&self) -> &'static str {
        if self.subject.is_some() { "ZenLock" } else { "Secret" }
    }
}

/// A reference to an object of the same namespace, with or without a key.
pub(crate) trait Reference {
    fn name(&self) -> &str;
    fn key(&self) -> Option<&str>;
}

impl Reference for KeyRef {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self) -> Option<&str> {
        Some(&self.key)
    }
}

impl Reference for CredentialsRef {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// One key of a Secret or a `ZenLock`.
pub(crate) fn value(resolver: &mut Resolver<'_, '_>, from: &Origin<'_>, name: &str) -> Result<Secret, Unusable> {
    let (object, kind) = (&from.object, from.kind());
    let gap = |gap: Gap| {
        let (reason, message) = gap.tell(kind, object);
        (reason, message, "name")
    };
    let (found, keys): (_, Vec<&str>) = match from.subject {
        None => {
            // Taken to be right; nothing is signed or verified with it.
            let Some(data) = resolver.secret(object).map_err(gap)? else { return Ok(Secret::new(*b"assumed")) };
            (data.get(name), data.keys().collect())
        }
        Some((subject, owner)) => {
            let Some(data) = resolver.zen_lock(object, subject, owner).map_err(gap)? else {
                return Ok(Secret::new(*b"assumed"));
            };
            match data.access(subject, owner) {
                Access::Open => {}
                Access::NotListed => {
                    let message =
                        format!("ZenLock {object} does not allow {subject} {owner}; add it to its allowedSubjects");
                    return Err((LockReason::SubjectNotAllowed.into(), message, "name"));
                }
                Access::Awaited => return Err(gap(Gap::Unread)),
                Access::Withheld(Withheld { reason, why }) => {
                    return Err(((*reason).into(), format!("ZenLock {object} was not opened: {why}"), "name"));
                }
            }
            let found = data.get(name).transpose().map_err(|reason| {
                let meaning = reason.row().meaning;
                (reason.into(), format!("key {name:?} of ZenLock {object}: {meaning}"), "key")
            })?;
            (found, data.keys().collect())
        }
    };
    match found {
        Some(secret) if secret.is_empty() => {
            let message = format!("key {name:?} of {kind} {object} is empty; put the secret there");
            Err((ObjectReason::EmptySecret, message, "key"))
        }
        Some(secret) => Ok(secret.clone()),
        None => {
            let message = format!("{kind} {object} has no key {name:?}; it has: {}", keys.join(", "));
            Err((ObjectReason::KeyNotFound, message, "key"))
        }
    }
}

/// `username:password` of a Secret or `ZenLock`, as basic authentication has it (RFC 7617).
pub(crate) fn credentials(resolver: &mut Resolver<'_, '_>, from: &Origin<'_>) -> Result<(String, Secret), Unusable> {
    let username = value(resolver, from, "username").map_err(|(reason, message, _)| (reason, message, "name"))?;
    let password = value(resolver, from, "password").map_err(|(reason, message, _)| (reason, message, "name"))?;
    if username.expose().contains(&b':') {
        let (kind, object) = (from.kind(), &from.object);
        let message = format!("the username in {kind} {object} holds a colon, which basic authentication cannot carry");
        return Err((ObjectReason::BadSecret, message, "name"));
    }
    let joined = [username.expose(), b":", password.expose()].concat();
    Ok((format!("{}/username", from.object.name), Secret::new(joined)))
}

fn generic(spec: &zen_crds::Generic) -> verify::Generic {
    verify::Generic {
        algorithm: match spec.algorithm {
            zen_crds::Algorithm::HmacSha1 => verify::Algorithm::HmacSha1,
            zen_crds::Algorithm::HmacSha256 => verify::Algorithm::HmacSha256,
            zen_crds::Algorithm::HmacSha512 => verify::Algorithm::HmacSha512,
            zen_crds::Algorithm::Ed25519 => verify::Algorithm::Ed25519,
            zen_crds::Algorithm::EcdsaP256Sha256 => verify::Algorithm::EcdsaP256Sha256,
        },
        signature_header: spec.signature.header.to_ascii_lowercase(),
        prefix: spec.signature.prefix.as_ref().map(ToString::to_string).unwrap_or_default(),
        encoding: match spec.signature.encoding {
            zen_crds::Encoding::Hex => verify::Encoding::Hex,
            zen_crds::Encoding::Base64 => verify::Encoding::Base64,
            zen_crds::Encoding::Base64Url => verify::Encoding::Base64Url,
        },
        signed_content: spec.signed_content.to_string(),
        timestamp: spec.timestamp.as_ref().map(|timestamp| {
            let format = match timestamp.format {
                zen_crds::TimestampFormat::Unix => verify::TimestampFormat::Unix,
                zen_crds::TimestampFormat::UnixMillis => verify::TimestampFormat::UnixMillis,
                zen_crds::TimestampFormat::Rfc3339 => verify::TimestampFormat::Rfc3339,
            };
            (timestamp.header.to_ascii_lowercase(), format)
        }),
    }
}

fn api_key(spec: &zen_crds::ApiKey) -> Option<verify::ApiKey> {
    let header = spec.header.as_ref().map(|name| verify::ApiKey::Header(name.to_ascii_lowercase()));
    header.or_else(|| spec.query.as_ref().map(|name| verify::ApiKey::Query(name.to_string())))
}
