//! Which version each ZenLock has, as far as the watch knows: it wakes those who wait for a change, and decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zen_crds::ZenLock;

type Key = (String, String);

/// Versions by namespace and name. Clones share them.
#[derive(Clone, Debug)]
pub struct Versions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Mutex<HashMap<Key, String>>,
    changed: watch::Sender<u64>,
}

impl Default for Versions {
    fn default() -> Self {
        Self(Arc::new(Inner { known: Mutex::default(), changed: watch::Sender::new(0) }))
    }
}

impl Versions {
    /// Follows the cluster for as long as it is polled; metadata alone.
    pub async fn follow(&self, client: Client) {
        let stream = watcher(Api::<PartialObjectMeta<ZenLock>>::all(client), watcher::Config::default());
        let mut listed: HashMap<Key, String> = HashMap::new();
        zen_pod::watching::follow("ZenLocks", stream, |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                let (key, version) = read(object);
                listed.insert(key, version);
            }
            Event::InitDone => self.change(|known| *known = std::mem::take(&mut listed)),
            Event::Apply(object) => {
                let (key, version) = read(object);
                self.change(|known| drop(known.insert(key, version)));
            }
            Event::Delete(object) => {
                let (key, _) = read(object);
                self.change(|known| drop(known.remove(&key)));
            }
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Key, String>)) {
        change(&mut self.0.known.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.send_modify(|revision| *revision += 1);
    }

    /// Names of those that are newer than what is had; waits as long as it may while there is none.
    pub(super) async fn newer(&self, namespace: &str, had: &[(String, String)], wait: Duration) -> Vec<String> {
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
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = had.iter().filter(|(name, version)| {
            known.get(&(namespace.to_owned(), name.clone())).is_some_and(|current| is_newer(current, version))
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
            versions.change(|known| drop(known.insert(key, version)));
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
