//! The hub's side of enrollment (T-01, T-06): a bundle for each `ClusterEnrollment`, its redemption, and what the enrolled
//! cluster asks afterwards.
//!
//! Only the leader enrolls: [`keep`] makes bundles and writes the status, [`service`] answers members on a port of its own, and
//! a replica that does not lead says so. Whether a bundle may be redeemed is decided by `zen_enroll::decide` on the object as
//! the API server has it now, and stored by compare-and-swap before anything is signed. No route here takes an event, and none
//! gives one (T-08).

mod branches;
mod cluster;
mod decide;
mod keep;
mod lead;
mod metrics;
mod record;
mod redeem;
pub(crate) mod rotate;
mod service;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_identity::Mesh;

use crate::configuration::Followed;
use crate::limit::{Buckets, Rate};
use crate::settings::{self, Workloads};
use crate::{Writer, identity, writer};
pub use cluster::{Cluster, Told};
use lead::Lead;
use metrics::Metrics;

/// Members behind one address may be many; what a request costs before it is proven is little.
const SOURCE: Rate = Rate { burst: 400, every: Duration::from_millis(20) };
/// A member asks every half minute.
const CLUSTER: Rate = Rate { burst: 20, every: Duration::from_secs(2) };

/// The hub's part of one replica. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    client: Client,
    identity: identity::Service,
    mesh: Mesh,
    settings: watch::Receiver<Followed<Workloads>>,
    /// While this replica leads.
    lead: ArcSwapOption<Lead>,
    sources: Buckets,
    clusters: Buckets,
    /// The clusters that are enrolled; none before the leader has looked.
    enrolled: watch::Sender<Option<Vec<Cluster>>>,
    metrics: Metrics,
}

impl Hub {
    /// Nothing is asked yet. `registry` carries the prefix of the operator.
    pub fn new(
        client: Client,
        identity: identity::Service,
        mesh: Mesh,
        settings: watch::Receiver<Followed<Workloads>>,
        registry: &mut Registry,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            identity,
            mesh,
            settings,
            lead: ArcSwapOption::empty(),
            sources: Buckets::new(SOURCE),
            clusters: Buckets::new(CLUSTER),
            enrolled: watch::Sender::new(None),
            metrics: Metrics::register(registry),
        }))
    }

    /// The clusters that are enrolled, as the leader knows them; none before it has looked.
    pub fn clusters(&self) -> watch::Receiver<Option<Vec<Cluster>>> {
        self.0.enrolled.subscribe()
    }

    /// Serves members until `shutdown` is cancelled. Before there is a certificate to serve with, connections wait.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), zen_pki::Error> {
        service::serve(Arc::clone(&self.0), listener, shutdown).await
    }

    /// What the leader does besides: bundles, and the status of enrollments. Until it is dropped, or `shutdown`.
    ///
    /// # Errors
    ///
    /// [`writer::Error::NotLeader`]: the lease is lost, and the process has to end. Everything else is tried again.
    pub async fn lead(&self, writer: &Writer, shutdown: CancellationToken) -> Result<(), writer::Error> {
        let lead = Arc::new(Lead::new(self.0.client.clone(), writer.clone(), self.0.identity.now()));
        self.0.lead.store(Some(Arc::clone(&lead)));
        let _until_dropped = Resign(&self.0);
        keep::run(&self.0, &lead, shutdown).await
    }
}

/// Whoever leads no longer answers no member.
struct Resign<'a>(&'a Inner);

impl Drop for Resign<'_> {
    fn drop(&mut self) {
        self.0.lead.store(None);
    }
}

impl Inner {
    fn clusters_are(&self, now: Vec<Cluster>) {
        self.enrolled.send_if_modified(|known| {
            let is_other = known.as_ref() != Some(&now);
            *known = Some(now);
            is_other
        });
    }

    /// As the chart's values say; none: this is no hub.
    fn hub(&self) -> Option<settings::Hub> {
        self.settings.borrow().content.as_ref()?.hub.clone().filter(|hub| !hub.url.is_empty())
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("leads", &self.0.lead.load().is_some()).finish_non_exhaustive()
    }
}
