//! `zenlock-webhook serve`, put together: identity → keys → settings → TLS → leader's work.

mod arguments;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_audit::log::Metrics as AuditMetrics;
use zen_identity::policy::Action;
use zen_identity::server::{Handshakes, Server, insert_peer, request_id};
use zen_pki::optional_mtls_server;
use zen_pod::audit::{self, Trail};
use zen_pod::ground::{self, address, bind, until_said};
use zen_pod::{Ground, Platform};
use zen_runtime::{Gate, Shutdown};

pub use arguments::Arguments;
pub use zen_pod::ground::Error;

use crate::audit::Audit;
use crate::custody::Custody;
use crate::locks::Locks;
use crate::metrics::Metrics;
use crate::versions::Versions;
use crate::{admission, lead, settings, unseal};

/// Connections at one time: sidecars hold one each while they wait, and must not keep the API server out.
const CONNECTIONS: usize = 4096;
/// Requests in flight at the end: an admission takes five seconds at most.
const FINISH: Duration = Duration::from_secs(8);
/// So long a pod that ends is still asked: endpoints reach the API server and the nodes one after another.
const LINGER: Duration = Duration::from_secs(5);
const HTTPS: &str = "admission and unseal API";

/// The pod, running.
pub struct Pod {
    ground: Ground,
    process: Gate,
    end: CancellationToken,
    addresses: Addresses,
    trail: Option<Trail>,
}

/// Where the pod listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Admission and the unseal API.
    pub https: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// Runs the program until SIGTERM.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let (shutdown, platform) = ground::begin(&arguments.pod).await?;
    let pod = tokio::select! {
        pod = Pod::start(arguments, platform, None) => pod?,
        () = shutdown.begun() => return Ok(()),
    };
    pod.serve(&shutdown).await
}

impl Pod {
    /// Puts the pod together; returns when it serves. Accesses are recorded in `audit`, or in a log of its own.
    pub async fn start(arguments: Arguments, platform: Platform, audit: Option<Audit>) -> Result<Self, Error> {
        let mut ground = Ground::lay(arguments.pod.clone(), platform)?;
        let process = ground.readiness.gate("process");
        let listener = bind(HTTPS, arguments.listen)?;
        let https = address(HTTPS, &listener)?;
        let (identity, mesh) = ground.identify().await?;
        let (client, certificates) = (ground.platform.client.clone(), ground.platform.identity.clone());

        let audited = AuditMetrics::default();
        let (audit, trail) = if let Some(audit) = audit {
            (audit, None)
        } else {
            let trail = Trail::open(audit::Parts {
                folder: &arguments.audit.folder,
                place: &arguments.audit.place,
                strict: arguments.audit.strict,
                pod: &arguments.pod.pod_name,
                identity: &identity,
                mesh: &mesh,
                events: Some((client.clone(), &arguments.audit.pod_uid)),
                metrics: audited.clone(),
            });
            let trail = trail.await.map_err(|error| Error::Part(error.to_string()))?;
            (Arc::new(trail.log().clone()) as Audit, Some(trail))
        };

        let mut registry = ground.registry();
        audited.register(&mut registry);
        let metrics = Metrics::default();
        metrics.register(registry.sub_registry_with_prefix("zenlock_webhook"));
        ground.metrics.complete(registry);

        let serving = ground.readiness.gate("serving certificate");
        let obtained = certificates.obtain_serving(&identity);
        let certificate = until_said(&serving, obtained, || certificates.problem()).await;
        serving.open();
        let (own, kept, renewing) = (identity.clone(), certificate.clone(), certificates.clone());
        ground.tasks.spawn("serving certificate", async move { renewing.keep_fresh_serving(&own, &kept).await });

        let custody = Custody::new(&arguments.age);
        let following = custody.clone();
        ground.tasks.spawn("age identities", async move { following.follow().await });
        let gate = ground.readiness.gate("age identities");
        ground.tasks.spawn("count of identities", count(custody.clone(), metrics.clone(), gate));

        let (sender, current) = watch::channel(None);
        ground.tasks.spawn("settings", settings::follow(client.clone(), arguments.fixed(), sender));
        let versions = Versions::default();
        let (followed, watched) = (versions.clone(), client.clone());
        ground.tasks.spawn("versions of ZenLocks", async move { followed.follow(watched).await });

        let locks = Arc::new(Locks::new(client.clone(), custody.clone(), versions.clone()));
        let lead = lead::Parts {
            client: client.clone(),
            namespace: arguments.pod.pod_namespace.clone(),
            holder: format!("{}-{}", arguments.pod.pod_name, request_id()),
            custody,
            locks: Arc::clone(&locks),
            audit: Arc::clone(&audit),
            secret_delivery: arguments.secret_delivery,
        };
        ground.tasks.spawn("work of the leader", lead::run(lead));
        let admission = admission::Parts {
            locks: Arc::clone(&locks),
            settings: current.clone(),
            secret_delivery: arguments.secret_delivery,
            audit: Arc::clone(&audit),
            metrics: metrics.clone(),
        };
        let unseal = unseal::Parts { client, locks, versions, audit, mesh: mesh.clone(), metrics };
        let router = Router::new()
            .merge(admission::router(admission))
            .merge(unseal::router(unseal))
            .fallback(|| async { StatusCode::NOT_FOUND });

        // The operator gets in to see what is presented, as at every pod (T-04); what it may ask is decided with each request.
        let permitted = mesh.permitted(&[Action::Unseal, Action::Report]);
        let tls = optional_mtls_server(&certificate, &identity, permitted);
        let mut tls = (*tls?).clone();
        // The API server sends its reviews over one connection.
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let end = CancellationToken::new();
        let log = trail.as_ref().map(|trail| trail.log().clone());
        let handshakes = Handshakes::telling(move |refused| {
            if let Some(log) = &log {
                log.note(audit::refused_handshake("zenlock-webhook", &refused));
            }
        });
        let https_server = Server { connections: CONNECTIONS, handshakes };
        let served = https_server.serve(listener, Arc::new(tls), router, end.clone(), insert_peer);
        ground.tasks.spawn(HTTPS, served);
        let set = ground.readiness.gate("settings");
        let mut first = current;
        ground.tasks.spawn("first settings", async move {
            if first.wait_for(Option::is_some).await.is_ok() {
                set.open();
            }
            std::future::pending::<()>().await;
        });
        process.open();
        let addresses = Addresses { https, admin: ground.admin };
        Ok(Self { ground, process, end, addresses, trail })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What is still missing before it is ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        self.ground.readiness.missing()
    }

    /// Serves until `shutdown`, then ends in order.
    pub async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let Self { mut ground, process, end, addresses, trail } = self;
        tracing::info!(?addresses, "running");
        let failed = ground.serve(&process, shutdown).await;
        if failed.is_none() {
            tokio::time::sleep(LINGER).await;
        }
        end.cancel();
        ground.tasks.ended(&[HTTPS], Instant::now() + FINISH).await;
        // The last accesses are recorded by now.
        if let Some(trail) = trail {
            trail.close().await;
        }
        ground.finish().await;
        failed.map_or(Ok(()), Err)
    }
}

/// Ready while there is a key: without one no ZenLock opens.
async fn count(custody: Custody, metrics: Metrics, gate: Gate) {
    let mut changes = custody.changes();
    gate.close("no age identity is loaded; see the log and what is mounted");
    loop {
        let identities = custody.keys().each.len();
        metrics.holds(identities);
        if identities > 0 {
            gate.open();
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
