//! The loop of the leader: level-triggered, over stores that watches keep current.
//!
//! Whatever changes, the plan is made anew from what there is now ([`plan`]); each object is then looked at by itself, at
//! most [`AT_ONCE`] at one time, with a backoff of its own, so that one bad object never holds up another. What is in
//! effect already is not sent ([`Writer::apply`]): a steady mesh writes nothing.

mod desk;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use desk::Desk;
use futures_util::future::OptionFuture;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use zen_compile::mesh;
use zen_live::Published;
use zen_model::signing::Versions;

use crate::configuration::Followed;
use crate::scale::drains::{Known, Orders};
use crate::settings::Workloads;
use crate::world::World;
use crate::writer::{Error, Writer};

/// Writes at one time.
const AT_ONCE: usize = 32;

/// What [`run`] is made of.
pub struct Parts {
    /// For watches.
    pub client: Client,
    /// For everything that is written.
    pub writer: Writer,
    /// The release namespace.
    pub namespace: String,
    /// `workloads.yaml`.
    pub workloads: watch::Receiver<Followed<Workloads>>,
    /// `mesh.yaml`.
    pub mesh: watch::Receiver<Followed<mesh::Config>>,
    /// The trust bundle.
    pub bundles: watch::Receiver<Option<Arc<str>>>,
    /// The versions of the signing keys that count; none: those that the planes have.
    pub signing: watch::Receiver<Option<Versions>>,
    /// The compiled objects of users.
    pub published: watch::Receiver<Arc<Published>>,
    /// To the task that speaks with ingesters about drains.
    pub orders: watch::Sender<Orders>,
    /// From it.
    pub known: watch::Receiver<Known>,
    /// Figures.
    pub metrics: Metrics,
}

/// Figures of the loop.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    first: Gauge<f64, std::sync::atomic::AtomicU64>,
    wanted: Gauge,
    problems: Gauge,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time from the lease to the moment at which everything had been looked at, seconds; 0 before";
        registry.register("first_reconcile_seconds", help, self.first.clone());
        registry.register("wanted_objects", "Objects that the operator keeps as they are to be", self.wanted.clone());
        let help = "Problems that keep the data plane from being as it was asked for";
        registry.register("problems", help, self.problems.clone());
    }
}

/// Keeps everything as it is to be until `shutdown`. To be called by the leader alone.
///
/// # Errors
///
/// [`Error::NotLeader`]: the lease is lost, and the process has to end. Everything else is tried again.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), Error> {
    let began = Instant::now();
    let Parts {
        client,
        writer,
        namespace,
        mut workloads,
        mut mesh,
        mut bundles,
        mut signing,
        mut published,
        orders,
        mut known,
        metrics,
    } = parts;
    let (tell, mut changed) = mpsc::unbounded_channel();
    let world = World::watch(&client, &namespace, &tell);
    tokio::select! {
        () = world.ready() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut desk = Desk::new(world, writer, namespace, orders, metrics.clone());
    let mut ids = Vec::new();
    let mut is_first = true;
    // Everything is looked at once, whatever the channels say.
    let mut replan = true;
    desk.tenants(&published.borrow_and_update().clone());
    loop {
        if replan {
            let inputs = plan::Current {
                workloads: workloads.borrow_and_update().clone(),
                mesh: mesh.borrow_and_update().clone(),
                trust: bundles.borrow_and_update().clone(),
                signing: signing.borrow_and_update().clone(),
                known: known.borrow_and_update().clone(),
            };
            desk.replan(&inputs);
            replan = false;
        }
        desk.start();
        if is_first && desk.is_idle() {
            is_first = false;
            metrics.first.set(began.elapsed().as_secs_f64());
            tracing::info!(took = ?began.elapsed(), objects = desk.wanted(), "everything was looked at");
        }
        let wake = OptionFuture::from(desk.wake_at().map(sleep_until));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = desk.writes.join_next_with_id() => desk.wrote(ended)?,
            _ = changed.recv_many(&mut ids, 1024) => {
                for id in ids.drain(..) {
                    replan |= desk.changed(id);
                }
            }
            Ok(()) = published.changed() => desk.tenants(&published.borrow_and_update().clone()),
            Ok(()) = workloads.changed() => replan = true,
            Ok(()) = mesh.changed() => replan = true,
            Ok(()) = bundles.changed() => replan = true,
            Ok(()) = signing.changed() => replan = true,
            Ok(()) = known.changed() => replan = true,
            Some(()) = wake => replan |= desk.woke(),
        }
    }
}
