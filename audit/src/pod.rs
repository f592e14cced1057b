//! `zen-audit` as a pod: identity from the operator, its volume, writers over mutual TLS, heads into the ConfigMap.

mod arguments;
mod export;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_audit::names::NameError;
use zen_audit::{Head, Log, Options, Writer};
use zen_identity::server::serve_for_telling;
use zen_identity::{Action, Component};
use zen_pod::audit::Notes;
use zen_pod::ground::{self, address, bind, until_said};
use zen_pod::{Ground, Platform};
use zen_runtime::{Gate, Shutdown};

pub use arguments::{Arguments, Cli, Task};
pub use export::export;

use crate::anchor::ConfigMapAnchor;
use crate::{Anchor, Metrics, Store, anchoring, router, store};

/// Requests in flight at the end.
const REQUESTS: Duration = Duration::from_secs(8);
/// Pause between attempts to read what is anchored.
const PAUSE: Duration = Duration::from_secs(2);
const AUDIT: &str = "audit server";

/// The pod cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What every pod needs.
    #[error(transparent)]
    Ground(#[from] ground::Error),
    /// The volume.
    #[error("failed to read the volume: {0}")]
    Volume(#[from] io::Error),
    /// The own log.
    #[error(transparent)]
    Log(#[from] zen_audit::log::OpenError),
    /// The pod's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The pod, running.
pub struct Pod {
    ground: Ground,
    process: Gate,
    end: CancellationToken,
    addresses: Addresses,
    store: Arc<Store>,
    anchor: Arc<dyn Anchor>,
}

/// Where the pod listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Writers.
    pub audit: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// Runs the program until SIGTERM.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let (shutdown, platform) = ground::begin(&arguments.pod).await?;
    let anchor = Arc::new(ConfigMapAnchor::new(platform.client.clone(), &arguments.pod.pod_namespace));
    let pod = tokio::select! {
        pod = Pod::start(arguments, platform, anchor) => pod?,
        () = shutdown.begun() => return Ok(()),
    };
    pod.serve(&shutdown).await
}

impl Pod {
    /// Puts the pod together; returns when it takes entries.
    pub async fn start(arguments: Arguments, platform: Platform, anchor: Arc<dyn Anchor>) -> Result<Self, Error> {
        let mut ground = Ground::lay(arguments.pod.clone(), platform)?;
        let process = ground.readiness.gate("process");
        let heads = ground.readiness.gate("anchored heads");
        let listener = bind("audit", arguments.audit)?;
        let audit = address("audit", &listener)?;

        // The ends as they are, before anything is written: they are compared with what is anchored.
        let found = store::scan(&arguments.data)?;
        let ends = found.iter().filter_map(|found| found.tail.head.clone()).map(|head| (head.chain.clone(), head));
        let ends: BTreeMap<_, Head> = ends.collect();
        let account = Component::Audit.account();
        let writer = Writer::new(account, &arguments.pod.pod_name)?;
        // A store that cannot write its own log takes nobody else's.
        let folder = arguments.data.join(account).join(&arguments.pod.pod_name);
        let log = Log::open(Options { strict: true, ..Options::new(folder, writer) })?;
        let metrics = Metrics::default();
        let store = Arc::new(Store::new(&arguments.data, arguments.store(), found, log, metrics.clone()));

        let mut registry = ground.registry();
        store.log().metrics().register(&mut registry);
        metrics.register(&mut registry);
        ground.metrics.complete(registry);

        let (identity, _) = ground.identify().await?;
        // What is anchored is overwritten from now on: first look at what it says.
        let anchored = until_said(&heads, read(anchor.as_ref()), || {
            Some("the anchored heads are being read; is the API server there, and what is granted?".to_owned())
        });
        anchoring::compare(&store, &anchored.await, &ends).await;
        heads.open();
        let every = Duration::from_secs(arguments.anchor_seconds);
        ground.tasks.spawn("anchoring", anchoring::run(Arc::clone(&store), Arc::clone(&anchor), every));
        ground.tasks.spawn("retention", anchoring::retain(Arc::clone(&store)));

        let (end, routes) = (CancellationToken::new(), router(Arc::clone(&store)));
        let (ended, refusals) = (end.clone(), Notes::of(store.log()).listener("audit"));
        ground.tasks.spawn(AUDIT, async move {
            let actions = [Action::Audit];
            let served = serve_for_telling(&actions, listener, &identity, routes, ended, refusals).await;
            if let Err(error) = served {
                tracing::error!(%error, "the audit server failed");
            }
        });
        process.open();
        let addresses = Addresses { audit, admin: ground.admin };
        Ok(Self { ground, process, end, addresses, store, anchor })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, then ends in order: what was acknowledged is anchored too.
    pub async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let Self { mut ground, process, end, addresses, store, anchor } = self;
        tracing::info!(?addresses, "running");
        let failed = ground.serve(&process, shutdown).await;
        end.cancel();
        ground.tasks.ended(&[AUDIT], Instant::now() + REQUESTS).await;
        let mut anchored = None;
        let last = anchoring::step(&store, anchor.as_ref(), &mut anchored);
        if tokio::time::timeout(REQUESTS, last).await.is_err() {
            tracing::warn!("the last heads could not be anchored in time");
        }
        store.log().clone().close().await;
        ground.finish().await;
        failed.map_or(Ok(()), |failed| Err(failed.into()))
    }
}

async fn read(anchor: &dyn Anchor) -> Vec<Head> {
    loop {
        match anchor.read().await {
            Ok(heads) => return heads,
            Err(error) => tracing::warn!(%error, "not ready yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
