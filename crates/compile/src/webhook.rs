//! A Webhook's spec → what serves its requests.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderName;
use zen_crds::{KeySource, WebhookSpec};
use zen_model::{ObjectKey, ObjectReason};
use zen_verify::{Answer, Preset, Source};

use crate::problem::Problems;
use crate::resolve::{Consent, Resolver};
use crate::{Match, Place, Route, Serving, Test, Webhook, headers, mesh, select, verification};

/// Compiles one. `winner` is the Webhook that has this one's place already.
pub(crate) fn compile(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &WebhookSpec,
    place: &Place,
    winner: Option<&ObjectKey>,
) -> (Webhook, Problems) {
    let mut problems = Problems::default();
    place.check(key, resolver.environment, &mut problems);
    if let Some(winner) = winner {
        let message =
            format!("{winner} is older or comes first and has this host and path; change spec.path or spec.hosts");
        problems.block(ObjectReason::Conflicted, "spec.path", message);
    }
    refuse_unbuilt(spec, &mut problems);
    let compiled = verification::compile(resolver, key, &spec.verification, &mut problems);
    let preset = compiled.preset;

    let mut forward: BTreeSet<String> = headers::SAFE_HEADERS.iter().map(|name| (*name).to_owned()).collect();
    let routes = routes(resolver, key, spec, &mut forward, &mut problems);
    let event = spec.event.as_ref();
    let event_type = event
        .and_then(|event| event.event_type.as_ref())
        .map(|source| source_of(source.header.as_deref(), source.pointer.as_deref(), source.value.as_deref()));
    let event_id = event.and_then(|event| event.id.as_ref()).map(key_source);
    let from_preset = |pick: fn(&Preset) -> Option<Source>| preset.and_then(pick);
    let event_type = event_type.unwrap_or_else(|| from_preset(|preset| preset.event.r#type.clone()));
    let event_id = event_id.unwrap_or_else(|| from_preset(|preset| preset.event.id.clone()));
    let event_source = event.and_then(|event| event.source.as_ref()).map(ToString::to_string);
    let event_source = event_source
        .or_else(|| preset.and_then(|preset| preset.event.source).map(str::to_owned))
        .unwrap_or_else(|| place.path.clone());
    let idempotency = spec.idempotency.key.as_ref().map(key_source);
    let idempotency = idempotency.unwrap_or_else(|| from_preset(|preset| preset.idempotency.clone()));
    let window = problems.valid("spec.idempotency.window", spec.idempotency.window.to_duration());
    let max_body = problems.valid("spec.limits.body", spec.limits.body.to_bytes()).unwrap_or(0);
    let sources = spec.limits.sources.iter().enumerate().filter_map(|(index, text)| {
        let field = format!("spec.limits.sources[{index}]");
        problems.valid(&field, mesh::parse_cidr(text).ok_or("not a network such as 192.0.2.0/24"))
    });
    let sources = sources.collect();
    let content_types = if spec.content_types.is_empty() {
        preset.map(|preset| preset.content_types.iter().map(|own| (*own).to_owned()).collect()).unwrap_or_default()
    } else {
        spec.content_types.iter().map(|own| own.to_ascii_lowercase()).collect()
    };

    let is_pointer = |source: &Option<Source>| matches!(source, Some(Source::Pointer(_)));
    let needs_json = is_pointer(&event_type)
        || is_pointer(&event_id)
        || is_pointer(&idempotency)
        || routes.iter().flat_map(|route| &route.matches).any(|condition| matches!(condition, Match::Pointer(..)));
    let unconditional = routes.iter().all(|route| route.matches.is_empty()).then(|| select::union(routes.iter()));
    if let Some(verifier) = &compiled.verifier {
        for name in verifier.secret_headers() {
            forward.remove(name.as_str());
        }
    }
    let serving = match (problems.blocking(), compiled.verifier) {
        _ if !spec.active => Serving::Inactive,
        (None, Some(verifier)) => Serving::Active(verifier),
        // The operator serves nothing, and says what it can about what others serve.
        (None, None) if resolver.environment.mode.assumes() => Serving::Inactive,
        (reason, _) => Serving::Invalid(reason.unwrap_or(ObjectReason::Invalid)),
    };
    let webhook = Webhook {
        key: key.clone(),
        revision: 0,
        path: place.path.clone(),
        hosts: place.hosts.clone(),
        provider: preset.map_or("unknown", |preset| preset.name),
        serving,
        max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
        sources,
        content_types,
        event_type,
        event_id,
        event_source,
        idempotency: idempotency.map(|source| (source, window.unwrap_or(Duration::from_hours(24)))),
        answer: preset.map_or(Answer::Accepted, |preset| preset.answer),
        routes,
        unconditional,
        needs_json,
        kept_headers: forward.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect(),
        secret_labels: compiled.labels,
    };
    (webhook, problems)
}

fn refuse_unbuilt(spec: &WebhookSpec, problems: &mut Problems) {
    if spec.client_certificate.is_some() {
        problems.not_supported("spec.clientCertificate", "client certificates of sources");
    }
    if !spec.schemas.is_empty() {
        problems.not_supported("spec.schemas", "checks by JSON Schema");
    }
    if spec.limits.rate.is_some() {
        problems.not_supported("spec.limits.rate", "rate limits");
    }
    if spec.limits.bucket.is_some() {
        problems.not_supported("spec.limits.bucket", "rate limits");
    }
}

fn source_of(header: Option<&str>, pointer: Option<&str>, value: Option<&str>) -> Option<Source> {
    let owned = |text: &str| text.to_owned().into();
    header
        .map(|name| Source::Header(name.to_ascii_lowercase().into()))
        .or_else(|| pointer.map(|pointer| Source::Pointer(owned(pointer))))
        .or_else(|| value.map(|value| Source::Value(owned(value))))
}

fn key_source(source: &KeySource) -> Option<Source> {
    source_of(source.header.as_deref(), source.pointer.as_deref(), None)
}

/// Routes with the Destinations that consent. Headers that those forward are added to `forward`.
fn routes(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &WebhookSpec,
    forward: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> Vec<Route> {
    if spec.routes.is_empty() {
        problems.note(
            ObjectReason::NoEffect,
            "spec.routes",
            "there is no route: events are kept, and delivered to nobody",
        );
    }
    let mut routes = Vec::with_capacity(spec.routes.len());
    for (index, route) in spec.routes.iter().enumerate() {
        let at = format!("spec.routes[{index}]");
        let matches = route.matches.iter().enumerate().filter_map(|(index, condition)| {
            let compiled = condition_of(condition);
            if compiled.is_none() {
                let field = format!("{at}.match[{index}]");
                let message =
                    format!("{field} must be eventType, or pointer or header with one of equals, in, prefix, exists");
                problems.block(ObjectReason::Invalid, field, message);
            }
            compiled
        });
        let matches = matches.collect();
        let mut destinations = Vec::with_capacity(route.destinations.len());
        for (index, reference) in route.destinations.iter().enumerate() {
            let namespace = reference.namespace.as_ref().map_or(key.namespace.as_str(), |namespace| namespace);
            let destination = ObjectKey::new(namespace, &*reference.name);
            let field = format!("{at}.destinations[{index}]");
            match resolver.consent(&destination, &key.namespace) {
                Consent::Given { forward: names } => {
                    forward.extend(names.into_iter().filter(|name| headers::forwardable(name).is_ok()));
                    destinations.push(destination);
                }
                Consent::Unknown => {
                    let message = format!("Destination {destination} was not read yet: events for it wait");
                    problems.note(ObjectReason::RefPending, field, message);
                    destinations.push(destination);
                }
                Consent::Missing if destination.namespace == key.namespace => {
                    let message = format!("Destination {destination} does not exist: events for it wait until it does");
                    problems.note(ObjectReason::RefNotFound, field, message);
                    destinations.push(destination);
                }
                // Whether an object of another namespace exists is nobody's business here.
                Consent::Missing | Consent::Refused => {
                    let message = format!(
                        "Destination {destination} does not exist or does not allow routes from {}: nothing goes there",
                        key.namespace
                    );
                    problems.note(ObjectReason::RefNotPermitted, field, message);
                }
            }
        }
        routes.push(Route { matches, destinations });
    }
    routes
}

/// One condition; none where it is not exactly one member of the union.
fn condition_of(condition: &zen_crds::Match) -> Option<Match> {
    let tests = [
        condition.equals.clone().map(Test::Equals),
        condition.one_of.clone().map(Test::In),
        condition.prefix.as_ref().map(|prefix| Test::Prefix(prefix.to_string())),
        condition.exists.map(Test::Exists),
    ];
    let mut tests = tests.into_iter().flatten();
    let test = tests.next();
    if tests.next().is_some() {
        return None;
    }
    match (&condition.event_type, &condition.pointer, &condition.header, test) {
        (Some(types), None, None, None) => Some(Match::EventType(types.iter().map(ToString::to_string).collect())),
        (None, Some(pointer), None, Some(test)) => Some(Match::Pointer(pointer.to_string(), test)),
        (None, None, Some(name), Some(test)) => {
            Some(Match::Header(HeaderName::from_bytes(name.as_bytes()).ok()?, test))
        }
        _ => None,
    }
}
