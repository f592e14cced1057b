//! Member clusters, by their enrollments: at the hub, for whoever keeps events for them.
//!
//! Nobody else's events wait for these: the first configuration does for a while only, and a cluster that was not read yet is
//! not one that does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use zen_compile::{Enrolled, Objects};
use zen_model::{ClusterId, ObjectKey};

use super::take_into;
use crate::cluster::update::Health;
use crate::cluster::watch::Signal;

#[derive(Debug)]
pub(super) struct Clusters {
    known: BTreeMap<ObjectKey, Arc<Enrolled>>,
    health: Health,
}

impl Clusters {
    /// With what a cache had.
    pub(super) fn of(objects: &mut Objects) -> Self {
        objects.clusters_unread = true;
        let known = objects.clusters.iter().map(|(id, enrolled)| (id.enrollment(), Arc::clone(enrolled)));
        Self { known: known.collect(), health: Health::Awaited }
    }

    /// Whether the watch told what there is.
    pub(super) fn are_read(&self) -> bool {
        self.health != Health::Awaited
    }

    /// Takes what the watch told; whether that is news.
    pub(super) fn take(&mut self, objects: &mut Objects, signal: Signal<Arc<Enrolled>>) -> bool {
        self.health = self.health.after(&signal);
        let mut changed = take_into(&mut self.known, signal, ObjectKey::clone);
        if changed {
            // The API server lets none have a name that no cluster can have.
            let id = |key: &ObjectKey| ClusterId::new(key.namespace.as_str(), key.name.as_str()).ok();
            let known = self.known.iter().filter_map(|(key, enrolled)| Some((id(key)?, Arc::clone(enrolled))));
            objects.clusters = known.collect();
        }
        let unread = !self.are_read();
        changed |= std::mem::replace(&mut objects.clusters_unread, unread) != unread;
        changed
    }
}
