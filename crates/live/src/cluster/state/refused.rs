//! Objects of ours that could not be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use zen_compile::{Objects, Refused};
use zen_model::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Refusals {
    all: BTreeMap<(&'static str, ObjectKey), Arc<Refused>>,
    changed: bool,
}

impl Refusals {
    pub(super) fn add(&mut self, refused: Arc<Refused>) {
        self.all.insert((refused.kind, refused.key.clone()), refused);
        self.changed = true;
    }

    pub(super) fn remove(&mut self, kind: &'static str, key: &ObjectKey) {
        if !self.all.is_empty() {
            self.changed |= self.all.remove(&(kind, key.clone())).is_some();
        }
    }

    pub(super) fn of(&self, kind: &'static str) -> impl Iterator<Item = &ObjectKey> {
        self.all.keys().filter(move |(own, _)| *own == kind).map(|(_, key)| key)
    }

    /// Hands them to the compiler; whether they are others than before.
    pub(super) fn show(&mut self, objects: &mut Objects) -> bool {
        let changed = std::mem::take(&mut self.changed);
        if changed {
            objects.refused = self.all.values().map(|refused| Refused::clone(refused)).collect();
        }
        changed
    }
}
