//! Follows what the pods of the data plane report: one long poll at each, over mutual TLS, for as long as the pod is there.
//!
//! A pod that does not answer is asked again, ever more rarely; what it said before stays in force (see [`super::fleet`]).
//! A process that started anew at the same address has another epoch and reports everything.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use zen_identity::control::{self, Plane, Report, ReportQuery};
use zen_identity::http::{self, Client, Peer};
use zen_identity::{Component, Mesh};
use zen_pki::Identity;

use super::fleet::{Pod, PodId};

/// How long a pod holds an answer back while there is nothing new.
const WAIT: Duration = Duration::from_secs(30);
/// How long an answer may take beyond that; then the pod hangs.
const SLACK: Duration = Duration::from_secs(10);
/// Between two answers of one pod, so that changes are read in batches.
const PAUSE: Duration = Duration::from_millis(100);
/// After the first failure; doubled up to the second, with jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Ten thousand objects, each with a long problem.
const MAX_BODY: usize = 64 << 20;

/// Asks a pod for its report.
pub trait Source: Clone + Send + Sync + 'static {
    /// The answer to `GET /v1/report`, which may take as long as the query says it may wait.
    fn report(&self, pod: &Pod, query: &ReportQuery) -> impl Future<Output = Result<Report, Error>> + Send;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request failed.
    #[error("failed to ask for the report: {0}")]
    Request(#[from] http::Error),
    /// No answer in time.
    #[error("failed to ask for the report: no answer in time")]
    Hangs,
    /// Somebody else answers at the pod's address.
    #[error("failed to use the report: it is of {0}")]
    Another(String),
}

impl Error {
    /// Stable label.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Request(error) => error.category(),
            Self::Hangs => "timeout",
            Self::Another(_) => "another",
        }
    }
}

/// The pods themselves, at their control port.
#[derive(Clone, Debug)]
pub struct Pods {
    client: Client,
    mesh: Mesh,
    port: u16,
}

impl Pods {
    /// Speaks as the operator of this mesh. The port is [`control::PORT`] outside of tests.
    pub fn new(identity: &Identity, mesh: Mesh, port: u16) -> Self {
        let client = Client::new(identity).with_timeout(WAIT + SLACK).with_max_body(MAX_BODY);
        Self { client, mesh, port }
    }
}

impl Source for Pods {
    async fn report(&self, pod: &Pod, query: &ReportQuery) -> Result<Report, Error> {
        let component = match pod.plane {
            Plane::Ingester => Component::Ingester,
            Plane::Egress => Component::Egress,
        };
        let peer = Peer { address: SocketAddr::new(pod.address, self.port), id: self.mesh.id(component).clone() };
        Ok(self.client.get(&peer, &query.path_and_query()).await?)
    }
}

/// Follows pods as they come and go. Dropping it ends all of it.
#[derive(Debug)]
pub struct Followers<S> {
    source: S,
    reports: mpsc::Sender<(PodId, Report)>,
    tasks: HashMap<PodId, AbortHandle>,
}

impl<S: Source> Followers<S> {
    /// Nobody yet; reports go to the receiver.
    pub fn new(source: S) -> (Self, mpsc::Receiver<(PodId, Report)>) {
        // Few at a time: a report may be large, and a slow reader is to slow the pods' answers down.
        let (reports, receiver) = mpsc::channel(4);
        (Self { source, reports, tasks: HashMap::new() }, receiver)
    }

    /// Follows a pod.
    pub fn join(&mut self, id: PodId, pod: Pod) {
        let task = tokio::spawn(follow(self.source.clone(), id, pod, self.reports.clone()));
        if let Some(before) = self.tasks.insert(id, task.abort_handle()) {
            before.abort();
        }
    }

    /// Follows it no longer.
    pub fn leave(&mut self, id: PodId) {
        if let Some(task) = self.tasks.remove(&id) {
            task.abort();
        }
    }
}

impl<S> Drop for Followers<S> {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

/// Until nobody listens any more.
async fn follow<S: Source>(source: S, id: PodId, pod: Pod, reports: mpsc::Sender<(PodId, Report)>) {
    let mut seen: Option<(String, u64)> = None;
    let mut failures = 0;
    while !reports.is_closed() {
        let began = Instant::now();
        let query = query(seen.as_ref());
        let answer = timeout(WAIT + SLACK, source.report(&pod, &query)).await.unwrap_or(Err(Error::Hangs));
        let report = match answer.and_then(|report| check(&pod, report)) {
            Ok(report) => report,
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(pod = %pod.name, category = error.category(), %error, "no report from a pod");
                }
                failures += 1;
                sleep(backoff(failures)).await;
                continue;
            }
        };
        if failures > 0 {
            tracing::info!(pod = %pod.name, "the pod reports again");
            failures = 0;
        }
        let same_epoch = seen.as_ref().is_some_and(|(epoch, _)| *epoch == report.epoch);
        let new = report.complete || !report.objects.is_empty() || !report.gone.is_empty();
        if !report.complete && !same_epoch {
            // What changed in the life of another process says nothing without its beginning.
            seen = None;
        } else {
            seen = Some((report.epoch.clone(), report.revision));
            if new && reports.send((id, report)).await.is_err() {
                return;
            }
        }
        // Also against a pod that answers at once and says nothing.
        let pause = if new || began.elapsed() > Duration::from_secs(1) { PAUSE } else { Duration::from_secs(1) };
        sleep(pause).await;
    }
}

/// A pod that has no configuration yet holds back the first answer too.
fn query(seen: Option<&(String, u64)>) -> ReportQuery {
    match seen {
        None => ReportQuery { after: 0, epoch: None, wait: WAIT.as_secs() },
        Some((epoch, after)) => ReportQuery { after: *after, epoch: Some(epoch.clone()), wait: WAIT.as_secs() },
    }
}

fn check(pod: &Pod, report: Report) -> Result<Report, Error> {
    if report.plane == pod.plane && report.instance == *pod.name {
        Ok(report)
    } else {
        Err(Error::Another(report.instance))
    }
}

fn backoff(failures: u32) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

const _: () = assert!(WAIT.as_secs() <= control::MAX_WAIT);

#[cfg(test)]
mod tests;
