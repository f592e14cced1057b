//! Which version each ZenLock has, as far as the watch knows.
//!
//! It wakes those who wait for a change, and tells [`Locks`](crate::locks::Locks) whether what is remembered of a ZenLock is of the
//! version that is there. It refuses nothing, and nothing is opened because of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zen_crds::ZenLock;

/// Namespace and name.
type Key = (String, String);

/// Versions by namespace and name. Clones share them.
#[derive(Clone, Debug)]
pub struct Versions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    versions: HashMap<Key, String>,
    /// Everything was listed, and the watch has not failed since.
    in_sync: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self(Arc::new(Inner { known: Mutex::default(), changed: watch::Sender::new(0) }))
    }
}

impl Versions {
    /// Follows the cluster for as long as it is polled; metadata alone.
    pub async fn follow(&self, client: Client) {
        let api = Api::<PartialObjectMeta<ZenLock>>::all(client);
        // After a failure everything is listed anew: only a list tells that nothing was missed, where nothing changes.
        let stream = stream::unfold(None, |watching| async {
            let mut watching = watching.unwrap_or_else(|| watcher(api.clone(), watcher::Config::default()).boxed());
            let item = watching.next().await?;
            let again = item.is_ok().then_some(watching);
            Some((item, again))
        });
        let stream = stream.inspect_err(|_| self.known().in_sync = false);
        let mut listed: HashMap<Key, String> = HashMap::new();
        zen_pod::watching::follow("ZenLocks", stream, |event| match event {
            Event::Init => {
                self.known().in_sync = false;
                listed.clear();
            }
            Event::InitApply(object) => {
                let (key, version) = read(object);
                listed.insert(key, version);
            }
            Event::InitDone => {
                let versions = std::mem::take(&mut listed);
                self.change(|known| *known = Known { versions, in_sync: true });
            }
            Event::Apply(object) => {
                let (key, version) = read(object);
                self.change(|known| drop(known.versions.insert(key, version)));
            }
            Event::Delete(object) => {
                let (key, _) = read(object);
                self.change(|known| drop(known.versions.remove(&key)));
            }
        })
        .await;
    }

    /// Whether the watch works, and this is the version that it told last.
    pub(crate) fn is_current(&self, key: &Key, version: &str) -> bool {
        let known = self.known();
        known.in_sync && known.versions.get(key).is_some_and(|current| current == version)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.0.changed.send_modify(|revision| *revision += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of those that are newer than what is had; waits as long as it may while there is none.
    pub(crate) async fn newer(&self, namespace: &str, had: &[(String, String)], wait: Duration) -> Vec<String> {
        let deadline = Instant::now() + wait;
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let newer = self.now(namespace, had);
            if !newer.is_empty() || timeout_at(deadline, changed.changed()).await.is_err() {
                return newer;
            }
        }
    }

    fn now(&self, namespace: &str, had: &[(String, String)]) -> Vec<String> {
        let known = self.known();
        let newer = had.iter().filter(|(name, version)| {
            known.versions.get(&(namespace.to_owned(), name.clone())).is_some_and(|current| is_newer(current, version))
        });
        newer.map(|(name, _)| name.clone()).collect()
    }
}

fn read(object: PartialObjectMeta<ZenLock>) -> (Key, String) {
    let metadata = object.metadata;
    let key = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
    (key, metadata.resource_version.unwrap_or_default())
}

/// Versions of one kind are numbers that rise (KEP-5504): a watch that is behind tells nobody of what is old. What is no
/// number is new when it is another.
fn is_newer(current: &str, had: &str) -> bool {
    match (current.parse::<u128>(), had.parse::<u128>()) {
        (Ok(current), Ok(had)) => current > had,
        _ => current != had,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn had(version: &str) -> Vec<(String, String)> {
        vec![("db".to_owned(), version.to_owned())]
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_waits_for_what_is_newer_and_no_longer() {
        let versions = Versions::default();
        let put = |version: &str| {
            let (key, version) = (("a".to_owned(), "db".to_owned()), version.to_owned());
            versions.change(|known| drop(known.versions.insert(key, version)));
        };
        put("9");
        let wait = Duration::from_secs(30);
        assert_eq!(versions.newer("a", &had("8"), wait).await, ["db"]);
        assert!(versions.newer("b", &had("8"), Duration::ZERO).await.is_empty(), "another namespace's");
        let began = Instant::now();
        // 10 is more than 9, and the watch may be behind.
        assert!(versions.newer("a", &had("10"), wait).await.is_empty());
        assert_eq!(began.elapsed(), wait);
        let eleven = had("10");
        let (newer, ()) = tokio::join!(versions.newer("a", &eleven, wait), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            put("11");
        });
        assert_eq!((newer, began.elapsed()), (vec!["db".to_owned()], wait + Duration::from_secs(1)));
    }
}
