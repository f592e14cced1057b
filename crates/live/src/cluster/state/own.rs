//! Webhooks and Destinations: when a version of one comes into force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;
use zen_compile::{
    LockUse, Objects, Reference, locks_of_destination, locks_of_webhook, references_of_destination,
    references_of_webhook,
};
use zen_model::{ClusterId, ObjectKey};

use super::references::is_known;
use super::staged::{Staged, Staging};
use super::{Phase, State};
use crate::cluster::kinds::Own;
use crate::cluster::watch::Signal;

/// One of our two kinds.
pub(super) trait Named: Sized + 'static {
    const KIND: &'static str;
    fn references(&self, key: &ObjectKey) -> Vec<Reference>;
    fn lock_uses(&self, key: &ObjectKey) -> Vec<LockUse>;
    /// Whether what it names may be read in this cluster at all: a member's egress reads nothing for other clusters.
    fn is_ours(&self, key: &ObjectKey, member: Option<&ClusterId>) -> bool;
    fn uid(&self) -> Option<&str>;
    /// Nothing that matters is different.
    fn is_same(&self, other: &Self) -> bool;
    fn in_force(objects: &mut Objects) -> &mut BTreeMap<ObjectKey, Arc<Self>>;
    fn staging(state: &mut State) -> &mut Staging<Self>;
}

impl State {
    pub(super) fn own<T: Named>(&mut self, signal: Signal<Own<T>>, now: Instant) {
        match signal {
            Signal::Apply(key, object) => self.apply(key, object, now),
            Signal::Delete(key) => self.delete::<T>(&key),
            Signal::Reset(found) => {
                let mut gone: BTreeSet<ObjectKey> = T::in_force(&mut self.objects).keys().cloned().collect();
                gone.extend(T::staging(self).keys().cloned());
                gone.extend(self.refusals.of(T::KIND).cloned());
                for (key, object) in found {
                    gone.remove(&key);
                    self.apply(key, object, now);
                }
                for key in &gone {
                    self.delete::<T>(key);
                }
            }
            Signal::Failed { .. } => {}
        }
    }

    fn apply<T: Named>(&mut self, key: ObjectKey, object: Own<T>, now: Instant) {
        let object = match object {
            Own::Read(object) => object,
            Own::Refused(refused) => {
                self.delete::<T>(&key);
                return self.refusals.add(refused);
            }
        };
        // A further version of one that waits goes on waiting since then.
        let mut since = now;
        if let Some(staged) = T::staging(self).remove(&key) {
            since = staged.since;
            self.unaligned();
        }
        let before = T::in_force(&mut self.objects).get(&key).cloned();
        // A new status, or annotations.
        if before.as_ref().is_some_and(|before| before.is_same(&object)) {
            return;
        }
        let is_ours = object.is_ours(&key, self.objects.member.as_ref());
        let mut missing = if is_ours { self.references.own(object.references(&key)) } else { Vec::new() };
        missing.retain(|reference| !is_known(&self.objects, reference));
        let mut locked = if is_ours { self.own_uses(object.lock_uses(&key)) } else { Vec::new() };
        locked.retain(|used| !self.is_open(used));
        let replaces = before.is_some_and(|before| before.uid() == object.uid());
        // Nothing is in force before the first configuration, so nothing waits for anything.
        if missing.is_empty() && locked.is_empty() || !replaces && self.phase != Phase::Heard {
            self.enforce(key, object);
        } else {
            let staged = Staged { object, references: missing, lock_uses: locked, replaces, since };
            T::staging(self).insert(key, staged);
            self.unaligned();
        }
    }

    fn enforce<T: Named>(&mut self, key: ObjectKey, object: Arc<T>) {
        self.refusals.remove(T::KIND, &key);
        if object.is_ours(&key, self.objects.member.as_ref()) {
            self.references.came(object.references(&key));
            if let Some(locks) = &mut self.locks {
                locks.came(object.lock_uses(&key));
            }
        }
        T::in_force(&mut self.objects).insert(key, object);
        self.changed = true;
        self.services.outdated |= T::KIND == "Destination";
    }

    fn delete<T: Named>(&mut self, key: &ObjectKey) {
        if T::staging(self).remove(key).is_some() {
            self.unaligned();
        }
        self.refusals.remove(T::KIND, key);
        if T::in_force(&mut self.objects).remove(key).is_some() {
            self.changed = true;
            self.services.outdated |= T::KIND == "Destination";
        }
    }

    /// What is named may not be what is watched, or opened.
    fn unaligned(&mut self) {
        self.references.unaligned();
        if let Some(locks) = &mut self.locks {
            locks.unaligned();
        }
    }

    /// Those of this plane. None where nothing opens them: nobody waits for that.
    fn own_uses(&self, mut uses: Vec<LockUse>) -> Vec<LockUse> {
        uses.retain(|used| self.locks.is_some() && used.plane == self.plane);
        uses
    }

    fn is_open(&self, used: &LockUse) -> bool {
        self.locks.as_ref().is_some_and(|locks| locks.is_settled(used))
    }

    pub(super) fn promote<T: Named>(&mut self, now: Instant) -> Option<Instant> {
        let staging = std::mem::take(T::staging(self));
        let (ready, waiting) = staging.split(now, |staged| {
            staged.references.iter().all(|reference| is_known(&self.objects, reference))
                && staged.lock_uses.iter().all(|used| self.is_open(used))
        });
        let next = waiting.next();
        *T::staging(self) = waiting;
        for (key, object) in ready {
            self.enforce(key, object);
        }
        next
    }
}

impl Named for zen_crds::Webhook {
    const KIND: &'static str = "Webhook";

    fn references(&self, key: &ObjectKey) -> Vec<Reference> {
        references_of_webhook(key, &self.spec)
    }

    fn lock_uses(&self, key: &ObjectKey) -> Vec<LockUse> {
        locks_of_webhook(key, &self.spec)
    }

    fn is_ours(&self, _: &ObjectKey, member: Option<&ClusterId>) -> bool {
        member.is_none()
    }

    fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec
    }

    fn in_force(objects: &mut Objects) -> &mut BTreeMap<ObjectKey, Arc<Self>> {
        &mut objects.webhooks
    }

    fn staging(state: &mut State) -> &mut Staging<Self> {
        &mut state.webhooks
    }
}

impl Named for zen_crds::Destination {
    const KIND: &'static str = "Destination";

    fn references(&self, key: &ObjectKey) -> Vec<Reference> {
        references_of_destination(key, &self.spec)
    }

    fn lock_uses(&self, key: &ObjectKey) -> Vec<LockUse> {
        locks_of_destination(key, &self.spec)
    }

    fn is_ours(&self, key: &ObjectKey, member: Option<&ClusterId>) -> bool {
        let Some(member) = member else { return true };
        let named = self.spec.cluster.as_ref().is_some_and(|name| **name == *member.cluster().as_str());
        named && self.spec.mode == zen_crds::Mode::Relay && key.namespace == *member.tenant()
    }

    fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec
    }

    fn in_force(objects: &mut Objects) -> &mut BTreeMap<ObjectKey, Arc<Self>> {
        &mut objects.destinations
    }

    fn staging(state: &mut State) -> &mut Staging<Self> {
        &mut state.destinations
    }
}
