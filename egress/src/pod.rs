//! `zen-egress` as a pod (K-04): configuration from the API server, identity from the operator, sessions of the ingesters.
//!
//! It keeps nothing: what is lost with it is leased again. On SIGTERM it tells its sessions, finishes what is in flight and
//! gives the rest back.

mod arguments;
mod reporting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_compile::Plane;
use zen_deliver::{Deliverer, SystemResolver};
use zen_identity::{Action, control};
use zen_model::observe::Unwatched;
use zen_pod::ground::{self, address, bind};
use zen_pod::{Ground, Known, Platform, Reports, keys};
use zen_runtime::{Gate, Shutdown};

pub use arguments::Arguments;
pub use zen_pod::ground::Error;

use crate::{Egress, Options, Parts};

/// Attempts in flight at the end. A pod has `drainDelay` and 30 s before it is killed; farewells take up to six.
const ATTEMPTS: Duration = Duration::from_secs(22);
/// The end of all sessions.
const SESSIONS: Duration = Duration::from_secs(28);
const LINK: &str = "link";

/// The pod, running.
pub struct Pod {
    ground: Ground,
    process: Gate,
    end: CancellationToken,
    addresses: Addresses,
}

/// Where the pod listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Sessions of ingesters.
    pub link: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
}

/// Runs the program until SIGTERM.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let (shutdown, platform) = ground::begin(&arguments.pod).await?;
    let pod = tokio::select! {
        pod = Pod::start(arguments, platform) => pod?,
        () = shutdown.begun() => return Ok(()),
    };
    pod.serve(&shutdown).await
}

impl Pod {
    /// Puts the pod together; returns when it knows who it is and what it has to do.
    pub async fn start(arguments: Arguments, platform: Platform) -> Result<Self, Error> {
        let mut ground = Ground::lay(arguments.pod.clone(), platform)?;
        let process = ground.readiness.gate("process");
        let listener = bind("link", arguments.link)?;
        let link = address("link", &listener)?;
        let signing = Arc::new(keys::signing(&arguments.pod.keys)?);

        let Known { identity, mesh, cluster } = ground.know(Plane::Egress, None, &arguments.unseal).await?;

        let mut registry = ground.registry();
        ground.unsealing.register(&mut registry);
        let link_metrics = zen_link::Metrics::register(registry.sub_registry_with_prefix("zen_link"));
        let link_keys = Arc::new(signing.link());
        let egress = Egress::new(
            Parts {
                snapshot: cluster.snapshot(),
                deliverer: Deliverer::new(Arc::new(SystemResolver::new())),
                link_keys,
                target_keys: Arc::new(move |key| Arc::new(signing.destination(key))),
                observer: Arc::new(Unwatched),
                options: Options {
                    instance: arguments.pod.pod_name.clone(),
                    drain_limit: ATTEMPTS,
                    ..Options::default()
                },
            },
            registry.sub_registry_with_prefix("zen_egress"),
        );
        ground.metrics.complete(registry);

        let reports = Reports::new(&arguments.pod.pod_name, control::Plane::Egress, ground.end.clone());
        ground.tasks.spawn("configuration", reporting::follow(reports.clone(), cluster));
        let control = ground.serve_control(&identity, reports.routes())?;

        // Only ingesters of this mesh get in (T-05).
        let end = CancellationToken::new();
        let tls = zen_pki::mtls_server(&identity, mesh.permitted(&[Action::Link]))?;
        ground.tasks.spawn(LINK, egress.serve(listener, tls, link_metrics, end.clone()));
        process.open();
        let addresses = Addresses { link, admin: ground.admin, control };
        Ok(Self { ground, process, end, addresses })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, then ends in order.
    pub async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let Self { mut ground, process, end, addresses } = self;
        tracing::info!(?addresses, "running");
        let failed = ground.serve(&process, shutdown).await;
        end.cancel();
        ground.tasks.ended(&[LINK], Instant::now() + SESSIONS).await;
        ground.finish().await;
        failed.map_or(Ok(()), Err)
    }
}
