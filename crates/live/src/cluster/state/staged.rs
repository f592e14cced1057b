//! Versions that wait for the objects that they name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zen_compile::{LockUse, Reference};
use zen_model::ObjectKey;

/// An object that is new waits so long at most: nothing of it is in force that could go on meanwhile, and whoever made
/// it wants to see what is missing.
const NEW: Duration = Duration::from_secs(1);

/// A version that waits.
#[derive(Debug)]
pub(super) struct Staged<T> {
    pub(super) object: Arc<T>,
    /// What it names that is not known yet.
    pub(super) references: Vec<Reference>,
    /// The `ZenLock`s among them that are not open for it yet.
    pub(super) lock_uses: Vec<LockUse>,
    /// An older version is in force, and stays so until this one can be.
    pub(super) replaces: bool,
    pub(super) since: Instant,
}

/// The versions of one kind that wait, by object.
#[derive(Debug)]
pub(super) struct Staging<T>(BTreeMap<ObjectKey, Staged<T>>);

impl<T> Default for Staging<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Staging<T> {
    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }

    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.values().flat_map(|staged| &staged.references)
    }

    pub(super) fn lock_uses(&self) -> impl Iterator<Item = &LockUse> {
        self.0.values().flat_map(|staged| &staged.lock_uses)
    }

    pub(super) fn insert(&mut self, key: ObjectKey, staged: Staged<T>) {
        self.0.insert(key, staged);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Staged<T>> {
        self.0.remove(key)
    }

    /// Those that need not wait any longer, and the others.
    pub(super) fn split(self, now: Instant, is_ready: impl Fn(&Staged<T>) -> bool) -> (Vec<(ObjectKey, Arc<T>)>, Self) {
        let (mut ready, mut waiting) = (Vec::new(), Self::default());
        for (key, staged) in self.0 {
            let has_waited = !staged.replaces && now >= staged.since + NEW;
            if has_waited || is_ready(&staged) {
                ready.push((key, staged.object));
            } else {
                waiting.0.insert(key, staged);
            }
        }
        (ready, waiting)
    }

    /// When one of them has waited long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|staged| !staged.replaces).map(|staged| staged.since + NEW).min()
    }
}
