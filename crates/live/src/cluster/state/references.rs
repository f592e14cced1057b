//! Secrets and `ConfigMap`s by name: which are watched, and what their watches told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zen_compile::{ConfigMapData, Objects, Plane, Reference, ReferenceKind, SecretData, Unavailable};
use zen_model::ObjectKey;

use super::take_into;
use crate::cluster::watch::Signal;

/// The references of one plane.
#[derive(Debug)]
pub(super) struct References {
    plane: Plane,
    /// What the configuration in effect names.
    named: Vec<Reference>,
    /// What objects name that came into force since.
    recent: Vec<Reference>,
    /// Those that are watched, and whether their watch has told something.
    watched: BTreeMap<Reference, bool>,
    /// What is named may not be what is watched.
    unaligned: bool,
}

impl References {
    pub(super) const fn new(plane: Plane) -> Self {
        Self { plane, named: Vec::new(), recent: Vec::new(), watched: BTreeMap::new(), unaligned: true }
    }

    /// Those of this plane.
    pub(super) fn own(&self, mut references: Vec<Reference>) -> Vec<Reference> {
        references.retain(|reference| reference.plane == self.plane);
        references
    }

    /// What is named changed.
    pub(super) const fn unaligned(&mut self) {
        self.unaligned = true;
    }

    /// An object came into force that names these.
    pub(super) fn came(&mut self, references: Vec<Reference>) {
        let own = self.own(references);
        self.unaligned |= own.iter().any(|reference| !self.watched.contains_key(reference));
        self.recent.extend(own);
    }

    /// A configuration was compiled that names these.
    pub(super) fn compiled(&mut self, references: &[Reference]) {
        self.recent.clear();
        if self.named != references {
            self.named = references.to_vec();
            self.unaligned = true;
        }
    }

    /// Watches what is named by the configuration in effect, by what came into force since, and by versions that wait.
    /// Returns which watches to end and which to begin. What nobody names any more is forgotten.
    pub(super) fn align<'a>(
        &mut self,
        objects: &mut Objects,
        staged: impl Iterator<Item = &'a Reference>,
    ) -> (Vec<Reference>, Vec<Reference>) {
        if !std::mem::take(&mut self.unaligned) {
            return (Vec::new(), Vec::new());
        }
        let own = self.named.iter().chain(&self.recent).filter(|reference| reference.plane == self.plane);
        let wanted: BTreeSet<_> = own.cloned().chain(staged.cloned()).collect();
        let wants = |kind: ReferenceKind, key: &ObjectKey| {
            wanted.contains(&Reference { plane: self.plane, kind, key: key.clone() })
        };
        objects.secrets.retain(|key, _| wants(ReferenceKind::Secret, key));
        objects.config_maps.retain(|key, _| wants(ReferenceKind::ConfigMap, key));
        objects.unavailable.retain(|(kind, key), _| wants(*kind, key));
        let ended: Vec<_> = self.watched.keys().filter(|reference| !wanted.contains(reference)).cloned().collect();
        self.watched.retain(|reference, _| wanted.contains(reference));
        let begun: Vec<_> = wanted.into_iter().filter(|reference| !self.watched.contains_key(reference)).collect();
        self.watched.extend(begun.iter().map(|reference| (reference.clone(), false)));
        (ended, begun)
    }

    /// Whether every watch has told something, be it a refusal.
    pub(super) fn are_answered(&self) -> bool {
        !self.unaligned && self.watched.values().all(|answered| *answered)
    }

    pub(super) fn secret(&mut self, objects: &mut Objects, own: &Reference, signal: Signal<Arc<SecretData>>) -> bool {
        let signal = single(signal, &own.key);
        let Some(changed) = self.answer(objects, own, &signal) else { return false };
        take_into(&mut objects.secrets, signal, Clone::clone) || changed
    }

    pub(super) fn config_map(
        &mut self,
        objects: &mut Objects,
        own: &Reference,
        signal: Signal<Arc<ConfigMapData>>,
    ) -> bool {
        let signal = single(signal, &own.key);
        let Some(changed) = self.answer(objects, own, &signal) else { return false };
        take_into(&mut objects.config_maps, signal, Clone::clone) || changed
    }

    /// Notes what a watch says about the object's being there at all: whether that changed. None where nobody watches it
    /// any more.
    fn answer<K>(&mut self, objects: &mut Objects, reference: &Reference, signal: &Signal<K>) -> Option<bool> {
        *self.watched.get_mut(reference)? = true;
        let key = (reference.kind, reference.key.clone());
        let before = objects.unavailable.get(&key).copied();
        let after = match signal {
            Signal::Apply(..) | Signal::Reset(_) => None,
            Signal::Delete(_) => Some(Unavailable::Absent),
            // What was told stays in force: a watch that is refused or broken says nothing about the object.
            Signal::Failed { forbidden: true } if before.is_none() && !is_held(objects, reference) => {
                Some(Unavailable::Forbidden)
            }
            Signal::Failed { .. } => before,
        };
        match after {
            Some(after) => drop(objects.unavailable.insert(key, after)),
            None => drop(objects.unavailable.remove(&key)),
        }
        Some(before != after)
    }
}

/// Whether the object was read, or is known not to exist.
pub(super) fn is_known(objects: &Objects, reference: &Reference) -> bool {
    let key = (reference.kind, reference.key.clone());
    is_held(objects, reference) || objects.unavailable.get(&key) == Some(&Unavailable::Absent)
}

fn is_held(objects: &Objects, reference: &Reference) -> bool {
    match reference.kind {
        ReferenceKind::Secret => objects.secrets.contains_key(&reference.key),
        ReferenceKind::ConfigMap => objects.config_maps.contains_key(&reference.key),
    }
}

/// A watch of one name says nothing about other names.
fn single<K>(signal: Signal<K>, own: &ObjectKey) -> Signal<K> {
    match signal {
        Signal::Reset(found) => match found.into_iter().find(|(key, _)| key == own) {
            Some((key, object)) => Signal::Apply(key, object),
            None => Signal::Delete(own.clone()),
        },
        Signal::Apply(key, _) | Signal::Delete(key) if key != *own => Signal::Failed { forbidden: false },
        signal => signal,
    }
}
