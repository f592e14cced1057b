//! A Destination's spec → what attempts are made with (D-01, D-02, D-07 to D-09).

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use zen_crds::{DestinationSpec, DurationText};
use zen_model::{ObjectKey, ObjectReason, breaker, retry};

use crate::mode::Share;
use crate::problem::Problems;
use crate::relay::{self, Relay};
use crate::resolve::{Resolver, Unresolved};
use crate::{DeliveryMode, Destination, Format, Mode, Target, credentials, headers, mesh, network, target, tls};

/// Compiles one; none where a blocking problem was reported. A lean one says what it can about the object itself, and
/// reads nothing that it names but, where references are taken to resolve, what is assumed.
pub(crate) fn compile(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &DestinationSpec,
    share: Share,
    relay: Relay,
) -> (Option<Destination>, Problems) {
    let mut problems = Problems::default();
    refuse_unbuilt(spec, &mut problems);
    let cluster = relay::cluster_of(key, spec);
    relay::check(resolver, spec, cluster.as_ref(), relay, &mut problems);
    let allow_cidrs = allow_cidrs(resolver, key, spec, relay, &mut problems);
    let target = target_of(resolver, key, spec, share, &allow_cidrs, &mut problems);
    let (mut tls, mut authentication, mut signing) = (None, None, None);
    // With assumed contents these check the parts of the spec around them.
    if relay::is_read(resolver.environment.mode, spec, share, relay) {
        tls = client_config(resolver, key, spec, target.as_ref(), &mut problems);
        let own = spec.authentication.as_ref();
        authentication = own.and_then(|spec| credentials::authentication(resolver, key, spec, &mut problems));
        let own = spec.signing.as_ref();
        signing = own.map(|spec| credentials::signing(resolver, key, &spec.secrets, &mut problems));
    }
    let (forward, set) = header_rules(spec, &mut problems);
    let limits = Limits::read(spec, &mut problems);
    let allow_from = resolver.allowed(spec);
    let complete = problems.blocking().is_none();
    let destination = target.zip(limits).filter(|_| complete).map(|(target, limits)| {
        let server_name =
            spec.tls.as_ref().and_then(|tls| tls.server_name.as_ref()).map(|name| name.to_ascii_lowercase());
        let (Target::Url { host, .. } | Target::Service { host, .. }) = &target;
        Destination {
            key: key.clone(),
            revision: 0,
            mode: DeliveryMode::of(spec.mode),
            cluster,
            paused: spec.paused,
            allow_from,
            tls,
            server_name: server_name.unwrap_or_else(|| host.clone()),
            target,
            authentication,
            signing: signing.unwrap_or_default(),
            forward,
            set,
            format: match spec.delivery.format {
                zen_crds::Format::Raw => Format::Raw,
                zen_crds::Format::Structured => Format::Structured,
            },
            idempotent: spec.delivery.idempotent,
            connect_timeout: limits.connect,
            request_timeout: limits.request,
            max_response: limits.max_response,
            concurrency: limits.concurrency,
            transient: limits.transient,
            throttled: limits.throttled,
            breaker: limits.breaker,
            allow_cidrs,
            dead_letter_retention: limits.retention,
        }
    });
    (destination, problems)
}

fn refuse_unbuilt(spec: &DestinationSpec, problems: &mut Problems) {
    if spec.delivery.rate.is_some() {
        problems.not_supported("spec.delivery.rate", "rate limits");
    }
    if spec.delivery.ordering.is_some() {
        problems.not_supported("spec.delivery.ordering", "ordered delivery");
    }
    if spec.dead_letter.auto_replay {
        problems.not_supported("spec.deadLetter.autoReplay", "automatic replay; use zen dead-letters replay");
    }
}

fn allow_cidrs(
    resolver: &Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &DestinationSpec,
    relay: Relay,
    problems: &mut Problems,
) -> Vec<IpNet> {
    let environment = resolver.environment;
    // Networks of a member are granted there.
    let granted_elsewhere = spec.mode == zen_crds::Mode::Relay && relay == Relay::Hub;
    let mut allowed = Vec::new();
    for (index, text) in spec.network.iter().flat_map(|network| &network.allow_cidrs).enumerate() {
        let field = format!("spec.network.allowCidrs[{index}]");
        let Some(cidr) = mesh::parse_cidr(text) else {
            let message = format!("{:?} is not a network such as 10.20.0.0/16", &**text);
            problems.block(ObjectReason::Invalid, field, message);
            continue;
        };
        if cidr.prefix_len() == cidr.max_prefix_len() && network::is_metadata(cidr.addr()) {
            let message = format!("{cidr} serves a cloud's metadata and credentials and is never allowed; remove it");
            problems.block(ObjectReason::CidrNotGranted, field, message);
        } else if !granted_elsewhere && !environment.permissive && !environment.mesh.grants_cidr(&key.namespace, &cidr)
        {
            let message = format!("mesh.yaml does not grant {cidr} to {}; have it added to its cidrs", key.namespace);
            problems.block(ObjectReason::CidrNotGranted, field, message);
        } else {
            allowed.push(cidr);
        }
    }
    allowed
}

fn target_of(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &DestinationSpec,
    share: Share,
    allow: &[IpNet],
    problems: &mut Problems,
) -> Option<Target> {
    match (&spec.target.service, &spec.target.url) {
        // A Service is private, and reaching what is private is what the egress is for: the intake, which the world can
        // reach, is kept away from it.
        (Some(_), None) if spec.mode == zen_crds::Mode::Direct => {
            let message = "mode Direct delivers to a url only; use mode Egress for a Service";
            problems.block(ObjectReason::TargetNotAllowed, "spec.mode", message);
            None
        }
        (Some(service), None) => service_target(resolver, key, service, share, allow, problems),
        (None, Some(url)) => url_target(url, allow, problems),
        _ => {
            let message = "spec.target must have exactly one of service and url";
            problems.block(ObjectReason::Invalid, "spec.target", message);
            None
        }
    }
}

fn url_target(url: &str, allow: &[IpNet], problems: &mut Problems) -> Option<Target> {
    let mut refuse = |message: String| problems.block(ObjectReason::TargetNotAllowed, "spec.target.url", message);
    let canonical = match target::canonical(url) {
        Ok(canonical) => canonical,
        Err(message) => {
            refuse(format!("the URL {message}"));
            return None;
        }
    };
    if !canonical.tls && allow.is_empty() {
        refuse(
            "the URL is http, which is only taken into networks that network.allowCidrs lists; use https".to_owned(),
        );
        return None;
    }
    if let Some(address) = canonical.literal
        && !network::is_listed(address, allow)
    {
        refuse(format!(
            "the URL names the address {address}, which network.allowCidrs does not list; use a name or list it"
        ));
        return None;
    }
    let is_local = canonical.host == "localhost" || canonical.host.ends_with(".localhost");
    if is_local && !allow.iter().any(|net| LOOPBACK.iter().any(|local| net.contains(local) || local.contains(net))) {
        refuse(format!(
            "the URL names {}, and network.allowCidrs does not list 127.0.0.0/8 or ::1/128",
            canonical.host
        ));
        return None;
    }
    let target::Canonical { tls, host, port, path_and_query, .. } = canonical;
    Some(Target::Url { tls, host, port, path_and_query })
}

const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
];

fn service_target(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &zen_crds::ServiceTarget,
    share: Share,
    allow: &[IpNet],
    problems: &mut Problems,
) -> Option<Target> {
    let service = ObjectKey::new(key.namespace.clone(), &*spec.name);
    let found = if share == Share::Full { resolver.service(&service, spec.port) } else { Ok(Vec::new()) };
    let addresses = match found {
        Ok(addresses) => addresses,
        Err(Unresolved::ExternalName) => {
            let message =
                format!("Service {service} is of type ExternalName, which is never a target; use url instead");
            problems.block(ObjectReason::TargetNotAllowed, "spec.target.service.name", message);
            return None;
        }
        // The Destination is in effect without addresses: events wait until the Service is there.
        Err(Unresolved::Missing) => {
            let or = match resolver.environment.mode {
                Mode::Standalone => format!(", or run zen up with --service {service}=HOST:PORT"),
                Mode::Cluster(_) => String::new(),
            };
            let message = format!("Service {service} does not exist, so events wait; create it{or}");
            problems.note(ObjectReason::RefNotFound, "spec.target.service.name", message);
            Vec::new()
        }
        Err(Unresolved::NoSuchPort) => {
            let message = format!("Service {service} has no port {}, so events wait; correct the port", spec.port);
            problems.note(ObjectReason::RefNotFound, "spec.target.service.port", message);
            Vec::new()
        }
    };
    let (allowed, refused): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| network::check(address.socket.ip(), allow, address.trusted).is_ok());
    if let Some(address) = refused.first() {
        let message = format!(
            "Service {service} has {}, behind which is no pod and which network.allowCidrs does not list; it gets nothing",
            address.socket.ip()
        );
        problems.note(ObjectReason::TargetNotAllowed, "spec.target.service.name", message);
    }
    let path = match target::percent_canonical(&spec.path) {
        Ok(path) if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => path,
        _ => {
            let message = "the path must begin with / and hold no space, fragment or broken percent sign";
            problems.block(ObjectReason::Invalid, "spec.target.service.path", message);
            return None;
        }
    };
    Some(Target::Service {
        tls: spec.scheme == zen_crds::Scheme::Https,
        host: format!("{}.{}.svc", service.name, service.namespace),
        port: spec.port,
        addresses: allowed.into(),
        path_and_query: path,
    })
}

fn client_config(
    resolver: &mut Resolver<'_, '_>,
    key: &ObjectKey,
    spec: &DestinationSpec,
    target: Option<&Target>,
    problems: &mut Problems,
) -> Option<Arc<rustls::ClientConfig>> {
    let (Target::Url { tls, .. } | Target::Service { tls, .. }) = target?;
    if !tls {
        if spec.tls.is_some() {
            problems.note(
                ObjectReason::NoEffect,
                "spec.tls",
                "the target is plain http, so spec.tls has no effect; use https",
            );
        }
        return None;
    }
    let roots = match spec.tls.as_ref().and_then(|tls| tls.ca_ref.as_ref()) {
        Some(source) => Some(credentials::ca(resolver, key, source, problems)?),
        None => None,
    };
    let identity = match spec.tls.as_ref().and_then(|tls| tls.client_certificate_ref.as_ref()) {
        Some(reference) => Some(credentials::identity(resolver, key, reference, problems)?),
        None => None,
    };
    if resolver.environment.mode.assumes() {
        return None;
    }
    let identity = identity.as_ref().map(|(chain, key)| tls::Identity { chain: chain.expose(), key: key.expose() });
    match tls::client_config(roots.as_deref(), identity) {
        Ok(config) => Some(config),
        Err(error) => {
            let field = if error == tls::Error::Roots { "spec.tls.caRef" } else { "spec.tls.clientCertificateRef" };
            problems.block(ObjectReason::BadCertificate, field, format!("{field}: {error}"));
            None
        }
    }
}

type Headers = (Vec<http::HeaderName>, Vec<(http::HeaderName, http::HeaderValue)>);

fn header_rules(spec: &DestinationSpec, problems: &mut Problems) -> Headers {
    let (mut forward, mut set) = (Vec::new(), Vec::new());
    let Some(spec) = &spec.headers else { return (forward, set) };
    for (index, name) in spec.forward.iter().enumerate() {
        match headers::forwardable(name) {
            Ok(name) => forward.push(name),
            Err(message) => problems.block(ObjectReason::Invalid, format!("spec.headers.forward[{index}]"), message),
        }
    }
    for (name, value) in &spec.set {
        match headers::settable(name, value) {
            Ok(header) => set.push(header),
            Err(message) => problems.block(ObjectReason::Invalid, format!("spec.headers.set.{name}"), message),
        }
    }
    forward.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    forward.dedup();
    (forward, set)
}

/// Times, sizes and counts, within the bounds that the program relies on.
struct Limits {
    connect: Duration,
    request: Duration,
    max_response: usize,
    concurrency: usize,
    transient: retry::Policy,
    throttled: retry::Policy,
    breaker: breaker::Settings,
    retention: Duration,
}

impl Limits {
    fn read(spec: &DestinationSpec, problems: &mut Problems) -> Option<Self> {
        let delivery = &spec.delivery;
        let (transient, throttled) = (&delivery.retry.transient, &delivery.retry.throttled);
        let breaker = &delivery.circuit_breaker;
        let mut duration = |field: &str, text: &DurationText| problems.valid(field, text.to_duration());
        let connect = duration("spec.delivery.timeouts.connect", &delivery.timeouts.connect);
        let request = duration("spec.delivery.timeouts.request", &delivery.timeouts.request);
        let initial = duration("spec.delivery.retry.transient.initial", &transient.initial);
        let within = duration("spec.delivery.retry.transient.within", &transient.within);
        let throttled_within = duration("spec.delivery.retry.throttled.within", &throttled.within);
        let open_for = duration("spec.delivery.circuitBreaker.openFor", &breaker.open_for);
        let hold = duration("spec.delivery.circuitBreaker.hold", &breaker.hold);
        let retention = duration("spec.deadLetter.retention", &spec.dead_letter.retention);
        let max_response = problems.valid("spec.delivery.maxResponse", delivery.max_response.to_bytes());
        for (field, fits) in [
            ("spec.delivery.retry.transient.attempts must be at least 1", transient.attempts >= 1),
            ("spec.delivery.retry.throttled.attempts must be at least 1", throttled.attempts >= 1),
            ("spec.delivery.retry.transient.factor must be between 1 and 10", (1.0..=10.0).contains(&transient.factor)),
            ("spec.delivery.circuitBreaker.failures must be at least 1", breaker.failures >= 1),
            ("spec.delivery.concurrency must be at least 1", delivery.concurrency >= 1),
        ] {
            if !fits {
                problems.block(ObjectReason::Invalid, field.split(' ').next().unwrap_or_default(), field);
            }
        }
        if connect > request {
            let field = "spec.delivery.timeouts.connect";
            problems.note(
                ObjectReason::NoEffect,
                field,
                "timeouts.connect is longer than timeouts.request, which ends the attempt first",
            );
        }
        Some(Self {
            connect: connect?,
            request: request?,
            max_response: usize::try_from(max_response?).unwrap_or(usize::MAX),
            concurrency: usize::try_from(delivery.concurrency).unwrap_or(usize::MAX),
            transient: retry::Policy {
                attempts: transient.attempts,
                initial: initial?,
                factor: transient.factor,
                within: within?,
            },
            throttled: retry::Policy {
                attempts: throttled.attempts,
                within: throttled_within?,
                ..retry::Policy::THROTTLED
            },
            breaker: breaker::Settings { failures: breaker.failures, open_for: open_for?, hold: hold? },
            retention: retention?,
        })
    }
}
