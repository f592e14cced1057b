//! Services and their addresses: all of them reduced, and those that Destinations name in force, so that the others
//! change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zen_compile::{EndpointSlice, Objects, Service};
use zen_model::ObjectKey;

use super::take_into;
use crate::cluster::watch::Signal;

/// The Services of the cluster. A Service takes some hundred bytes here, an address about twenty-four.
#[derive(Debug, Default)]
pub(super) struct Services {
    all: BTreeMap<ObjectKey, Arc<Service>>,
    slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// Those that Destinations name.
    named: BTreeSet<ObjectKey>,
    /// Destinations changed since the names were collected.
    pub(super) outdated: bool,
}

impl Services {
    /// Those of a cache.
    pub(super) fn of(objects: &Objects) -> Self {
        Self {
            all: objects.services.clone(),
            slices: objects.endpoint_slices.clone(),
            named: objects.services.keys().cloned().collect(),
            outdated: true,
        }
    }

    /// Whether something in force changed.
    pub(super) fn take_service(&mut self, objects: &mut Objects, signal: Signal<Arc<Service>>) -> bool {
        let touched = touched(&signal);
        if !take_into(&mut self.all, signal, Clone::clone) {
            return false;
        }
        let Some(key) = touched else { return self.select_services(objects) };
        if !self.named.contains(&key) {
            return false;
        }
        match self.all.get(&key) {
            Some(service) => drop(objects.services.insert(key, Arc::clone(service))),
            None => drop(objects.services.remove(&key)),
        }
        true
    }

    /// Whether something in force changed.
    pub(super) fn take_slice(&mut self, objects: &mut Objects, signal: Signal<Arc<EndpointSlice>>) -> bool {
        let touched = touched(&signal);
        if !take_into(&mut self.slices, signal, Clone::clone) {
            return false;
        }
        let Some(key) = touched else { return self.select_slices(objects) };
        let after = self.slices.get(&key).filter(|slice| self.is_named(&key, slice));
        match after {
            Some(slice) => {
                objects.endpoint_slices.insert(key, Arc::clone(slice));
                true
            }
            None => objects.endpoint_slices.remove(&key).is_some(),
        }
    }

    /// Puts in force what the Destinations name now.
    pub(super) fn follow(&mut self, objects: &mut Objects) {
        if !std::mem::take(&mut self.outdated) {
            return;
        }
        let destinations = objects.destinations.iter();
        let named = destinations.filter_map(|(key, object)| {
            let service = object.spec.target.service.as_ref()?;
            Some(ObjectKey::new(key.namespace.clone(), &*service.name))
        });
        let named: BTreeSet<_> = named.collect();
        if named != self.named {
            self.named = named;
            self.select_services(objects);
            self.select_slices(objects);
        }
    }

    fn is_named(&self, key: &ObjectKey, slice: &EndpointSlice) -> bool {
        self.named.contains(&ObjectKey::new(key.namespace.clone(), slice.service.as_str()))
    }

    fn select_services(&self, objects: &mut Objects) -> bool {
        let named = self.named.iter().filter_map(|key| Some((key.clone(), Arc::clone(self.all.get(key)?))));
        let named: BTreeMap<_, _> = named.collect();
        let changed = named != objects.services;
        objects.services = named;
        changed
    }

    fn select_slices(&self, objects: &mut Objects) -> bool {
        let named = self.slices.iter().filter(|(key, slice)| self.is_named(key, slice));
        let named: BTreeMap<_, _> = named.map(|(key, slice)| (key.clone(), Arc::clone(slice))).collect();
        let changed = named != objects.endpoint_slices;
        objects.endpoint_slices = named;
        changed
    }
}

/// The one object that a signal is about, where it is about one.
fn touched<K>(signal: &Signal<K>) -> Option<ObjectKey> {
    match signal {
        Signal::Apply(key, _) | Signal::Delete(key) => Some(key.clone()),
        _ => None,
    }
}
