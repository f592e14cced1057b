//! The status of users' objects, from the compiler's verdicts and the pods' reports.
//!
//! observe ([`watch`]: our kinds and the pods; [`reports`]: what each pod says; the operator's own compilation) → decide
//! ([`decide`]: pure) → apply (one status patch for each object that changed) → report (Events on transitions). What has
//! to be written is kept on the [`board`]; here it meets the clock and the network. Only the leader runs any of it.

mod announce;
mod board;
mod conditions;
mod decide;
mod fleet;
mod metrics;
mod object;
pub(crate) mod pods;
mod reports;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use announce::Announcement;
use arc_swap::ArcSwap;
use board::{Board, Seen, Write, Written};
pub use decide::Settings;
pub use fleet::Pod;
use fleet::Turnover;
use futures_util::future::OptionFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
pub use metrics::Metrics;
use object::{Id, Kind};
pub use reports::{Error as ReportError, Followers, Pods, Source};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use zen_compile::Snapshot;
use zen_live::Published;

use crate::writer::{Error, Notice, Requeue, Target, Writer};

/// Writes at one time. An API server answers one in a few milliseconds, so that this is a thousand a second and more.
const AT_ONCE: usize = 32;
/// While the API server does not answer, nothing is written: after the first failure so long, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// An object that changed or went while it was written.
const CONFLICT: Duration = Duration::from_secs(1);
/// A write that the API server refuses; perhaps somebody mends its rights.
const REFUSED: Duration = Duration::from_mins(1);

/// What [`run`] is made of.
pub struct Parts<S> {
    /// For watches.
    pub client: Client,
    /// For everything that is written.
    pub writer: Writer,
    /// The release namespace, where the data plane is.
    pub namespace: String,
    /// The operator's own compilation (`Mode::Cluster(Plane::Operator)`): [`zen_live::cluster::Cluster::snapshot`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The same's verdicts: [`zen_live::cluster::Cluster::published`].
    pub published: channel::Receiver<Arc<Published>>,
    /// How the mesh is set up.
    pub settings: channel::Receiver<Settings>,
    /// The pods: [`Pods`].
    pub source: S,
    /// How many objects are all right.
    pub metrics: Metrics,
}

/// Keeps the status of every object current until `shutdown`. To be called by the leader alone.
///
/// # Errors
///
/// [`Error::NotLeader`]: the lease is lost, and the process has to end. Everything else is tried again.
pub async fn run<S: Source>(parts: Parts<S>, shutdown: CancellationToken) -> Result<(), Error> {
    let Parts { client, writer, namespace, snapshot, mut published, mut settings, source, metrics } = parts;
    let (objects, mut seen) = mpsc::channel(1024);
    let (data_plane, mut pods) = channel::channel(None);
    // Ended when dropped.
    let mut watches = JoinSet::new();
    for kind in Kind::ALL {
        watches.spawn(watch::objects(client.clone(), kind, objects.clone()));
    }
    watches.spawn(watch::data_plane(client, namespace, data_plane));
    let (mut followers, mut reports) = Followers::new(source);
    let mut desk = Desk::new(Board::new(snapshot, metrics, Instant::now()), writer);
    desk.board.published(Arc::clone(&published.borrow_and_update()));
    desk.board.set_up(settings.borrow_and_update().clone());
    let mut events: Vec<Seen> = Vec::new();
    loop {
        desk.start_writes();
        let wake = OptionFuture::from(desk.wake_at().map(sleep_until));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = desk.writes.join_next() => desk.wrote(ended)?,
            _ = seen.recv_many(&mut events, 512) => {
                for event in events.drain(..) {
                    desk.board.seen(event);
                }
            }
            Ok(()) = pods.changed() => {
                let now = pods.borrow_and_update().clone().unwrap_or_default();
                let Turnover { joined, left, .. } = desk.board.pods(now, Instant::now());
                for id in left {
                    followers.leave(id);
                }
                for (id, pod) in joined {
                    followers.join(id, pod);
                }
            }
            Some((from, report)) = reports.recv() => desk.board.report(from, report, Instant::now()),
            Ok(()) = published.changed() => desk.board.published(Arc::clone(&published.borrow_and_update())),
            Ok(()) = settings.changed() => desk.board.set_up(settings.borrow_and_update().clone()),
            Some(()) = wake => {}
        }
    }
}

/// The board, and the writes that are on their way.
struct Desk {
    board: Board,
    writer: Writer,
    writes: JoinSet<(Write, Result<(), Error>)>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Desk {
    fn new(board: Board, writer: Writer) -> Self {
        Self { board, writer, writes: JoinSet::new(), failures: 0, paused_until: None }
    }

    fn start_writes(&mut self) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let wall = conditions::whole_seconds(jiff::Timestamp::now());
        while self.writes.len() < AT_ONCE {
            let Some(write) = self.board.next(now, wall) else { return };
            self.writes.spawn(write_one(self.writer.clone(), write));
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        // With its hands full it goes on when a write has ended.
        let board = self.board.wake_at().filter(|_| self.writes.len() < AT_ONCE);
        self.paused_until.or(board)
    }

    fn wrote(&mut self, ended: Result<(Write, Result<(), Error>), tokio::task::JoinError>) -> Result<(), Error> {
        let Ok((write, outcome)) = ended else { return Ok(()) };
        let now = Instant::now();
        let written = match outcome {
            Ok(()) => {
                self.failures = 0;
                Written::Done
            }
            Err(error @ Error::NotLeader(_)) => return Err(error),
            Err(Error::Gone(_) | Error::Conflict(_)) => Written::Failed(CONFLICT),
            Err(error) => {
                let refused = error.requeue() == Requeue::Change;
                if refused || self.failures == 0 {
                    tracing::warn!(object = %write.id, category = error.category(), %error, "a status is not written");
                }
                if refused { Written::Failed(REFUSED) } else { Written::Failed(self.pause(&error, now)) }
            }
        };
        self.board.wrote(write, written, now);
        Ok(())
    }

    /// One that is not answered speaks for all: they wait together.
    fn pause(&mut self, error: &Error, now: Instant) -> Duration {
        let wanted = if let Requeue::Transient(Some(after)) = error.requeue() { after } else { Duration::ZERO };
        let pause = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0).max(wanted);
        // Those that were sent together fail together, and count once.
        if self.paused_until.is_none_or(|until| until <= now) {
            self.failures += 1;
            self.paused_until = Some(now + pause);
        }
        pause
    }
}

async fn write_one(writer: Writer, write: Write) -> (Write, Result<(), Error>) {
    let Write { id, uid, status, announcement } = &write;
    let target = Target {
        resource: id.kind.resource(),
        namespace: id.key.namespace.to_string(),
        name: id.key.name.to_string(),
        uid: uid.to_string(),
    };
    let written = writer.status(&target, &status.write(id.kind), None).await;
    if written.is_ok()
        && let Some(announcement) = announcement
    {
        announce(&writer, id, uid, announcement).await;
    }
    (write, written.map(drop))
}

async fn announce(writer: &Writer, id: &Id, uid: &str, announcement: &Announcement) {
    let regarding = ObjectReference {
        api_version: Some(zen_crds::API_VERSION.to_owned()),
        kind: Some(id.kind.name().to_owned()),
        namespace: Some(id.key.namespace.to_string()),
        name: Some(id.key.name.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let Announcement { warning, reason, note } = announcement;
    let notice = Notice { warning: *warning, reason, action: "Report", note };
    if let Err(error) = writer.event(&regarding, &notice).await {
        // The condition says the same.
        tracing::debug!(object = %id, category = error.category(), %error, "an Event is not written");
    }
}

#[cfg(test)]
mod tests;
