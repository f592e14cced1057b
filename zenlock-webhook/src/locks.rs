//! ZenLocks as the API server has them now, and what the keys in force say of them.
//!
//! Whoever opens a ZenLock, or refuses something because of it, looks at the object of that moment ([`Locks::object`],
//! [`Locks::known`]). Only one answer may come from what is remembered ([`Locks::remembered`]): that a pod is admitted. What is
//! remembered counts for the version that a working [watch](Versions) told last, under the keys in force, and if a look
//! confirmed it a few seconds ago at most, so that a watch that hangs does not go unnoticed for longer.
//!
//! A watch may be behind by a moment all the same, and need not be more exact, because admission gives nothing out: what the pod
//! asks for later is held against the ZenLock of that later moment, as it has to be anyway, since a subject can be taken off the
//! list between the two. The other way round a moment matters: a ZenLock that was just made or mended must not refuse the pod
//! that comes after it. So no refusal comes from here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use zen_crds::{SubjectKind, ZenLock};
use zen_lock::{Keyring, MAX_KEYS};

use crate::admit::{KeyFacts, Known, representable};
use crate::custody::{Custody, Keys};
use crate::fresh::Fresh;
use crate::versions::Versions;

/// Looks at one time.
const LOOKS: usize = 32;
/// ZenLocks of which something is remembered: some KiB each.
const REMEMBERED: usize = 4096;
/// So old may the last look at a ZenLock be whose facts admit a pod.
const CONFIRMED: Duration = Duration::from_secs(10);

/// The API server gives no answer; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server could not be asked")]
pub struct Unavailable;

/// Namespace and name.
type Key = (String, String);
type Looked = Result<Option<Arc<ZenLock>>, Unavailable>;
/// Looked into once, by the first who needs it.
type Facts = Arc<OnceCell<Arc<Known>>>;

/// Reads ZenLocks.
pub struct Locks {
    client: Client,
    custody: Custody,
    versions: Versions,
    fresh: Fresh<Key, Looked>,
    /// Facts, not decisions.
    facts: Mutex<HashMap<Key, Remembered>>,
}

/// What one version of an object says under one generation of keys.
struct Remembered {
    version: String,
    generation: u64,
    /// The last look that found this version began then, or later.
    looked: Instant,
    facts: Facts,
}

impl Locks {
    /// Asks nobody yet. Nothing is answered from memory unless `versions` are followed.
    pub fn new(client: Client, custody: Custody, versions: Versions) -> Self {
        Self { client, custody, versions, fresh: Fresh::new(LOOKS), facts: Mutex::default() }
    }

    /// The object as it is now.
    pub async fn object(&self, namespace: &str, name: &str) -> Looked {
        let key = (namespace.to_owned(), name.to_owned());
        let look = || async {
            let api: Api<ZenLock> = Api::namespaced(self.client.clone(), namespace);
            api.get_opt(name).await.map(|found| found.map(Arc::new)).map_err(|error| {
                tracing::warn!(%error, namespace, name, "failed to read a ZenLock");
                Unavailable
            })
        };
        self.fresh.look(&key, look).await
    }

    /// What admission needs to know of it, as it is now.
    pub async fn known(&self, namespace: &str, name: &str) -> Result<Option<Arc<Known>>, Unavailable> {
        let began = Instant::now();
        let Some(object) = self.object(namespace, name).await? else { return Ok(None) };
        let keys = self.custody.keys();
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let facts = self.facts_of((namespace.to_owned(), name.to_owned()), version, keys.generation, began);
        // Up to 64 keys of a mebibyte: not on a thread that others wait for, and once for all who come together.
        let looking = || tokio::task::spawn_blocking(move || Arc::new(look_into(&object, &keys)));
        let known = facts.get_or_try_init(looking).await.map_err(|error| {
            tracing::error!(%error, namespace, name, "failed to look into a ZenLock");
            Unavailable
        })?;
        Ok(Some(Arc::clone(known)))
    }

    /// What [`Locks::known`] said of the version that is there now, as far as the watch knows. None: ask it.
    pub fn remembered(&self, namespace: &str, name: &str) -> Option<Arc<Known>> {
        let (key, generation) = ((namespace.to_owned(), name.to_owned()), self.custody.keys().generation);
        let remembered = self.memory();
        let found = remembered.get(&key)?;
        let valid = found.generation == generation
            && found.looked.elapsed() < CONFIRMED
            && self.versions.is_current(&key, &found.version);
        if valid { found.facts.get().cloned() } else { None }
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.custody.keys()
    }

    fn facts_of(&self, key: Key, version: String, generation: u64, began: Instant) -> Facts {
        let mut remembered = self.memory();
        if let Some(found) = remembered.get_mut(&key) {
            if found.version == version && found.generation == generation {
                found.looked = found.looked.max(began);
                return Arc::clone(&found.facts);
            }
        } else if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        let facts = Facts::default();
        remembered.insert(key, Remembered { version, generation, looked: began, facts: Arc::clone(&facts) });
        facts
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Key, Remembered>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").field("custody", &self.custody).finish_non_exhaustive()
    }
}

/// What one object says. The plaintext is gone when this returns.
fn look_into(object: &ZenLock, keys: &Keys) -> Known {
    let accounts = object.spec.allowed_subjects.iter();
    let accounts = accounts.filter(|subject| subject.kind == SubjectKind::ServiceAccount);
    let encrypted: BTreeMap<_, _> = object.spec.encrypted_data.iter().take(MAX_KEYS).collect();
    Known {
        accounts: accounts.map(|subject| subject.name.to_string()).collect(),
        keys: encrypted.into_iter().map(|(key, file)| (key.clone(), fact(&keys.ring, file))).collect(),
    }
}

fn fact(ring: &Keyring, file: &str) -> KeyFacts {
    match ring.open(file) {
        Ok(opened) => {
            let value = opened.plaintext.expose();
            KeyFacts { problem: None, unrepresentable: representable(value).err(), size: value.len() }
        }
        Err(error) => KeyFacts { problem: Some((error.reason().code(), error.to_string())), ..KeyFacts::default() },
    }
}
