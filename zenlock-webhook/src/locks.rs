//! ZenLocks as the API server has them now, and what the keys in force say of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Client};
use zen_crds::{SubjectKind, ZenLock};
use zen_lock::{Keyring, MAX_KEYS};

use crate::admit::{KeyFacts, Known, representable};
use crate::custody::{Custody, Keys};
use crate::fresh::Fresh;

/// Looks at one time.
const LOOKS: usize = 32;
/// Versions of ZenLocks whose facts are remembered.
const REMEMBERED: usize = 4096;

/// The API server gives no answer; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server could not be asked")]
pub struct Unavailable;

/// Namespace and name.
type Key = (String, String);
type Looked = Result<Option<Arc<ZenLock>>, Unavailable>;

/// Reads ZenLocks, each time anew.
pub struct Locks {
    client: Client,
    custody: Custody,
    fresh: Fresh<Key, Looked>,
    /// What one version of one object says under one generation of keys: facts, not decisions.
    facts: Mutex<HashMap<(String, String, u64), Arc<Known>>>,
}

impl Locks {
    /// Asks nobody yet.
    pub fn new(client: Client, custody: Custody) -> Self {
        Self { client, custody, fresh: Fresh::new(LOOKS), facts: Mutex::default() }
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

    /// What admission needs to know of it.
    pub async fn known(&self, namespace: &str, name: &str) -> Result<Option<Arc<Known>>, Unavailable> {
        let Some(object) = self.object(namespace, name).await? else { return Ok(None) };
        let keys = self.custody.keys();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let version = (text(&object.metadata.uid), text(&object.metadata.resource_version), keys.generation);
        if let Some(known) = self.remembered().get(&version) {
            return Ok(Some(Arc::clone(known)));
        }
        // Up to 64 keys of a mebibyte: not on a thread that others wait for.
        let known = tokio::task::spawn_blocking(move || Arc::new(facts(&object, &keys))).await.map_err(|error| {
            tracing::error!(%error, namespace, name, "failed to look into a ZenLock");
            Unavailable
        })?;
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(version, Arc::clone(&known));
        Ok(Some(known))
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.custody.keys()
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String, u64), Arc<Known>>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").field("custody", &self.custody).finish_non_exhaustive()
    }
}

/// What one object says. The plaintext is gone when this returns.
fn facts(object: &ZenLock, keys: &Keys) -> Known {
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
