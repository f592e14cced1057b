//! The audit log of a pod: a chain of its own in a volume that lives as long as the pod, and the way to the store where there
//! is one. Something that does not work is a metric, and an Event on the pod where it may write one.
//!
//! * [`Trail`] is the log of a part that records before it answers.
//! * [`Beside`] is that of a part that delivers: it never waits for its log.
//! * [`Notes`] is what listeners refused and who administered, bounded, for either.

mod beside;
mod entries;
mod events;
mod notes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use kube::Client;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zen_audit::log::{Change, OnChange, OpenError};
use zen_audit::names::NameError;
use zen_audit::remote::Remote;
use zen_audit::ship::{self, Shipper};
use zen_audit::wire::PORT;
use zen_audit::{Action, Log, Options, Record, Writer};
use zen_identity::server::RefusedHandshake;
use zen_identity::{Denied, Mesh};
use zen_pki::Identity;
use zen_runtime::Tasks;

pub use beside::Beside;
pub use entries::Entries;
pub use events::Events;
pub use notes::Notes;
pub use zen_audit::log::Metrics;

/// What was handed over is written; a disk that does not come back is not waited for.
const WRITTEN: Duration = Duration::from_secs(3);
/// The last entries on their way to the store; those that it does not get are gone with the pod.
const SHIPPED: Duration = Duration::from_secs(5);
/// [`Trail::close`] takes no longer.
pub const CLOSED: Duration = Duration::from_secs(WRITTEN.as_secs() + SHIPPED.as_secs());
const SHIPPING: &str = "way to the audit store";

/// What the log takes from the command line or the environment.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// Folder of the audit log of this process.
    #[arg(long = "audit", env = "ZEN_AUDIT", value_name = "FOLDER", default_value = "/run/zen-mesh/audit")]
    pub folder: PathBuf,
    /// How much, and where to.
    #[command(flatten)]
    pub place: Place,
    /// Refuses what cannot be audited.
    #[arg(long = "audit-strict", env = "ZEN_AUDIT_STRICT", action = ArgAction::Set, default_value_t = false,
          value_name = "BOOL")]
    pub strict: bool,
    /// UID of this pod, for Events about it.
    #[arg(long = "pod-uid", env = "POD_UID", value_name = "UID", default_value = "")]
    pub pod_uid: String,
}

/// What the log of a part that delivers takes: it has no folder of its own choice, and is never strict.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Place {
    /// The most MiB of the audit log; in a volume in memory they count as the pod's.
    #[arg(long = "audit-mib", env = "ZEN_AUDIT_MIB", value_name = "MIB", default_value_t = 64)]
    pub mib: u64,
    /// The audit store, such as zen-audit.zen-mesh.svc; none: entries stay in the pod.
    #[arg(long = "audit-store", env = "ZEN_AUDIT_STORE", value_name = "HOST[:PORT]", default_value = "")]
    pub store: String,
}

/// What a log is opened with.
pub struct Parts<'a> {
    /// Where its files are.
    pub folder: &'a Path,
    /// How much, and where to.
    pub place: &'a Place,
    /// Refuse what cannot be audited.
    pub strict: bool,
    /// Name of this pod.
    pub pod: &'a str,
    /// Who writes, and sends.
    pub identity: &'a Identity,
    /// Who the store is.
    pub mesh: &'a Mesh,
    /// For Events about this pod, with its UID; none: it may write none.
    pub events: Option<(Client, &'a str)>,
    /// In the registry of the process.
    pub metrics: Metrics,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pod's name is none.
    #[error("failed to open the audit log: {0}")]
    Name(#[from] NameError),
    /// It writes no log.
    #[error("failed to open the audit log: {0}")]
    Stranger(#[from] Denied),
    /// The folder.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The log of this pod, on its way to the store. Dropping it stops that, and leaves the files as they are.
#[derive(Debug)]
pub struct Trail {
    log: Log,
    tasks: Tasks,
    /// Ends the way to the store, where there is one.
    shipping: Option<CancellationToken>,
}

impl Trail {
    /// Opens the log. With a store it is asked, for at most three seconds, where the pod's component stood, so that the first
    /// entry says it.
    ///
    /// # Errors
    ///
    /// When nobody may be called so; when the log is strict and its folder cannot be used.
    pub async fn open(parts: Parts<'_>) -> Result<Self, Error> {
        let Parts { folder, place, strict, pod, identity, mesh, events, metrics } = parts;
        let account = mesh.component(identity.id())?.account();
        let (mut tasks, mut shipping) = (Tasks::new(), None);
        let on_change = events.map(|(client, uid)| {
            let events = Arc::new(Events::new(client, account, mesh.namespace(), pod, uid));
            let hears = Arc::clone(&events);
            tasks.spawn("Events of the audit log", async move { events.run().await });
            Arc::new(move |change: &Change| hears.hear(change)) as OnChange
        });
        let (usual, keep_bytes) = (Options::new(folder, Writer::new(account, pod)?), place.mib << 20);
        // The file in use is never removed: it is a part of what is kept, not as much again.
        let file_bytes = usual.file_bytes.min(keep_bytes / 4);
        let options = Options { strict, keep_bytes, file_bytes, on_change, metrics, ..usual };
        let log = if place.store.is_empty() {
            Log::open(options)?
        } else {
            let (host, port) = address(&place.store);
            let transport = Arc::new(Remote::new(identity, mesh, host, port));
            let log = ship::open(options, &*transport).await?;
            let end = shipping.get_or_insert_with(CancellationToken::new).clone();
            tasks.spawn(SHIPPING, Shipper::new(&log, transport).run(end));
            log
        };
        Ok(Self { log, tasks, shipping })
    }

    /// Where entries go.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Writes what was handed over until now, and sends what the store takes of it; takes at most [`CLOSED`].
    pub async fn close(self) {
        let Self { log, mut tasks, shipping } = self;
        if timeout(WRITTEN, log.close()).await.is_err() {
            tracing::warn!("the last entries of the audit log could not be written in time");
        }
        if let Some(end) = shipping {
            end.cancel();
            tasks.ended(&[SHIPPING], Instant::now() + SHIPPED).await;
        }
    }
}

/// A peer that could not prove who it is, or is none that may connect to this listener.
pub fn refused_handshake(listener: &str, refused: &RefusedHandshake) -> Record {
    refused_peer(&format!("Listener/{listener}"), refused)
}

fn refused_peer(object: &str, refused: &RefusedHandshake) -> Record {
    let who = refused.from.map_or_else(|| "Address/many".to_owned(), |from| format!("Address/{from}"));
    Record::new(Action::Authenticate, &who, object)
        .reason(refused.reason.code())
        .detail("count", &refused.count.to_string())
        .detail("detail", &refused.detail)
}

/// Host and port of the store.
fn address(store: &str) -> (&str, u16) {
    let (host, port) = store.rsplit_once(':').unwrap_or((store, ""));
    // More colons are those of an address.
    port.parse().ok().filter(|_| !host.contains(':')).map_or((store, PORT), |port| (host, port))
}

#[cfg(test)]
mod tests;
