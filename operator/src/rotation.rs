//! Rotations (T-04): the leader exchanges an issuing CA under traffic, in the steps of [`zen_rotation`], with a canary, probes and a
//! way back.
//!
//! observe ([`field`]: what each pod presents in a real handshake, how requests fare; the two issuing CAs) → decide
//! ([`zen_rotation::decide`]: pure) → store (the ConfigMap `zen-mesh-rotation`, before anything follows from it) → act. What the
//! identity service of every replica issues follows from the phase that is stored: nothing else is told to anybody. A leader
//! that begins anew reads what is stored and goes on.

mod announce;
mod certificates;
mod desk;
pub mod field;
mod metrics;
mod pods;
mod probe;
mod rates;
mod servers;
mod subject;
mod synthetic;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

use desk::Desk;
pub use field::{Field, Pod, Unheard};
pub use metrics::Metrics;
pub use pods::Pods;
pub use synthetic::Arrived;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
pub use told::Told;

use crate::configuration::Followed;
use crate::enroll::Cluster;
use crate::identity::Service;
use crate::settings::Workloads;
use crate::writer::{Error, Writer};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// What [`run`] is made of.
pub struct Parts<F> {
    /// Issues the certificates.
    pub service: Service,
    /// For everything that is written.
    pub writer: Writer,
    /// The release namespace.
    pub namespace: String,
    /// Whose settings are the owner of what is stored.
    pub workloads: watch::Receiver<Followed<Workloads>>,
    /// The clusters that are enrolled: [`crate::enroll::Hub::clusters`].
    pub clusters: watch::Receiver<Option<Vec<Cluster>>>,
    /// The pods: [`Pods`].
    pub field: F,
    /// Figures.
    pub metrics: Metrics,
}

impl<F> Parts<F> {
    /// Whether sources see a certificate of the user's own.
    fn has_own_intake(&self) -> bool {
        self.workloads.borrow().content.as_ref().is_some_and(|all| !all.intake.tls_secret.is_empty())
    }
}

/// Answers requests, begins what is due, and does what goes on, until `shutdown`. To be called by the leader alone.
///
/// # Errors
///
/// [`Error::NotLeader`]: the lease is lost, and the process has to end. Everything else is tried again.
pub async fn run<F: Field>(parts: Parts<F>, shutdown: CancellationToken) -> Result<(), Error> {
    let mut rotation = parts.service.rotation();
    let [mut issuer, mut next] = parts.service.issuers();
    let mut desk = Desk::new(parts);
    loop {
        rotation.mark_unchanged();
        issuer.mark_unchanged();
        next.mark_unchanged();
        let wait = tokio::select! {
            wait = desk.step() => wait,
            () = shutdown.cancelled() => return Ok(()),
        };
        let wait = match wait {
            Ok(wait) => wait,
            Err(desk::Error::Write(error @ Error::NotLeader(_))) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "failed to go on with a rotation; trying again");
                AGAIN
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(wait) => {}
            _ = rotation.changed() => {}
            _ = issuer.changed() => {}
            _ = next.changed() => {}
        }
    }
}
