//! The identity service (T-02, T-03): a root CA, an issuing CA beneath it, the trust bundle, and certificates for the pods
//! of the mesh.
//!
//! Every replica issues: it follows the issuing CA and the trust bundle. The leader alone makes and renews them, and only
//! it ever reads the root's key, once at the start and once for each issuing CA. What there is to do is decided by
//! a pure function; nothing is ever written over something that cannot be read.

mod audit;
mod cert_manager;
mod decide;
pub(crate) mod follow;
mod keep;
mod limit;
mod member;
mod metrics;
mod next;
mod own;
mod root;
mod service;
mod source;
mod trusted;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use zen_compile::mesh::CertManager;
use zen_identity::client::Clock;
use zen_identity::{Component, Mesh};
use zen_model::Timestamp;
use zen_model::signing::Versions;
use zen_pki::{Ca, Identity, TrustDomain, TrustRoots, bundle};
use zen_pod::audit::Entries;
use zen_rotation::{Phase, record};

use crate::{Writer, names};
pub(crate) use audit::administered;
pub(crate) use follow::Seen;
pub(crate) use member::MemberRoot;
pub(crate) use next::{Error as NextError, Next};
pub(crate) use root::Roots;
pub use source::Source;

/// Secret with the root CA (`tls.crt`, `tls.key`), unless it comes from a folder.
pub const CA: &str = "zen-mesh-ca";
/// Secret with the root CA that comes in its place, while that is exchanged.
pub const CA_NEXT: &str = "zen-mesh-ca-next";
/// Secret with the issuing CA (`tls.crt`, `tls.key`).
pub const ISSUER: &str = "zen-mesh-issuer";
/// Secret with the issuing CA that comes in its place, while that is exchanged.
pub const ISSUER_NEXT: &str = "zen-mesh-issuer-next";
/// More names do not fit into a handshake that every client takes.
const MAX_NAMES: usize = 400;

/// What the mesh configuration says about identities. The service follows changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Trust domain and release namespace.
    pub mesh: Mesh,
    /// Lifetime of the certificates that are issued.
    pub lifetime: Duration,
    /// Names of the ingester's serving certificate.
    pub serving: BTreeSet<String>,
    /// Names of the ZenLock webhook's serving certificate.
    pub zen_lock: BTreeSet<String>,
    /// Names by which members reach the operator, where this is a hub.
    pub hub: BTreeSet<String>,
    /// Who signs workload certificates; none: the mesh itself.
    pub cert_manager: Option<CertManager>,
}

impl Settings {
    /// `hosts` are what the intake is reached at: the hosts of `mesh.yaml`'s grants and the names of `workloads.yaml`. The
    /// names of the ingester's Services are added. What is no DNS name is left out and logged, so that one bad host does
    /// not cost all the others their certificate.
    pub fn new(mesh: Mesh, lifetime: Duration, hosts: impl IntoIterator<Item = String>) -> Self {
        let namespace = mesh.namespace().to_owned();
        let of = |services: &[&str]| -> BTreeSet<String> {
            let both = |service: &&str| {
                [format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")]
            };
            services.iter().flat_map(both).collect()
        };
        let mut serving = of(&[names::INGESTER, names::INGESTER_API]);
        let zen_lock = of(&[names::ZENLOCK]);
        for host in hosts {
            let host = host.to_ascii_lowercase();
            let is_name = rustls_pki_types::DnsName::try_from(host.strip_prefix("*.").unwrap_or(&host)).is_ok();
            if !is_name || serving.len() >= MAX_NAMES {
                tracing::warn!(host, "left out of the intake's certificate: no DNS name, or too many names");
                continue;
            }
            serving.insert(host);
        }
        Self { mesh, lifetime, serving, zen_lock, hub: BTreeSet::new(), cert_manager: None }
    }

    /// With the names by which members reach this hub.
    #[must_use]
    pub fn with_hub(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.hub = names.into_iter().collect();
        self
    }

    /// With another issuer of workload certificates.
    #[must_use]
    pub fn signed_by(mut self, issuer: Option<CertManager>) -> Self {
        self.cert_manager = issuer;
        self
    }

    /// The trust bundle under these roots. Fails when the issuer's CA is none.
    fn bundle(&self, roots: &str) -> Result<String, zen_pki::Error> {
        self.cert_manager
            .as_ref()
            .map_or_else(|| Ok(roots.to_owned()), |issuer| bundle::with_hub_issuers(roots, &issuer.ca))
    }

    /// The names that a component serves; none: it serves none.
    fn serving(&self, component: Component) -> Option<&BTreeSet<String>> {
        match component {
            Component::Ingester => Some(&self.serving).filter(|names| !names.is_empty()),
            Component::ZenLock => Some(&self.zen_lock),
            Component::Operator | Component::Egress | Component::Audit => None,
        }
    }
}

/// The trust domain or the namespace changed under a running operator: it has to start anew, as every pod of the mesh will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mesh's trust domain is now {0}: the operator has to start anew")]
pub struct Changed(pub TrustDomain);

/// The service of one replica. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    client: Client,
    mesh: Mesh,
    source: Source,
    settings: watch::Receiver<Settings>,
    issuer: watch::Sender<Seen<Secret>>,
    next: watch::Sender<Seen<Secret>>,
    rotation: watch::Sender<Seen<ConfigMap>>,
    /// The versions of the signing keys that count; none where nothing is stored of them.
    signing: watch::Sender<Option<Versions>>,
    bundle: watch::Sender<Seen<ConfigMap>>,
    /// What certificates are issued with; none until issuing CA and trust bundle are there.
    current: watch::Sender<Option<Arc<Current>>>,
    /// The trust bundle in effect.
    roots: watch::Sender<Option<Arc<str>>>,
    own: watch::Sender<Option<own::Own>>,
    /// Why nothing can be issued or kept, for readiness and the log.
    problem: ArcSwapOption<String>,
    /// Something of the root changed that no watch shows.
    wake: Notify,
    limits: limit::Limits,
    audit: Entries,
    metrics: metrics::Metrics,
    clock: Clock,
}

/// An issuing CA and the roots that it verifies under.
struct Current {
    ca: Ca,
    /// The one that comes in its place, while that goes on (T-04).
    next: Option<Ca>,
    rotation: record::State,
    roots: TrustRoots,
    bundle: String,
    settings: Settings,
}

impl Current {
    /// The one that a pod's certificates are from.
    fn issuer(&self, pod: &str) -> &Ca {
        self.next.as_ref().filter(|_| self.rotation.uses_new(pod)).unwrap_or(&self.ca)
    }

    /// The one that the operator's own are from: nobody is to meet it before the canary was shown to work.
    fn own(&self) -> &Ca {
        let everybody = self.rotation.issuing().is_some_and(record::Active::everybody);
        self.next.as_ref().filter(|_| everybody).unwrap_or(&self.ca)
    }

    /// The one that the operator's serving certificates are from. While the root is exchanged that is the old one for as long as
    /// it is trusted: a member that was away, and knows no other root, asks here for the new one.
    fn serves(&self) -> &Ca {
        let exchange = trusted::exchange(&self.rotation);
        if exchange.is_some_and(|active| active.rotation.phase != Phase::Retiring) { &self.ca } else { self.own() }
    }
}

impl Service {
    /// Nothing is asked yet. `registry` carries the prefix of the operator.
    pub fn new(client: Client, source: Source, settings: watch::Receiver<Settings>, registry: &mut Registry) -> Self {
        Self::with_clock(client, source, settings, registry, Arc::new(Timestamp::now))
    }

    /// As [`Service::new`] by another wall clock, for tests.
    pub fn with_clock(
        client: Client,
        source: Source,
        settings: watch::Receiver<Settings>,
        registry: &mut Registry,
        clock: Clock,
    ) -> Self {
        let mesh = settings.borrow().mesh.clone();
        Self(Arc::new(Inner {
            client,
            mesh,
            source,
            settings,
            issuer: watch::Sender::new(Seen::default()),
            next: watch::Sender::new(Seen::default()),
            rotation: watch::Sender::new(Seen::default()),
            signing: watch::Sender::new(None),
            bundle: watch::Sender::new(Seen::default()),
            current: watch::Sender::new(None),
            roots: watch::Sender::new(None),
            own: watch::Sender::new(None),
            problem: ArcSwapOption::empty(),
            wake: Notify::new(),
            limits: limit::Limits::default(),
            audit: Entries::default(),
            metrics: metrics::Metrics::register(registry),
            clock,
        }))
    }

    /// What every replica does for as long as it lives: follows issuing CA, trust bundle and settings, and keeps the
    /// operator's own certificates fresh. Drop it to stop.
    pub async fn run(&self) -> Changed {
        let issuers: Api<Secret> = Api::namespaced(self.0.client.clone(), self.0.mesh.namespace());
        let bundles: Api<ConfigMap> = Api::namespaced(self.0.client.clone(), self.0.mesh.namespace());
        tokio::select! {
            () = follow::object(issuers.clone(), ISSUER, &self.0.issuer) => {}
            () = follow::object(issuers, ISSUER_NEXT, &self.0.next) => {}
            () = follow::object(bundles.clone(), names::TRUST, &self.0.bundle) => {}
            () = follow::object(bundles, record::CONFIG_MAP, &self.0.rotation) => {}
            () = follow::current(&self.0) => {}
            () = follow::signing(&self.0) => {}
            () = own::keep(&self.0) => {}
            changed = self.changed() => return changed,
        }
        // The others never end.
        self.changed().await
    }

    /// The versions of the mesh's signing keys that count, by how a rotation of them stands; none where nothing is stored of
    /// them, and those that the planes have count on.
    pub fn signing_versions(&self) -> watch::Receiver<Option<Versions>> {
        self.0.signing.subscribe()
    }

    /// What the leader does besides: makes root, issuing CA and trust bundle, and renews the issuing CA. `owner` is the
    /// owner reference of the trust bundle. Never ends; drop it when the lease is lost.
    pub async fn keep(&self, writer: &Writer, owner: Option<&Value>) {
        keep::forever(&self.0, writer, owner).await;
    }

    /// Where certificates are recorded from now on, before they are handed over. What was done until then is remembered and
    /// goes there first.
    pub fn audit_to(&self, log: &zen_audit::Log) {
        self.0.audit.open(log);
    }

    /// Serves the pods until `shutdown` is cancelled. Before there is a certificate to serve with, connections wait.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), zen_pki::Error> {
        service::serve(Arc::clone(&self.0), listener, shutdown).await
    }

    /// The operator's own identity, for the control API of the pods; waits until there is one. It is kept fresh while
    /// [`Service::run`] runs.
    pub async fn identity(&self) -> Identity {
        own::wait(&self.0).await.identity
    }

    /// As [`Service::identity`], as it is now.
    pub fn identity_now(&self) -> Option<Identity> {
        self.0.own.borrow().as_ref().map(|own| own.identity.clone())
    }

    /// The trust bundle in effect, PEM, for the registration of the aggregated API.
    pub fn bundle(&self) -> Option<Arc<str>> {
        self.0.roots.borrow().clone()
    }

    /// As [`Service::bundle`], for who follows it.
    pub fn bundles(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.roots.subscribe()
    }

    /// What is wrong, in words for a readiness gate; none when certificates can be issued.
    pub fn problem(&self) -> Option<String> {
        let problem = self.0.problem.load().as_deref().cloned();
        let starting = || Some("no issuing certificate yet".to_owned());
        if self.0.current.borrow().is_some() { None } else { problem.or_else(starting) }
    }

    async fn changed(&self) -> Changed {
        let mut settings = self.0.settings.clone();
        if let Ok(settings) = settings.wait_for(|settings| settings.mesh != self.0.mesh).await {
            return Changed(settings.mesh.trust_domain().clone());
        }
        // Nobody can change them any more.
        std::future::pending().await
    }
}

impl Inner {
    fn rotates(&self) -> bool {
        *self.mesh.scope() == zen_pki::Scope::Hub && self.settings.borrow().cert_manager.is_none()
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// How an exchange stands, as it is stored.
    fn rotation_now(&self) -> record::State {
        self.rotation.borrow().object.as_deref().and_then(follow::state).unwrap_or_default()
    }

    fn fails(&self, problem: &str) {
        self.problem.store(Some(Arc::new(problem.to_owned())));
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("namespace", &self.0.mesh.namespace()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
