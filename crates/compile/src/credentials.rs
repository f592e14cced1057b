//! What a Destination takes from Secrets and config maps: credentials, signing keys, CAs, a client certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use zen_crds::{Authentication, CaSource, LocalRef, SecretSource, SubjectKind};
use zen_model::{ObjectKey, ObjectReason, Secret};

use crate::headers;
use crate::problem::Problems;
use crate::resolve::Resolver;
use crate::verification::{Origin, credentials, value};

/// The header that carries credentials, marked sensitive so that nothing prints it.
pub(crate) fn authentication(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &Authentication,
    problems: &mut Problems,
) -> Option<(HeaderName, HeaderValue)> {
    let (name, secret, field) = match (&spec.bearer, &spec.basic, &spec.header) {
        (Some(source), None, None) => {
            let field = "spec.authentication.bearer";
            let token = secret(resolver, key, field, source, problems)?;
            (AUTHORIZATION, Secret::new([b"Bearer ", token.expose()].concat()), field)
        }
        (None, Some(source), None) => {
            let field = "spec.authentication.basic";
            let Some(from) =
                Origin::of(key, SubjectKind::Destination, source.secret_ref.as_ref(), source.zen_lock_ref.as_ref())
            else {
                problems.block(ObjectReason::Invalid, field, format!("{field} must have a secretRef or a zenLockRef"));
                return None;
            };
            match credentials(resolver, &from) {
                Ok((_, pair)) => {
                    (AUTHORIZATION, Secret::new(format!("Basic {}", STANDARD.encode(pair.expose()))), field)
                }
                Err((reason, message, part)) => {
                    problems.block(reason, format!("{field}.{}.{part}", from.field()), message);
                    return None;
                }
            }
        }
        (None, None, Some(header)) => {
            let field = "spec.authentication.header";
            let name = match headers::credential(&header.name) {
                Ok(name) => name,
                Err(message) => {
                    problems.block(ObjectReason::Invalid, format!("{field}.name"), message);
                    return None;
                }
            };
            let source =
                SecretSource { secret_ref: header.secret_ref.clone(), zen_lock_ref: header.zen_lock_ref.clone() };
            (name, secret(resolver, key, field, &source, problems)?, field)
        }
        _ => {
            let message = "spec.authentication must have exactly one of bearer, basic and header";
            problems.block(ObjectReason::Invalid, "spec.authentication", message);
            return None;
        }
    };
    let Ok(mut header) = HeaderValue::from_bytes(secret.expose()) else {
        let message = "the secret holds a byte that no header may hold; a line break at its end is the usual cause";
        problems.block(ObjectReason::BadSecret, field, message);
        return None;
    };
    header.set_sensitive(true);
    Some((name, header))
}

/// Standard Webhooks keys: `whsec_` and base64, or the bytes as they are. One that is wrong stops the Destination: a
/// delivery without the signature that its target waits for would only be refused there.
pub(crate) fn signing(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    sources: &[SecretSource],
    problems: &mut Problems,
) -> Vec<Secret> {
    let mut keys = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let field = format!("spec.signing.secrets[{index}]");
        let Some(text) = secret(resolver, key, &field, source, problems) else { continue };
        match text.expose().strip_prefix(b"whsec_") {
            None => keys.push(text),
            Some(encoded) => match STANDARD.decode(encoded.trim_ascii_end()) {
                Ok(bytes) if !bytes.is_empty() => keys.push(Secret::new(bytes)),
                _ => {
                    let message = "a secret that begins with whsec_ must go on in base64; copy it again";
                    problems.block(ObjectReason::BadSecret, field, message);
                }
            },
        }
    }
    keys
}

/// PEM certificates of a CA.
pub(crate) fn ca(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    source: &CaSource,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    match (&source.config_map_ref, &source.secret_ref) {
        (Some(reference), None) => {
            let object = ObjectKey::new(key.namespace.clone(), &*reference.name);
            let field = "spec.tls.caRef.configMapRef";
            let map = match resolver.config_map(&object) {
                Ok(Some(map)) => map,
                Ok(None) => return Some(Vec::new()),
                Err(gap) => {
                    let (reason, message) = gap.tell("ConfigMap", &object);
                    problems.block(reason, format!("{field}.name"), message);
                    return None;
                }
            };
            let found = map.get(&reference.key).map(<[u8]>::to_vec);
            if found.is_none() {
                let message = format!("ConfigMap {object} has no key {:?}", &*reference.key);
                problems.block(ObjectReason::KeyNotFound, format!("{field}.key"), message);
            }
            found
        }
        (None, Some(reference)) => {
            let object = ObjectKey::new(key.namespace.clone(), &*reference.name);
            match value(resolver, &Origin::secret(object), &reference.key) {
                Ok(secret) => Some(secret.expose().to_vec()),
                Err((reason, message, part)) => {
                    problems.block(reason, format!("spec.tls.caRef.secretRef.{part}"), message);
                    None
                }
            }
        }
        _ => {
            let message = "spec.tls.caRef must have exactly one of configMapRef and secretRef";
            problems.block(ObjectReason::Invalid, "spec.tls.caRef", message);
            None
        }
    }
}

/// Chain and key of a `kubernetes.io/tls` Secret.
pub(crate) fn identity(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    reference: &LocalRef,
    problems: &mut Problems,
) -> Option<(Secret, Secret)> {
    let object = ObjectKey::new(key.namespace.clone(), &*reference.name);
    let field = "spec.tls.clientCertificateRef";
    if let Ok(Some(data)) = resolver.secret(&object)
        && data.r#type() != "kubernetes.io/tls"
    {
        let message =
            format!("Secret {object} is of type {:?}; a client certificate needs kubernetes.io/tls", data.r#type());
        problems.block(ObjectReason::BadCertificate, format!("{field}.name"), message);
        return None;
    }
    let mut part = |name: &str| {
        value(resolver, &Origin::secret(object.clone()), name)
            .map_err(|(reason, message, _)| problems.block(reason, format!("{field}.name"), message))
            .ok()
    };
    part("tls.crt").zip(part("tls.key"))
}

fn secret(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    field: &str,
    source: &SecretSource,
    problems: &mut Problems,
) -> Option<Secret> {
    let from = Origin::of(key, SubjectKind::Destination, source.secret_ref.as_ref(), source.zen_lock_ref.as_ref());
    let Some((from, name)) = from.and_then(|from| from.key.map(|name| (from.clone(), name))) else {
        problems.block(ObjectReason::Invalid, field, format!("{field} must have a secretRef or a zenLockRef"));
        return None;
    };
    value(resolver, &from, name)
        .map_err(|(reason, message, part)| problems.block(reason, format!("{field}.{}.{part}", from.field()), message))
        .ok()
}
