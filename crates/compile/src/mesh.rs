//! The mesh configuration, `mesh.yaml`: what namespaces may use beyond their own prefix and public targets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value};
use zen_model::{Namespace, ObjectReason};

use crate::{Problem, network};

/// Trust domain where none is configured.
pub const TRUST_DOMAIN: &str = "zen-mesh.local";

/// A checked mesh configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// What each namespace was granted.
    pub grants: BTreeMap<Namespace, Grant>,
    /// Names of the rate limit buckets; the limits themselves are not built yet, and a Webhook that names one is refused.
    pub buckets: BTreeSet<String>,
    /// Lifetime of workload certificates.
    pub certificate_lifetime: Duration,
    /// Who signs them; none: the mesh itself.
    pub cert_manager: Option<CertManager>,
    /// How long intake goes on after readiness is withdrawn.
    pub drain_delay: Duration,
}

/// A cert-manager issuer, and what it signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertManager {
    /// The issuer's name.
    pub name: String,
    /// `Issuer` of the release namespace, `ClusterIssuer`, or a kind of another group.
    pub kind: String,
    /// `cert-manager.io`, or another issuer's API group.
    pub group: String,
    /// The certificates of its issuing CA, PEM: leaves are taken from these alone.
    pub ca: String,
}

/// What one namespace was granted; several entries of one namespace add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Hosts in lower case; `*.example.com` stands for one label more.
    pub hosts: BTreeSet<String>,
    /// Networks that `network.allowCidrs` may name.
    pub cidrs: BTreeSet<IpNet>,
    /// Quota of waiting bytes.
    pub bytes: Option<u64>,
}

impl Default for Config {
    /// A cluster's defaults: nothing granted.
    fn default() -> Self {
        Self {
            trust_domain: TRUST_DOMAIN.to_owned(),
            grants: BTreeMap::new(),
            buckets: BTreeSet::new(),
            certificate_lifetime: Duration::from_hours(1),
            cert_manager: None,
            drain_delay: Duration::from_secs(5),
        }
    }
}

impl Grant {
    fn has_host(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.hosts.contains(host) || parent.is_some_and(|wildcard| self.hosts.contains(&wildcard))
    }
}

impl Config {
    /// Whether a host was granted to a namespace.
    pub fn grants_host(&self, namespace: &Namespace, host: &str) -> bool {
        self.grants.get(namespace).is_some_and(|grant| grant.has_host(host))
    }

    /// Whether a host was granted to other namespaces only.
    pub fn grants_host_to_others(&self, namespace: &Namespace, host: &str) -> bool {
        !self.grants_host(namespace, host) && self.grants.values().any(|grant| grant.has_host(host))
    }

    /// Whether a network lies within one that was granted to a namespace.
    pub fn grants_cidr(&self, namespace: &Namespace, cidr: &IpNet) -> bool {
        self.grants.get(namespace).is_some_and(|grant| grant.cidrs.iter().any(|outer| network::within(cidr, outer)))
    }

    /// Reads `mesh.yaml`. Every problem is reported, none is passed over: a grant that was misspelt must not become a
    /// refusal that nobody understands, nor the other way round.
    pub fn from_json(value: &Value) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        let config = reader.config(value);
        if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn config(&mut self, value: &Value) -> Config {
        let mut config = Config::default();
        let empty = Map::new();
        let fields = if value.is_null() { &empty } else { self.map("", value).unwrap_or(&empty) };
        for (field, value) in fields {
            match field.as_str() {
                "trustDomain" => match value.as_str().filter(|text| is_trust_domain(text)) {
                    Some(text) => text.clone_into(&mut config.trust_domain),
                    None => self.invalid(field, "trustDomain must be a DNS name in lower case such as zen-mesh.local"),
                },
                "grants" => {
                    for (index, entry) in self.list(field, value).iter().enumerate() {
                        self.grant(&format!("grants[{index}]"), entry, &mut config.grants);
                    }
                }
                "buckets" => {
                    if let Some(buckets) = self.map(field, value) {
                        for (name, bucket) in buckets {
                            self.bucket(&format!("buckets.{name}"), bucket);
                            config.buckets.insert(name.clone());
                        }
                    }
                }
                "certificates" => self.certificates(value, &mut config),
                "drainDelay" => config.drain_delay = self.duration(field, value).unwrap_or(config.drain_delay),
                _ => self.unknown("", field),
            }
        }
        config
    }

    fn grant(&mut self, at: &str, value: &Value, grants: &mut BTreeMap<Namespace, Grant>) {
        let Some(fields) = self.map(at, value) else { return };
        let Some(namespace) = fields.get("namespace").and_then(Value::as_str).filter(|text| !text.is_empty()) else {
            return self.invalid(&format!("{at}.namespace"), "a grant must name its namespace");
        };
        let grant = grants.entry(Namespace::from(namespace)).or_default();
        for (field, value) in fields {
            let at = format!("{at}.{field}");
            match field.as_str() {
                "namespace" => {}
                "hosts" => {
                    for (index, host) in self.list(&at, value).iter().enumerate() {
                        match host.as_str().map(str::to_ascii_lowercase).filter(|host| is_host_pattern(host)) {
                            Some(host) => drop(grant.hosts.insert(host)),
                            None => self
                                .invalid(&format!("{at}[{index}]"), "a host must be a DNS name, or *. and a DNS name"),
                        }
                    }
                }
                "cidrs" => {
                    for (index, cidr) in self.list(&at, value).iter().enumerate() {
                        match cidr.as_str().and_then(parse_cidr) {
                            Some(cidr) => drop(grant.cidrs.insert(cidr)),
                            None => {
                                self.invalid(&format!("{at}[{index}]"), "a network must be written like 10.20.0.0/16");
                            }
                        }
                    }
                }
                "quota" => {
                    for (quota, value) in self.map(&at, value).into_iter().flatten() {
                        let field = format!("{at}.{quota}");
                        match quota.as_str() {
                            "bytes" => match quantity(value) {
                                Some(bytes) => grant.bytes = Some(bytes),
                                None => self.invalid(&field, "bytes must be a size such as 512Mi or 10Gi"),
                            },
                            _ => self.unknown(&at, quota),
                        }
                    }
                }
                _ => self.unknown_at(&at, field),
            }
        }
    }

    fn bucket(&mut self, at: &str, value: &Value) {
        for (field, value) in self.map(at, value).into_iter().flatten() {
            let at_field = format!("{at}.{field}");
            match field.as_str() {
                "requests" | "burst" if value.as_u64().is_some_and(|number| number > 0) => {}
                "requests" | "burst" => self.invalid(&at_field, "must be a whole number above zero"),
                "per" => drop(self.duration(&at_field, value)),
                _ => self.unknown(at, field),
            }
        }
    }

    fn certificates(&mut self, value: &Value, config: &mut Config) {
        let mut issuer = "built-in";
        let mut named = None;
        for (field, value) in self.map("certificates", value).into_iter().flatten() {
            match field.as_str() {
                "issuer" => match value.as_str() {
                    Some(text @ ("built-in" | "cert-manager")) => issuer = text,
                    _ => self.invalid("certificates.issuer", "issuer must be built-in or cert-manager"),
                },
                "certManager" => named = self.cert_manager(value),
                "lifetime" => {
                    let lifetime = self.duration("certificates.lifetime", value);
                    config.certificate_lifetime = lifetime.unwrap_or(config.certificate_lifetime);
                    if lifetime.is_some_and(|lifetime| lifetime < Duration::from_mins(5)) {
                        self.invalid("certificates.lifetime", "a lifetime below 5m leaves no time to renew");
                    }
                }
                _ => self.unknown("certificates", field),
            }
        }
        if issuer == "cert-manager" {
            if named.as_ref().is_none_or(|named| named.name.is_empty()) {
                self.invalid("certificates.certManager.name", "issuer cert-manager needs the name of an issuer");
            } else if named.as_ref().is_some_and(|named| !named.ca.contains("-----BEGIN CERTIFICATE-----")) {
                let message = "issuer cert-manager needs the certificate of the issuer's CA in PEM: leaves are taken from it alone";
                self.invalid("certificates.certManager.ca", message);
            }
            config.cert_manager = named;
        }
    }

    /// One without a name stands in the chart's values until somebody chooses it.
    fn cert_manager(&mut self, value: &Value) -> Option<CertManager> {
        let at = "certificates.certManager";
        let mut named = CertManager {
            name: String::new(),
            kind: "Issuer".to_owned(),
            group: "cert-manager.io".to_owned(),
            ca: String::new(),
        };
        for (field, value) in self.map(at, value)? {
            let into = match field.as_str() {
                "name" => &mut named.name,
                "kind" => &mut named.kind,
                "group" => &mut named.group,
                "ca" => &mut named.ca,
                _ => {
                    self.unknown(at, field);
                    continue;
                }
            };
            match value.as_str() {
                Some(text) => text.clone_into(into),
                None => self.invalid(&format!("{at}.{field}"), "must be a text"),
            }
        }
        for (field, text) in [("kind", &named.kind), ("group", &named.group)] {
            if text.is_empty() {
                self.invalid(&format!("{at}.{field}"), "must not be empty");
            }
        }
        Some(named)
    }

    fn map<'a>(&mut self, at: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        if value.as_object().is_none() {
            self.invalid(at, "must be a map");
        }
        value.as_object()
    }

    fn list<'a>(&mut self, at: &str, value: &'a Value) -> &'a [Value] {
        if value.as_array().is_none() {
            self.invalid(at, "must be a list");
        }
        value.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn duration(&mut self, at: &str, value: &Value) -> Option<Duration> {
        let duration = match value.as_str() {
            Some("0s" | "0") => Some(Duration::ZERO),
            text => text.and_then(zen_crds::parse_duration),
        };
        if duration.is_none() {
            self.invalid(at, "must be a duration such as 500ms, 30s, 5m or 24h");
        }
        duration
    }

    fn invalid(&mut self, field: &str, message: &str) {
        self.problem(field, ObjectReason::Invalid, message);
    }

    fn unknown(&mut self, parent: &str, field: &str) {
        let at = if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") };
        self.unknown_at(&at, field);
    }

    fn unknown_at(&mut self, at: &str, field: &str) {
        let message = format!("the mesh configuration has no field {field:?} here; check its spelling");
        self.problems.push(Problem { field: at.to_owned(), reason: ObjectReason::UnknownField, message });
    }

    fn problem(&mut self, field: &str, reason: ObjectReason, message: &str) {
        let message = message.to_owned();
        self.problems.push(Problem { field: field.to_owned(), reason, message });
    }
}

/// A network; host bits beyond the prefix are refused by cutting them off, a single address is its own network.
pub(crate) fn parse_cidr(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))?;
    Some(net.trunc())
}

fn quantity(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => zen_crds::parse_quantity(text),
        _ => value.as_u64().filter(|bytes| *bytes > 0),
    }
}

/// SPIFFE-ID, section 2.1: lower-case letters, digits, dots, dashes and underscores, at most 255.
fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_host_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(value: &Value) -> (String, ObjectReason) {
        let problems = Config::from_json(value).expect_err("refused");
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].field.clone(), problems[0].reason)
    }

    #[test]
    fn the_documented_file() {
        let config = Config::from_json(&json!({
            "trustDomain": "zen-mesh.local",
            "grants": [
                {"namespace": "team-a", "hosts": ["hooks.example.com"], "cidrs": ["10.20.0.0/16"], "quota": {"bytes": "10Gi"}},
                {"namespace": "team-a", "hosts": ["*.a.example.com"]},
            ],
            "buckets": {"default": {"requests": 1000, "per": "1s", "burst": 2000}},
            "certificates": {"issuer": "built-in", "lifetime": "1h"},
            "drainDelay": "5s",
        }))
        .expect("valid");
        let (a, b) = (Namespace::from("team-a"), Namespace::from("team-b"));
        assert!(config.grants_host(&a, "hooks.example.com") && !config.grants_host(&b, "hooks.example.com"));
        assert!(config.grants_host(&a, "x.a.example.com") && !config.grants_host(&a, "y.x.a.example.com"));
        assert!(
            config.grants_host_to_others(&b, "hooks.example.com") && !config.grants_host_to_others(&b, "other.example")
        );
        assert!(config.grants_cidr(&a, &"10.20.3.0/24".parse().expect("net")));
        assert!(!config.grants_cidr(&a, &"10.0.0.0/8".parse().expect("net")));
        assert_eq!(config.grants[&a].bytes, Some(10 << 30));
        assert_eq!(Config::from_json(&Value::Null).expect("an empty file"), Config::default());
    }

    #[test]
    fn refusals() {
        use ObjectReason::{Invalid, UnknownField};
        for (value, field, expected) in [
            (json!([]), "", Invalid),
            (json!({"trustdomain": "x"}), "trustdomain", UnknownField),
            (json!({"trustDomain": "X"}), "trustDomain", Invalid),
            (json!({"grants": {}}), "grants", Invalid),
            (json!({"grants": [{"hosts": []}]}), "grants[0].namespace", Invalid),
            (json!({"grants": [{"namespace": "a", "host": []}]}), "grants[0].host", UnknownField),
            (json!({"grants": [{"namespace": "a", "hosts": ["a/b"]}]}), "grants[0].hosts[0]", Invalid),
            (json!({"grants": [{"namespace": "a", "cidrs": ["10.0.0.0/40"]}]}), "grants[0].cidrs[0]", Invalid),
            (json!({"grants": [{"namespace": "a", "quota": {"bytes": "many"}}]}), "grants[0].quota.bytes", Invalid),
            (json!({"grants": [{"namespace": "a", "quota": {"events": 5}}]}), "grants[0].quota.events", UnknownField),
            (json!({"buckets": {"b": {"requests": 0}}}), "buckets.b.requests", Invalid),
            (json!({"buckets": {"b": {"rate": 1}}}), "buckets.b.rate", UnknownField),
            (json!({"certificates": {"issuer": "cert-manager"}}), "certificates.certManager.name", Invalid),
            (
                json!({"certificates": {"issuer": "cert-manager", "certManager": {"name": "ca"}}}),
                "certificates.certManager.ca",
                Invalid,
            ),
            (json!({"certificates": {"certManager": {"kind": ""}}}), "certificates.certManager.kind", Invalid),
            (json!({"certificates": {"certManager": {"name": 1}}}), "certificates.certManager.name", Invalid),
            (json!({"certificates": {"certManager": {"x": ""}}}), "certificates.certManager.x", UnknownField),
            (json!({"certificates": {"issuer": "x"}}), "certificates.issuer", Invalid),
            (json!({"certificates": {"lifetime": "1m"}}), "certificates.lifetime", Invalid),
            (json!({"drainDelay": 5}), "drainDelay", Invalid),
        ] {
            assert_eq!(reason(&value), (field.to_owned(), expected), "{value}");
        }
    }
}
