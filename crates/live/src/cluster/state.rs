//! What is known of the cluster, and what of it is in force. Pure: signals and the time go in, objects come out.
//!
//! A new version of an object waits until the Secrets and `ConfigMap`s that it names were read, with the version before in
//! force: while the grant for a new Secret is on its way, nothing that was served is refused (K-04).

mod clusters;
mod locks;
mod mesh;
mod own;
mod references;
mod refused;
mod services;
mod staged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clusters::Clusters;
pub(super) use locks::Ask;
use locks::Locks;
use mesh::Mesh;
use references::References;
use refused::Refusals;
use services::Services;
use staged::Staging;
use tokio::time::Instant;
use zen_compile::{LockUse, Objects, Plane, Reference, Unlisted};
use zen_model::{ClusterId, Namespace, ObjectKey};

use super::unseal::ZenLocks;
use super::update::{Health, Source, Update};
use super::watch::Signal;
use crate::Finding;

/// The first configuration waits so long for the Secrets that it names.
const FIRST: Duration = Duration::from_secs(3);

/// Everything that one plane knows.
#[derive(Debug)]
pub(super) struct State {
    plane: Plane,
    /// What is in force.
    pub(super) objects: Objects,
    mesh: Mesh,
    webhooks: Staging<zen_crds::Webhook>,
    destinations: Staging<zen_crds::Destination>,
    refusals: Refusals,
    services: Services,
    references: References,
    /// None where nothing opens them.
    locks: Option<Locks>,
    /// None where nobody keeps events for other clusters.
    clusters: Option<Clusters>,
    health: BTreeMap<Source, Health>,
    phase: Phase,
    /// What is in force is not what was compiled last.
    changed: bool,
}

/// How far the API server was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A watch has not told yet what there is.
    Awaited,
    /// All have, but those of references.
    Synced(Instant),
    /// Those of references too, or they were waited for long enough.
    Heard,
}

impl State {
    /// With these objects in force already, and this mesh configuration, as a cache had them.
    pub(super) fn new(
        plane: Plane,
        member: Option<ClusterId>,
        mut objects: Objects,
        mesh: Option<Arc<str>>,
        zen_locks: &ZenLocks,
    ) -> Self {
        let sources: &[Source] = match plane {
            Plane::Ingester | Plane::Operator => {
                &[Source::Webhooks, Source::Destinations, Source::Namespaces, Source::Mesh]
            }
            Plane::Egress | Plane::Member => {
                &[Source::Destinations, Source::Services, Source::EndpointSlices, Source::Namespaces, Source::Mesh]
            }
        };
        objects.zen_locks = zen_locks.are_supported().then(BTreeMap::new);
        let locks = zen_locks.are_opened().then(|| Locks::new(plane));
        if locks.is_some() {
            objects.unlisted = Unlisted::Unread;
        }
        let keeps = member.is_none() && matches!(plane, Plane::Ingester | Plane::Operator);
        let clusters = keeps.then(|| Clusters::of(&mut objects));
        objects.member = member;
        let mut state = Self {
            plane,
            clusters,
            services: Services::of(&objects),
            objects,
            mesh: Mesh::default(),
            webhooks: Staging::default(),
            destinations: Staging::default(),
            refusals: Refusals::default(),
            references: References::new(plane),
            locks,
            health: sources.iter().map(|source| (*source, Health::Awaited)).collect(),
            phase: Phase::Awaited,
            changed: true,
        };
        state.mesh.take(&mut state.objects, mesh);
        state
    }

    /// The watches to begin with.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        let locks = self.locks.is_some().then_some(Source::ZenLocks);
        self.health.keys().copied().chain(locks).chain(self.clusters.is_some().then_some(Source::Clusters))
    }

    /// Takes what a watch told.
    pub(super) fn take(&mut self, update: Update, now: Instant) {
        match update {
            Update::Webhooks(signal) => {
                self.hear(Source::Webhooks, &signal);
                self.own(signal, now);
            }
            Update::Destinations(signal) => {
                self.hear(Source::Destinations, &signal);
                self.own(signal, now);
            }
            Update::Services(signal) => {
                self.hear(Source::Services, &signal);
                self.changed |= self.services.take_service(&mut self.objects, signal);
            }
            Update::EndpointSlices(signal) => {
                self.hear(Source::EndpointSlices, &signal);
                self.changed |= self.services.take_slice(&mut self.objects, signal);
            }
            Update::Namespaces(signal) => {
                self.hear(Source::Namespaces, &signal);
                let by_name = |key: &ObjectKey| Namespace::from(key.name.as_str());
                self.changed |= take_into(&mut self.objects.namespaces, signal, by_name);
            }
            Update::Clusters(signal) => {
                if let Some(clusters) = &mut self.clusters {
                    self.changed |= clusters.take(&mut self.objects, signal);
                }
            }
            Update::Mesh(signal) => {
                self.hear(Source::Mesh, &signal);
                let found = match signal {
                    Signal::Reset(found) => found.into_iter().next().map(|(_, text)| text),
                    Signal::Apply(_, text) => Some(text),
                    Signal::Delete(_) => None,
                    Signal::Failed { .. } => return,
                };
                self.changed |= self.mesh.take(&mut self.objects, found.and_then(|found| found.0));
            }
            Update::Secret(reference, signal) => {
                self.changed |= self.references.secret(&mut self.objects, &reference, signal);
            }
            Update::ConfigMap(reference, signal) => {
                self.changed |= self.references.config_map(&mut self.objects, &reference, signal);
            }
            Update::ZenLocks(signal) => {
                if let Some(locks) = &mut self.locks {
                    locks.hear(signal, now);
                }
            }
            Update::Unsealed(ask, answer) => {
                if let Some(locks) = &mut self.locks {
                    locks.answered(&ask, answer, now);
                }
            }
        }
        if self.phase == Phase::Awaited && self.health.values().all(|health| *health != Health::Awaited) {
            self.phase = Phase::Synced(now);
        }
    }

    fn hear<K>(&mut self, source: Source, signal: &Signal<K>) {
        if let Some(health) = self.health.get_mut(&source) {
            *health = health.after(signal);
        }
    }

    /// Brings into force what has waited long enough. Returns when there is something to do again by itself.
    pub(super) fn settle(&mut self, now: Instant) -> Option<Instant> {
        let mut again = None;
        if let Some(locks) = &mut self.locks {
            self.changed |= locks.show(&mut self.objects);
            again = locks.next();
        }
        let webhooks = self.promote::<zen_crds::Webhook>(now);
        let destinations = self.promote::<zen_crds::Destination>(now);
        if matches!(self.plane, Plane::Egress | Plane::Member) {
            self.services.follow(&mut self.objects);
        }
        self.changed |= self.refusals.show(&mut self.objects);
        let incomplete = self.phase == Phase::Heard && !self.is_complete();
        self.changed |= std::mem::replace(&mut self.objects.incomplete, incomplete) != incomplete;
        let first = match self.phase {
            Phase::Synced(since) => Some(since + FIRST),
            Phase::Awaited | Phase::Heard => None,
        };
        [again, webhooks, destinations, first].into_iter().flatten().min()
    }

    /// Whether what is in force may take effect, and is another than what did. The first time it waits for the references,
    /// though not for ever.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if let Phase::Synced(since) = self.phase
            && (self.references.are_answered()
                && self.locks.as_ref().is_none_or(Locks::are_answered)
                && self.clusters.as_ref().is_none_or(Clusters::are_read)
                || now >= since + FIRST)
        {
            self.phase = Phase::Heard;
        }
        self.has_change()
    }

    /// As [`State::is_due`] said last.
    pub(super) fn has_change(&self) -> bool {
        self.phase == Phase::Heard && self.changed
    }

    /// What is in force is compiled now.
    pub(super) const fn begin(&mut self) {
        self.changed = false;
    }

    /// Takes what the configuration names that was compiled.
    pub(super) fn compiled(&mut self, references: &[Reference], lock_uses: &[LockUse]) {
        self.references.compiled(references);
        if let Some(locks) = &mut self.locks {
            locks.compiled(lock_uses);
        }
    }

    /// Makes what is named what is watched. Returns which watches to end and which to begin.
    pub(super) fn align(&mut self) -> (Vec<Reference>, Vec<Reference>) {
        if let Some(locks) = &mut self.locks {
            locks.align(self.webhooks.lock_uses().chain(self.destinations.lock_uses()));
        }
        let staged = self.webhooks.references().chain(self.destinations.references());
        self.references.align(&mut self.objects, staged)
    }

    /// What of `ZenLock`s is to be asked now.
    pub(super) fn asks(&mut self, now: Instant) -> Vec<Ask> {
        self.locks.as_mut().map(|locks| locks.asks(now)).unwrap_or_default()
    }

    /// Whether an object that is not here does not exist.
    pub(super) fn is_complete(&self) -> bool {
        let named = [Source::Webhooks, Source::Destinations];
        let mut named = named.iter().filter_map(|source| self.health.get(source));
        self.phase == Phase::Heard && named.all(|health| *health == Health::Synced)
    }

    /// The mesh configuration in force, as it is written.
    pub(super) fn mesh_text(&self) -> Option<Arc<str>> {
        self.mesh.text()
    }

    /// What is wrong and belongs to no object of ours.
    pub(super) fn findings(&self) -> &[Finding] {
        self.mesh.findings()
    }
}

/// Takes a signal into a map; whether the map changed. The same content keeps its place in memory: the compiler sees
/// then that nothing changed.
fn take_into<K: Ord, T: PartialEq>(
    map: &mut BTreeMap<K, Arc<T>>,
    signal: Signal<Arc<T>>,
    key_of: impl Fn(&ObjectKey) -> K,
) -> bool {
    let put = |map: &mut BTreeMap<K, Arc<T>>, key: K, object: Arc<T>| {
        let changed = map.get(&key).is_none_or(|before| **before != *object);
        if changed {
            map.insert(key, object);
        }
        changed
    };
    match signal {
        Signal::Apply(key, object) => put(map, key_of(&key), object),
        Signal::Delete(key) => map.remove(&key_of(&key)).is_some(),
        Signal::Reset(found) => {
            let found: BTreeMap<_, _> = found.into_iter().map(|(key, object)| (key_of(&key), object)).collect();
            let before = map.len();
            map.retain(|key, _| found.contains_key(key));
            let gone = map.len() != before;
            found.into_iter().fold(gone, |changed, (key, object)| put(map, key, object) || changed)
        }
        Signal::Failed { .. } => false,
    }
}

#[cfg(test)]
mod tests;
