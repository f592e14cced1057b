//! One watch: followed for ever, begun anew whenever it fails.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use zen_model::ObjectKey;

use super::kinds::{Item, Kind};

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Signal<K> {
    /// All there is now. What is not in it is gone.
    Reset(Vec<(ObjectKey, K)>),
    /// It came, or changed.
    Apply(ObjectKey, K),
    /// It went.
    Delete(ObjectKey),
    /// From here on nothing is told until the next [`Signal::Reset`]: what was told stays true as far as anybody knows.
    Failed {
        /// The API server does not allow it: the grant is not there yet.
        forbidden: bool,
    },
}

/// A list must go on within this, or the API server has forgotten us.
const STALL: Duration = Duration::from_secs(30);
/// A watch that went well for so long begins anew with the shortest delay.
const SETTLED: Duration = Duration::from_mins(1);

/// Follows a watch; ends when nobody takes its signals any more.
///
/// Any failure ends in a new list: it recovers from an expired version (410) and from an event that could not be read
/// alike, and tells that the watch is in order again. `turn` bounds how many lists run at once.
pub(super) async fn watch<K: Kind, U: Send>(
    api: Api<Item<K>>,
    config: watcher::Config,
    turn: Arc<Semaphore>,
    to: mpsc::Sender<U>,
    update: impl Fn(Signal<K>) -> U,
) {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let failure = follow(&api, &config, &turn, &to, &update).await;
        let Some(failure) = failure else { return };
        if begun.elapsed() > SETTLED {
            backoff = Backoff::default();
        }
        let delay = backoff.next(&failure);
        let (kind, error) = (K::TYPE.2, &failure.error);
        tracing::debug!(kind, selector = config.field_selector, %error, ?delay, "a watch failed");
        if backoff.is_worth_a_word() {
            tracing::warn!(kind, selector = config.field_selector, %error, "a watch keeps failing");
        }
        if to.send(update(Signal::Failed { forbidden: failure.forbidden })).await.is_err() {
            return;
        }
        tokio::time::sleep(delay).await;
    }
}

/// Until it fails; none when nobody listens.
async fn follow<K: Kind, U>(
    api: &Api<Item<K>>,
    config: &watcher::Config,
    turn: &Semaphore,
    to: &mpsc::Sender<U>,
    update: &impl Fn(Signal<K>) -> U,
) -> Option<Failure> {
    let mut events = pin!(watcher(api.clone(), config.clone()));
    let mut turn = turn.acquire().await.ok();
    let mut listed = Vec::new();
    loop {
        let event = match turn {
            Some(_) => timeout(STALL, events.next()).await,
            None => Ok(events.next().await),
        };
        let signal = match event {
            Ok(Some(Ok(watcher::Event::Init))) => {
                listed.clear();
                continue;
            }
            Ok(Some(Ok(watcher::Event::InitApply(item)))) => {
                listed.extend(item.object.map(|object| (item.key, object)));
                continue;
            }
            Ok(Some(Ok(watcher::Event::InitDone))) => {
                turn = None;
                Signal::Reset(std::mem::take(&mut listed))
            }
            Ok(Some(Ok(watcher::Event::Apply(Item { key, object: Some(object), .. })))) => Signal::Apply(key, object),
            // One that is of no use any more is as good as gone.
            Ok(Some(Ok(watcher::Event::Apply(item) | watcher::Event::Delete(item)))) => Signal::Delete(item.key),
            Ok(Some(Err(error))) => return Some(Failure::of(error)),
            Ok(None) => return Some(Failure::plain("the stream ended")),
            Err(_) => return Some(Failure::plain("the API server does not answer")),
        };
        if to.send(update(signal)).await.is_err() {
            return None;
        }
    }
}

struct Failure {
    forbidden: bool,
    /// Asked by the API server.
    wait: Option<Duration>,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    fn plain(error: &'static str) -> Self {
        Self { forbidden: false, wait: None, error: error.into() }
    }

    fn of(error: watcher::Error) -> Self {
        let status = match &error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status),
            _ => None,
        };
        let wait = status.and_then(|status| status.details.as_ref()).map(|details| details.retry_after_seconds);
        let wait = wait.map(|seconds| Duration::from_secs(seconds.into())).filter(|wait| !wait.is_zero());
        Self { forbidden: status.is_some_and(|status| status.code == 403), wait, error: error.into() }
    }
}

/// When to begin anew. Jittered, so that the watches of many pods do not come back at once.
#[derive(Default)]
struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// Of those, how many because there is no grant.
    forbidden: u32,
}

/// After this many refusals in a row, about a minute, the grant is not on its way.
const HOPEFUL: u32 = 100;

impl Backoff {
    fn next(&mut self, failure: &Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if failure.forbidden {
            self.forbidden = self.forbidden.saturating_add(1);
            let millis = if self.forbidden <= HOPEFUL { 200..=1000 } else { 1000..=5000 };
            return Duration::from_millis(fastrand::u64(millis));
        }
        self.forbidden = 0;
        let ceiling = Duration::from_millis(200 << self.failures.min(8)).min(Duration::from_secs(30));
        let jittered = ceiling.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        failure.wait.map_or(jittered, |wait| wait.min(Duration::from_mins(1)) + jittered)
    }

    /// Not at every blip, and not at every attempt.
    const fn is_worth_a_word(&self) -> bool {
        matches!(self.failures, 5 | 50) || (self.failures > 0 && self.failures.is_multiple_of(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_asked_for_within_a_second_and_a_broken_server_is_spared() {
        let mut backoff = Backoff::default();
        let forbidden = || Failure { forbidden: true, ..Failure::plain("x") };
        for _ in 0..HOPEFUL {
            assert!(backoff.next(&forbidden()) <= Duration::from_secs(1));
        }
        assert!(backoff.next(&forbidden()) >= Duration::from_secs(1));
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..20).map(|_| backoff.next(&Failure::plain("x"))).collect();
        assert!(delays[0] <= Duration::from_millis(400) && delays[0] >= Duration::from_millis(200), "{delays:?}");
        assert!(delays[19] >= Duration::from_secs(15) && delays[19] <= Duration::from_secs(30), "{delays:?}");
        let asked = Failure { wait: Some(Duration::from_secs(7)), ..Failure::plain("x") };
        assert!(Backoff::default().next(&asked) >= Duration::from_secs(7));
    }
}
