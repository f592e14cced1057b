//! Leader election by a `coordination.k8s.io` Lease: one replica writes, the others wait.
//!
//! A server-side apply carries no fencing token, so the holder itself must know when it may no longer write:
//! [`Leadership::check`] compares with a clock that goes on while the process is stopped, before each write. Whoever
//! does not renew within the renew deadline has lost for good; the process ends, and another takes over when the lease
//! has run out, which is later by the difference of the two times.

mod clock;
mod leadership;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use clock::Clock;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
pub use leadership::{Leadership, Lost, NotLeader};
use record::{Observed, Verdict};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Where the lease lies, who asks for it, and the times.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who asks: different for each process, also for two after one another in one pod.
    pub holder: String,
    /// Others wait this long after a renewal that they saw. 10 s, whole seconds.
    pub duration: Duration,
    /// The holder writes at most this long after its last renewal began. 6 s.
    pub renew_deadline: Duration,
    /// Time between two looks or renewals, less some jitter. 2 s.
    pub retry: Duration,
}

impl Options {
    /// The times of the mesh: 10 s, 6 s, 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, holder: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            duration: Duration::from_secs(10),
            renew_deadline: Duration::from_secs(6),
            retry: Duration::from_secs(2),
        }
    }
}

/// A holder of a mesh has written its last by then: its lease's duration.
const NOTICED: Duration = Duration::from_secs(10);

/// Takes part in the election.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    options: Options,
    leadership: Leadership,
}

/// The lease is held and renewed in the background. Dropping it ends the renewals without giving the lease back.
#[derive(Debug)]
pub struct Held {
    release: CancellationToken,
    task: JoinHandle<()>,
}

impl Elector {
    /// Nothing is asked yet.
    pub fn new(client: Client, options: Options) -> Self {
        Self::with_clock(client, options, Clock::boot())
    }

    /// With another clock, for tests that stop it.
    pub fn with_clock(client: Client, options: Options, clock: Clock) -> Self {
        let api = Api::namespaced(client, &options.namespace);
        Self { api, options, leadership: Leadership::standby(clock) }
    }

    /// What each write asks first; it says no until [`Elector::acquire`] is through.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until the lease is ours, however long that takes. Failures of the API server are logged and tried again.
    /// May be dropped at any time: a lease that was just taken runs out by itself.
    pub async fn acquire(self) -> Held {
        let mut seen = None;
        loop {
            let began = self.leadership.now();
            let wait = match time::timeout(self.options.renew_deadline, self.attempt(&mut seen)).await {
                Ok(Ok(Attempt::Taken(lease))) => {
                    self.leadership.hold_until(began + self.options.renew_deadline);
                    tracing::info!(lease = %self.options.name, holder = %self.options.holder, "leading");
                    return self.hold(*lease);
                }
                Ok(Ok(Attempt::Held { left })) => left.min(self.jittered()),
                Ok(Err(error)) if is_conflict(&error) => Duration::ZERO,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.options.name, %error, "failed to ask for the lease");
                    self.jittered()
                }
                Err(_) => self.jittered(),
            };
            time::sleep(wait).await;
        }
    }

    /// Takes the lease from whoever has it, and waits until that one must have noticed. For what replaces the holders, not
    /// for one of them.
    pub async fn seize(self) -> Held {
        let lease = loop {
            match time::timeout(self.options.renew_deadline, self.take()).await {
                Ok(Ok(lease)) => break lease,
                Ok(Err(error)) if is_conflict(&error) => {}
                Ok(Err(error)) => tracing::warn!(lease = %self.options.name, %error, "failed to take the lease"),
                Err(_) => tracing::warn!(lease = %self.options.name, "failed to take the lease in time"),
            }
            time::sleep(self.jittered() / 4).await;
        };
        self.leadership.hold_until(self.leadership.now() + self.options.renew_deadline);
        let held = self.hold(lease);
        time::sleep(NOTICED).await;
        held
    }

    async fn take(&self) -> Result<Lease, kube::Error> {
        match self.api.get_opt(&self.options.name).await? {
            Some(lease) => {
                let lease = record::taken(lease, &self.options);
                self.api.replace(&self.options.name, &PostParams::default(), &lease).await
            }
            None => self.make().await,
        }
    }

    async fn attempt(&self, seen: &mut Option<Observed>) -> Result<Attempt, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.options.name).await? else {
            return Ok(Attempt::Taken(Box::new(self.make().await?)));
        };
        match Observed::judge(seen, &lease, &self.options, self.leadership.now()) {
            Verdict::Free => {
                let lease = record::taken(lease, &self.options);
                let lease = self.api.replace(&self.options.name, &PostParams::default(), &lease).await?;
                Ok(Attempt::Taken(Box::new(lease)))
            }
            Verdict::Held { left } => Ok(Attempt::Held { left }),
        }
    }

    /// A replace of a Lease that is missing makes it, and fails when another was faster: for it has no resource version.
    /// Unlike a create it can be granted for this one name.
    async fn make(&self) -> Result<Lease, kube::Error> {
        self.api.replace(&self.options.name, &PostParams::default(), &record::first(&self.options)).await
    }

    fn hold(self, lease: Lease) -> Held {
        let release = CancellationToken::new();
        let task = tokio::spawn(self.renew(lease, release.clone()));
        Held { release, task }
    }

    /// Renews until told to release, or until it is lost.
    async fn renew(self, mut lease: Lease, release: CancellationToken) {
        let mut wait = self.jittered();
        loop {
            tokio::select! {
                () = time::sleep(wait) => {}
                () = release.cancelled() => return self.give_back(lease).await,
            }
            let began = self.leadership.now();
            let Some(left) = self.leadership.left() else {
                return self.leadership.lose("the lease was not renewed in time");
            };
            // An attempt that hangs must leave time for another one.
            wait = match time::timeout(left.min(self.options.retry), self.renewed(&lease)).await {
                Ok(Ok(Some(renewed))) => {
                    lease = renewed;
                    self.leadership.hold_until(began + self.options.renew_deadline);
                    self.jittered()
                }
                Ok(Ok(None)) => return self.leadership.lose("another process holds the lease"),
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.options.name, %error, "failed to renew the lease");
                    self.jittered() / 4
                }
                Err(_) => Duration::ZERO,
            };
        }
    }

    /// The renewed lease; none when somebody else has it.
    async fn renewed(&self, lease: &Lease) -> Result<Option<Lease>, kube::Error> {
        let (name, params) = (&self.options.name, PostParams::default());
        match self.api.replace(name, &params, &record::renewed(lease.clone(), &self.options)).await {
            Err(error) if is_conflict(&error) || is_missing(&error) => {}
            other => return other.map(Some),
        }
        // An attempt of ours that was cut off may have come through, or the Lease was deleted.
        let Some(current) = self.api.get_opt(name).await? else {
            return self.make().await.map(Some);
        };
        if record::holder(&current) != Some(&*self.options.holder) {
            return Ok(None);
        }
        self.api.replace(name, &params, &record::renewed(current, &self.options)).await.map(Some)
    }

    /// Empties the lease, so that the next one need not wait. Writes stop before the request goes out.
    async fn give_back(self, lease: Lease) {
        let Some(left) = self.leadership.left() else { return };
        self.leadership.stand_down();
        let (released, params) = (record::released(lease), PostParams::default());
        let request = self.api.replace(&self.options.name, &params, &released);
        match time::timeout(left.min(self.options.retry), request).await {
            Ok(Ok(_)) => tracing::info!(lease = %self.options.name, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(lease = %self.options.name, %error, "failed to give the lease back"),
            Err(_) => tracing::warn!(lease = %self.options.name, "failed to give the lease back in time"),
        }
    }

    /// Half of the retry time to the whole of it, so that candidates do not ask at the same moment.
    fn jittered(&self) -> Duration {
        self.options.retry.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Held {
    /// Gives the lease back, so that the next process takes over at once. Call it when every writer has ended: nothing
    /// may be written after it.
    pub async fn release(mut self) {
        self.release.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Attempt {
    Taken(Box<Lease>),
    Held { left: Duration },
}

/// Another was faster: 409, or 422 where we meant to make it.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
