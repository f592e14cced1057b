//! What a request or a delivery looks things up in. Everything is prepared; unchanged parts keep their `Arc`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use zen_model::{ClusterId, Namespace, ObjectKey, ObjectReason, Secret, breaker, retry};
use zen_verify::{Answer, Source, Verifier};

use crate::{Cache, DeliveryMode, Enrolled};

/// One configuration in effect. Swapped whole; a request sees one snapshot from beginning to end.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts configurations since the process began.
    pub generation: u64,
    /// Webhooks by path, then by host; the owner of this crate chooses the exact map so that one request costs one or
    /// two lookups and no allocation.
    pub routes: RoutingTable,
    /// Every Webhook that could be read, served or not, by key.
    pub webhooks: BTreeMap<ObjectKey, Arc<Webhook>>,
    /// Every Destination in effect.
    pub destinations: HashMap<ObjectKey, Arc<Destination>>,
    /// Destinations that exist and cannot be used, with the first reason: events for them wait. One that is in neither
    /// map was deleted.
    pub unusable: BTreeMap<ObjectKey, ObjectReason>,
    /// Member clusters: at the hub, for whoever keeps events for them or speaks of them.
    pub clusters: BTreeMap<ClusterId, Arc<Enrolled>>,
    /// Which cluster this is at its hub; none at the hub itself.
    pub member: Option<ClusterId>,
    /// Mesh-wide settings.
    pub mesh: Mesh,
    /// What the next compilation takes over from this one.
    pub cache: Cache,
}

impl Snapshot {
    /// The same, to go on from.
    pub(crate) fn again(&self) -> Self {
        Self {
            generation: self.generation,
            routes: self.routes.clone(),
            webhooks: self.webhooks.clone(),
            destinations: self.destinations.clone(),
            unusable: self.unusable.clone(),
            clusters: self.clusters.clone(),
            member: self.member.clone(),
            mesh: self.mesh.clone(),
            cache: self.cache.clone(),
        }
    }

    /// The Webhook served at this `Host` (port removed, lower case) and undecoded path.
    pub fn webhook(&self, host: &str, path: &str) -> Option<&Arc<Webhook>> {
        self.routes.find(host, path)
    }

    /// A Destination.
    pub fn destination(&self, key: &ObjectKey) -> Option<&Arc<Destination>> {
        self.destinations.get(key)
    }
}

/// Host and path → Webhook.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable {
    pub(crate) paths: HashMap<Arc<str>, Arc<[Served]>>,
}

/// A host, none for any, and what is served there.
type Served = (Option<Box<str>>, Arc<Webhook>);

impl RoutingTable {
    /// Exact host before any host.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Webhook>> {
        let entries = self.paths.get(path)?;
        entries
            .iter()
            .find(|(wanted, _)| wanted.as_deref() == Some(host))
            .or_else(|| entries.iter().find(|(wanted, _)| wanted.is_none()))
            .map(|(_, webhook)| webhook)
    }
}

/// A Webhook, ready for requests.
#[derive(Debug)]
pub struct Webhook {
    /// Its name.
    pub key: ObjectKey,
    /// Identity of the configuration: changes whenever anything below does, a secret included. Not for publication.
    pub revision: u64,
    /// The path it is served at.
    pub path: String,
    /// The hosts it is served at; empty: any.
    pub hosts: Vec<String>,
    /// The preset's name, for metrics and status.
    pub provider: &'static str,
    /// What the intake does with a request that reaches it.
    pub serving: Serving,
    /// Largest body in bytes.
    pub max_body: usize,
    /// Sources that may send; empty: any.
    pub sources: Vec<IpNet>,
    /// Accepted media types (type/subtype in lower case, no parameters); empty: any.
    pub content_types: Vec<String>,
    /// CloudEvents type; none: `<preset>.event`.
    pub event_type: Option<Source>,
    /// CloudEvents id; none: generated.
    pub event_id: Option<Source>,
    /// CloudEvents source.
    pub event_source: String,
    /// Idempotency key and window.
    pub idempotency: Option<(Source, Duration)>,
    /// What the source hears when the event is stored.
    pub answer: Answer,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Where no route has conditions: the Destinations of all of them, each once. See [`Webhook::select`].
    pub unconditional: Option<Vec<ObjectKey>>,
    /// Whether a pointer of event, idempotency or a match needs the body parsed as JSON.
    pub needs_json: bool,
    /// Headers to keep with an event: the safe defaults and what the Destinations of the routes may forward, without
    /// the verifier's secret headers, `authorization`, cookies and hop-by-hop ones. Sorted.
    pub kept_headers: Vec<HeaderName>,
    /// Labels of the secrets by index, for status.
    pub secret_labels: Vec<String>,
}

/// What the intake does with a request for a Webhook.
#[derive(Debug)]
pub enum Serving {
    /// Verifies and stores it.
    Active(Verifier),
    /// Answers `Inactive`.
    Inactive,
    /// Answers `NotConfigured`: something it needs is missing or wrong.
    Invalid(ObjectReason),
}

/// One route of a Webhook.
#[derive(Debug)]
pub struct Route {
    /// All must hold; empty: always.
    pub matches: Vec<Match>,
    /// Destinations with consent, in effect or not: an event for one that is missing waits in the queue.
    pub destinations: Vec<ObjectKey>,
}

/// One condition of a route.
#[derive(Debug)]
pub enum Match {
    /// The event type is one of these.
    EventType(Vec<String>),
    /// A value of the JSON body.
    Pointer(String, Test),
    /// A request header, name in lower case.
    Header(HeaderName, Test),
}

/// What is asked of a value.
#[derive(Debug)]
pub enum Test {
    /// Equal to this.
    Equals(serde_json::Value),
    /// Equal to one of these.
    In(Vec<serde_json::Value>),
    /// A string that begins so.
    Prefix(String),
    /// Present (true) or absent (false).
    Exists(bool),
}

/// A Destination, ready for attempts.
#[derive(Debug)]
pub struct Destination {
    /// Its name.
    pub key: ObjectKey,
    /// Changes whenever anything below does: connection pools are kept per revision.
    pub revision: u64,
    /// Who attempts its deliveries.
    pub mode: DeliveryMode,
    /// Mode `Relay`: whose egress attempts them.
    pub cluster: Option<ClusterId>,
    /// Events wait, nothing is attempted.
    pub paused: bool,
    /// Where it goes.
    pub target: Target,
    /// Namespaces that may route here beside its own; checked again when a delivery is leased.
    pub allow_from: Vec<Namespace>,
    /// TLS towards the target; none for plain http.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Name to verify in the target's certificate.
    pub server_name: String,
    /// A header with credentials, marked sensitive.
    pub authentication: Option<(HeaderName, HeaderValue)>,
    /// Standard Webhooks keys, newest first: raw key bytes (after `whsec_` and base64).
    pub signing: Vec<Secret>,
    /// Received headers to pass on beside the safe defaults. Sorted.
    pub forward: Vec<HeaderName>,
    /// Headers to set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// How CloudEvents are written.
    pub format: Format,
    /// Whether the target may see an event twice without harm.
    pub idempotent: bool,
    /// TCP and TLS.
    pub connect_timeout: Duration,
    /// The whole request, connect included.
    pub request_timeout: Duration,
    /// Bytes of the response that are read.
    pub max_response: usize,
    /// Attempts at one time.
    pub concurrency: usize,
    /// Retry after transient failures.
    pub transient: retry::Policy,
    /// Retry after throttling.
    pub throttled: retry::Policy,
    /// Breaker.
    pub breaker: breaker::Settings,
    /// What the SSRF guard may let through beside public addresses.
    pub allow_cidrs: Vec<IpNet>,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
}

/// Where deliveries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A URL: the host is resolved at connect time and guarded.
    Url {
        /// Whether TLS is spoken.
        tls: bool,
        /// Host name (A-label) or address, canonical.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, at least `/`.
        path_and_query: String,
    },
    /// A Service: its addresses come from EndpointSlices or `--service`.
    Service {
        /// Whether TLS is spoken.
        tls: bool,
        /// `name.namespace.svc`.
        host: String,
        /// The Service's port.
        port: u16,
        /// Ready addresses; empty: none yet, deliveries are held.
        addresses: Arc<[Address]>,
        /// Path and query, at least `/`.
        path_and_query: String,
    },
}

/// An address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where to connect to.
    pub socket: SocketAddr,
    /// A pod stands behind it, or the command line names it: no CIDR grant is needed. Any other passes the SSRF guard at
    /// each connect, as if a URL named it (D-01).
    pub trusted: bool,
}

/// How CloudEvents are written to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary mode: `ce-*` headers, body byte for byte.
    Raw,
    /// `application/cloudevents+json`.
    Structured,
}

/// Mesh-wide settings of `mesh.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mesh {
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// Byte quotas of waiting events by namespace.
    pub quotas: BTreeMap<Namespace, u64>,
    /// SIGTERM: how long intake goes on after readiness is withdrawn.
    pub drain_delay: Duration,
    /// Lifetime of workload certificates.
    pub certificate_lifetime: Duration,
}

/// What the compiler says about one object.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `Webhook`, `Destination`, `Secret`, ….
    pub kind: &'static str,
    /// The object.
    pub key: ObjectKey,
    /// Whether it does its work, be it with problems: a Webhook that serves, a Destination that is attempted.
    pub serving: bool,
    /// `metadata.uid` of the object that this is about; none in a folder.
    pub uid: Option<Arc<str>>,
    /// `metadata.generation` of the object that this is about; none in a folder.
    pub observed_generation: Option<i64>,
    /// Problems and warnings; empty: in effect without remark.
    pub problems: Arc<[Problem]>,
}

impl Verdict {
    /// Nothing worse than a warning.
    pub fn accepted(&self) -> bool {
        self.problems.iter().all(|problem| problem.reason.is_warning())
    }
}

/// One problem of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, e.g. `spec.verification.provider`.
    pub field: String,
    /// Stable code.
    pub reason: ObjectReason,
    /// What is wrong, in a sentence; no secret.
    pub message: String,
}
