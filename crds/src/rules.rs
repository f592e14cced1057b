//! Rules that concern more than one field. Each is declared once: the CEL expression that the API server evaluates, the
//! message that both give, and the same rule in Rust. The API server's test in `e2e` holds the two against each other.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::units::{parse_duration, parse_quantity};

/// A rule of one place in a schema.
#[derive(Debug)]
pub struct Rule {
    /// For the API server. `self` is the place that carries the rule. A rule of a place that has the default `{}` asks
    /// with `has` first: the API server checks that default before it fills in those below. And it asks for the form
    /// first where it converts: the API server evaluates it although a pattern was not matched.
    pub cel: &'static str,
    /// What is wrong when it does not hold.
    pub message: &'static str,
    /// The field below that place to which an answer points, such as `cluster`; empty: the place itself.
    pub field: &'static str,
    /// The same for [`crate::validate()`]. Defaults are filled in; it is total, whatever the value.
    pub holds: fn(&Value) -> bool,
}

impl Rule {
    const fn new(cel: &'static str, message: &'static str, holds: fn(&Value) -> bool) -> Self {
        Self { cel, message, field: "", holds }
    }

    const fn at(self, field: &'static str) -> Self {
        Self { field, ..self }
    }
}

/// Every rule of every kind.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        SECRET_SOURCE,
        CA_SOURCE,
        KEY_SOURCE,
        CIDR,
        VALUE_SOURCE,
        LIMITS,
        PAYLOAD_SCHEMA,
        MATCH,
        VERIFICATION,
        GENERIC,
        API_KEY,
        DESTINATION,
        TARGET,
        AUTHENTICATION,
        FORWARDED_HEADER,
        HEADERS,
        DELIVERY,
        TIMEOUTS,
        TRANSIENT_RETRY,
        CLUSTER_ENROLLMENT,
    ]
    .into_iter()
    .flatten()
}

/// Value of `x-kubernetes-validations`.
pub(crate) fn schema(rules: &[Rule]) -> Value {
    let entries = rules.iter().map(|rule| {
        let mut entry = Map::new();
        entry.insert("rule".to_owned(), rule.cel.into());
        entry.insert("message".to_owned(), rule.message.into());
        if !rule.field.is_empty() {
            entry.insert("fieldPath".to_owned(), format!(".{}", rule.field).into());
        }
        Value::Object(entry)
    });
    entries.collect()
}

pub(crate) static SECRET_SOURCE: &[Rule] = &[Rule::new(
    "has(self.secretRef) != has(self.zenLockRef)",
    "exactly one of secretRef and zenLockRef is required",
    |value| count(value, &["secretRef", "zenLockRef"]) == 1,
)];

pub(crate) static CA_SOURCE: &[Rule] = &[Rule::new(
    "has(self.configMapRef) != has(self.secretRef)",
    "exactly one of configMapRef and secretRef is required",
    |value| count(value, &["configMapRef", "secretRef"]) == 1,
)];

pub(crate) static KEY_SOURCE: &[Rule] =
    &[Rule::new("has(self.header) != has(self.pointer)", "exactly one of header and pointer is required", |value| {
        count(value, &["header", "pointer"]) == 1
    })];

pub(crate) static CIDR: &[Rule] =
    &[Rule::new("isCIDR(self)", "must be an address range such as 10.20.0.0/16 or 2001:db8::/32", |value| {
        value.as_str().is_none_or(is_cidr)
    })];

pub(crate) static VALUE_SOURCE: &[Rule] = &[Rule::new(
    "[has(self.header), has(self.pointer), has(self.value)].filter(set, set).size() == 1",
    "exactly one of header, pointer and value is required",
    |value| count(value, &["header", "pointer", "value"]) == 1,
)];

pub(crate) static LIMITS: &[Rule] = &[Rule::new(
    "!has(self.body) || !isQuantity(string(self.body)) || quantity(string(self.body)).compareTo(quantity('15Mi')) <= 0",
    "must be between 1 byte and 15Mi",
    |value| bytes(value, "body").is_none_or(|body| body <= 15 << 20),
)
.at("body")];

pub(crate) static PAYLOAD_SCHEMA: &[Rule] = &[Rule::new(
    "has(self.json) != has(self.configMapRef)",
    "exactly one of json and configMapRef is required",
    |value| count(value, &["json", "configMapRef"]) == 1,
)];

pub(crate) static MATCH: &[Rule] = &[Rule::new(
    "[has(self.eventType), has(self.pointer), has(self.header)].filter(set, set).size() == 1",
    "exactly one of eventType, pointer and header is required",
    |value| count(value, &["eventType", "pointer", "header"]) == 1,
)];

pub(crate) static VERIFICATION: &[Rule] = &[
    Rule::new(
        "(self.provider == 'generic') == has(self.generic)",
        "generic is required for provider generic, and only there",
        |value| is(value, "provider", "generic") == has(value, "generic"),
    ),
    Rule::new(
        "(self.provider == 'apiKey') == has(self.apiKey)",
        "apiKey is required for provider apiKey, and only there",
        |value| is(value, "provider", "apiKey") == has(value, "apiKey"),
    ),
    Rule::new(
        "!(self.provider in ['generic', 'basic', 'bearer', 'apiKey']) || (has(self.secrets) && self.secrets.size() > 0)",
        "providers generic, basic, bearer and apiKey need at least one secret",
        |value| {
            !["generic", "basic", "bearer", "apiKey"].iter().any(|provider| is(value, "provider", provider))
                || !list(value, "secrets").is_empty()
        },
    ),
    Rule::new(
        "self.provider != 'none' || !has(self.secrets) || self.secrets.size() == 0",
        "provider none takes no secrets",
        |value| !is(value, "provider", "none") || list(value, "secrets").is_empty(),
    ),
    Rule::new(
        "self.provider == 'basic' || !has(self.secrets) || self.secrets.all(secret, \
         (!has(secret.secretRef) || has(secret.secretRef.key)) && (!has(secret.zenLockRef) || has(secret.zenLockRef.key)))",
        "each secret needs a key, except for provider basic",
        |value| {
            let keyed = |secret: &Value, name: &str| secret.get(name).is_none_or(|reference| has(reference, "key"));
            is(value, "provider", "basic")
                || list(value, "secrets").iter().all(|it| keyed(it, "secretRef") && keyed(it, "zenLockRef"))
        },
    )
    .at("secrets"),
];

pub(crate) static GENERIC: &[Rule] = &[
    Rule::new(
        "has(self.timestamp) == self.signedContent.contains('{timestamp}')",
        "timestamp is required where signedContent has {timestamp}, and only there",
        |value| has(value, "timestamp") == text(value, "signedContent").contains("{timestamp}"),
    ),
    Rule::new(
        "has(self.nonce) == self.signedContent.contains('{nonce}')",
        "nonce is required where signedContent has {nonce}, and only there",
        |value| has(value, "nonce") == text(value, "signedContent").contains("{nonce}"),
    ),
];

pub(crate) static API_KEY: &[Rule] =
    &[Rule::new("has(self.header) != has(self.query)", "exactly one of header and query is required", |value| {
        count(value, &["header", "query"]) == 1
    })];

pub(crate) static DESTINATION: &[Rule] = &[
    Rule::new(
        "!has(self.target.url) || !self.target.url.startsWith('http:') || \
         (has(self.network) && has(self.network.allowCidrs) && self.network.allowCidrs.size() > 0)",
        "an http URL needs network.allowCidrs; use https otherwise",
        |value| {
            !target_url(value).starts_with("http:")
                || value.get("network").is_some_and(|network| !list(network, "allowCidrs").is_empty())
        },
    )
    .at("target.url"),
    Rule::new(
        "(self.mode == 'Relay') == has(self.cluster)",
        "cluster is required for mode Relay, and only there",
        |value| is(value, "mode", "Relay") == has(value, "cluster"),
    ),
    Rule::new("self.mode != 'Direct' || has(self.target.url)", "mode Direct needs target.url", |value| {
        !is(value, "mode", "Direct") || !target_url(value).is_empty()
    })
    .at("mode"),
    Rule::new(
        "!has(self.tls) || ((!has(self.target.url) || self.target.url.startsWith('https:')) && \
         (!has(self.target.service) || self.target.service.scheme == 'https'))",
        "tls is only for https targets",
        |value| {
            let service = value.get("target").and_then(|target| target.get("service"));
            !has(value, "tls")
                || (!target_url(value).starts_with("http:") && !service.is_some_and(|it| is(it, "scheme", "http")))
        },
    )
    .at("tls"),
];

pub(crate) static TARGET: &[Rule] =
    &[Rule::new("has(self.service) != has(self.url)", "exactly one of service and url is required", |value| {
        count(value, &["service", "url"]) == 1
    })];

pub(crate) static AUTHENTICATION: &[Rule] = &[Rule::new(
    "[has(self.bearer), has(self.basic), has(self.header)].filter(set, set).size() == 1",
    "exactly one of bearer, basic and header is required",
    |value| count(value, &["bearer", "basic", "header"]) == 1,
)];

pub(crate) static FORWARDED_HEADER: &[Rule] = &[Rule::new(
    "!(self.lowerAscii() in ['authorization', 'cookie', 'proxy-authorization', 'connection', 'host', 'keep-alive', \
     'te', 'trailer', 'transfer-encoding', 'upgrade', 'content-length'])",
    "credentials, cookies and headers of the connection are never forwarded",
    |value| {
        value.as_str().is_none_or(|name| {
            let never = ["authorization", "cookie", "proxy-authorization", "connection", "host", "keep-alive"];
            let nor = ["te", "trailer", "transfer-encoding", "upgrade", "content-length"];
            !never.iter().chain(&nor).any(|header| header.eq_ignore_ascii_case(name))
        })
    },
)];

pub(crate) static HEADERS: &[Rule] = &[
    Rule::new(
        "!has(self.set) || self.set.all(name, name.size() <= 128 && name.matches('^[A-Za-z0-9!#$%&\\'*+.^_`|~-]+$'))",
        "each name must be a header name such as X-Env",
        |value| header_names(value).all(|name| (1..=128).contains(&name.len()) && name.bytes().all(is_token)),
    )
    .at("set"),
    Rule::new(
        "!has(self.set) || self.set.all(name, !(name.lowerAscii() in ['authorization', 'cookie', 'connection', 'host', \
         'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'content-length', 'content-type', \
         'x-zen-signature', 'webhook-id', 'webhook-timestamp', 'webhook-signature']) && \
         !name.lowerAscii().startsWith('ce-'))",
        "credentials belong into authentication; headers of the connection, of CloudEvents and signatures cannot be set",
        |value| {
            header_names(value).all(|name| {
                let name = name.to_ascii_lowercase();
                !RESERVED_HEADERS.contains(&name.as_str()) && !name.starts_with("ce-")
            })
        },
    )
    .at("set"),
];

/// What `headers.set` cannot set, beside `ce-*`.
const RESERVED_HEADERS: [&str; 15] = [
    "authorization",
    "cookie",
    "connection",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "x-zen-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

pub(crate) static DELIVERY: &[Rule] = &[Rule::new(
    "!has(self.maxResponse) || !isQuantity(string(self.maxResponse)) || quantity(string(self.maxResponse)).compareTo(quantity('1Mi')) <= 0",
    "must be between 1 byte and 1Mi",
    |value| bytes(value, "maxResponse").is_none_or(|size| size <= 1 << 20),
)
.at("maxResponse")];

pub(crate) static TIMEOUTS: &[Rule] = &[Rule::new(
    "!has(self.connect) || !has(self.request) || \
     ![self.connect, self.request].all(it, it.matches('^[1-9][0-9]{0,5}(ms|s|m|h)$')) || duration(self.connect) <= duration(self.request)",
    "connect must not be longer than request, which includes it",
    |value| not_longer(value, "connect", "request"),
)];

pub(crate) static TRANSIENT_RETRY: &[Rule] = &[Rule::new(
    "!has(self.initial) || !has(self.within) || \
         ![self.initial, self.within].all(it, it.matches('^[1-9][0-9]{0,5}(ms|s|m|h)$')) || duration(self.initial) <= duration(self.within)",
    "initial must not be longer than within",
    |value| not_longer(value, "initial", "within"),
)];

pub(crate) static CLUSTER_ENROLLMENT: &[Rule] = &[Rule::new(
    "!self.ttl.matches('^[1-9][0-9]{0,5}(ms|s|m|h)$') || duration(self.ttl) <= duration('24h')",
    "must be at most 24h",
    |value| parse_duration(text(value, "ttl")).is_none_or(|ttl| ttl.as_secs() <= 24 * 3600),
)
.at("ttl")];

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some()
}

fn count(value: &Value, fields: &[&str]) -> usize {
    fields.iter().filter(|field| has(value, field)).count()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is(value: &Value, field: &str, expected: &str) -> bool {
    text(value, field) == expected
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn target_url(destination: &Value) -> &str {
    destination.get("target").map_or("", |target| text(target, "url"))
}

fn header_names(headers: &Value) -> impl Iterator<Item = &String> {
    headers.get("set").and_then(Value::as_object).into_iter().flat_map(Map::keys)
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte)
}

fn not_longer(value: &Value, shorter: &str, longer: &str) -> bool {
    match (parse_duration(text(value, shorter)), parse_duration(text(value, longer))) {
        (Some(shorter), Some(longer)) => shorter <= longer,
        _ => true, // the pattern says so already
    }
}

fn bytes(value: &Value, field: &str) -> Option<u64> {
    match value.get(field)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => parse_quantity(text),
        _ => None,
    }
}

/// As the API server's `isCIDR`: an address and a prefix length in decimal; no zone, no IPv4-mapped IPv6.
fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let decimal = !length.is_empty()
        && length.len() <= 3
        && length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let length = if decimal { length.parse::<u8>().unwrap_or(u8::MAX) } else { u8::MAX };
    if let Ok(_v4) = address.parse::<Ipv4Addr>() {
        return length <= 32;
    }
    address.parse::<Ipv6Addr>().is_ok_and(|v6| v6.to_ipv4_mapped().is_none() && length <= 128)
}
