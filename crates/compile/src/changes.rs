//! What changed since the last compilation. Among ten thousand objects one change must cost little more than looking at
//! each of the others once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use zen_model::{ClusterId, Namespace, ObjectKey};

use crate::resolve::{Digest, Lookup};
use crate::{
    ConfigMapData, EndpointSlice, Enrolled, LockData, Objects, ReferenceKind, SecretData, Service, Unavailable,
    Unlisted,
};

/// What a compilation read beside Webhooks and Destinations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    secrets: BTreeMap<ObjectKey, Arc<SecretData>>,
    config_maps: BTreeMap<ObjectKey, Arc<ConfigMapData>>,
    zen_locks: Option<BTreeMap<ObjectKey, Arc<LockData>>>,
    unlisted: Unlisted,
    unavailable: BTreeMap<(ReferenceKind, ObjectKey), Unavailable>,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    endpoint_slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    overrides: BTreeMap<ObjectKey, Vec<SocketAddr>>,
    clusters: BTreeMap<ClusterId, Arc<Enrolled>>,
    namespaces: BTreeMap<Namespace, Arc<BTreeMap<String, String>>>,
    clusters_unread: bool,
    pub(crate) incomplete: bool,
    /// Destinations that could not be read.
    pub(crate) refused: BTreeSet<ObjectKey>,
}

impl Inputs {
    pub(crate) fn of(objects: &Objects) -> Self {
        let refused = objects.refused.iter().filter(|refused| refused.kind == "Destination");
        Self {
            secrets: objects.secrets.clone(),
            config_maps: objects.config_maps.clone(),
            zen_locks: objects.zen_locks.clone(),
            unlisted: objects.unlisted,
            unavailable: objects.unavailable.clone(),
            services: objects.services.clone(),
            endpoint_slices: objects.endpoint_slices.clone(),
            overrides: objects.overrides.clone(),
            clusters: objects.clusters.clone(),
            namespaces: objects.namespaces.clone(),
            clusters_unread: objects.clusters_unread,
            incomplete: objects.incomplete,
            refused: refused.map(|refused| refused.key.clone()).collect(),
        }
    }
}

/// Look-ups that may be answered otherwise than the last time. An object that made none of them need not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    secrets: HashSet<ObjectKey>,
    config_maps: HashSet<ObjectKey>,
    zen_locks: HashSet<ObjectKey>,
    /// Whether the source opens `ZenLock`s at all, or knows all that there are, is not as it was.
    opens: bool,
    services: HashSet<ObjectKey>,
    clusters: HashSet<ClusterId>,
    /// Whether all clusters are known is not as it was.
    clusters_read: bool,
    labels: bool,
    /// Destinations whose consent may be another.
    pub(crate) consents: HashSet<ObjectKey>,
}

impl Changes {
    pub(crate) fn between(before: &Inputs, after: &Objects) -> Self {
        let mut changes = Self::default();
        changes.secrets.extend(differing(&before.secrets, &after.secrets, Arc::ptr_eq).cloned());
        changes.config_maps.extend(differing(&before.config_maps, &after.config_maps, Arc::ptr_eq).cloned());
        let none = BTreeMap::new();
        let (old, new) = (&before.zen_locks, &after.zen_locks);
        let locks = differing(old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none), Arc::ptr_eq);
        changes.zen_locks.extend(locks.cloned());
        changes.opens = old.is_some() != new.is_some() || before.unlisted != after.unlisted;
        for (kind, key) in differing(&before.unavailable, &after.unavailable, PartialEq::eq) {
            match kind {
                ReferenceKind::Secret => changes.secrets.insert(key.clone()),
                ReferenceKind::ConfigMap => changes.config_maps.insert(key.clone()),
            };
        }
        changes.services.extend(differing(&before.services, &after.services, Arc::ptr_eq).cloned());
        changes.services.extend(differing(&before.overrides, &after.overrides, PartialEq::eq).cloned());
        for (key, old, new) in side_by_side(&before.endpoint_slices, &after.endpoint_slices) {
            if !matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new)) {
                let owners = old.into_iter().chain(new);
                let owners = owners.map(|slice| ObjectKey::new(key.namespace.clone(), slice.service.as_str()));
                changes.services.extend(owners);
            }
        }
        changes.clusters.extend(differing(&before.clusters, &after.clusters, Arc::ptr_eq).cloned());
        changes.clusters_read = before.clusters_unread != after.clusters_unread;
        let same = |a: &Arc<BTreeMap<_, _>>, b: &Arc<BTreeMap<_, _>>| Arc::ptr_eq(a, b) || a == b;
        changes.labels = differing(&before.namespaces, &after.namespaces, same).next().is_some();
        changes
    }

    /// Whether one of these look-ups may be answered otherwise.
    pub(crate) fn touch(&self, record: &[(Lookup, Digest)]) -> bool {
        let nothing = self.secrets.is_empty()
            && self.config_maps.is_empty()
            && self.zen_locks.is_empty()
            && !self.opens
            && self.services.is_empty()
            && self.clusters.is_empty()
            && !self.clusters_read
            && self.consents.is_empty()
            && !self.labels;
        !nothing
            && record.iter().any(|(lookup, _)| match lookup {
                Lookup::Secret(key) => self.secrets.contains(key),
                Lookup::ConfigMap(key) => self.config_maps.contains(key),
                Lookup::ZenLock { lock: key, .. } => self.opens || self.zen_locks.contains(key),
                Lookup::Service(key, _) => self.services.contains(key),
                Lookup::Cluster(id) => self.clusters_read || self.clusters.contains(id),
                // A namespace's labels may be what consent depends on.
                Lookup::Consent { destination, .. } => self.labels || self.consents.contains(destination),
                Lookup::Labels => self.labels,
            })
    }
}

fn differing<'a, K: Ord, V>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> impl Iterator<Item = &'a K> {
    side_by_side(before, after)
        .filter(
            move |(_, before, after)| !matches!((before, after), (Some(before), Some(after)) if same(before, after)),
        )
        .map(|(key, _, _)| key)
}

/// Every key of two maps, in order, with what each has there.
pub(crate) fn side_by_side<'a, K: Ord, A, B>(
    a: &'a BTreeMap<K, A>,
    b: &'a BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, Option<&'a A>, Option<&'a B>)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let a = if order.is_le() { a.next() } else { None };
        let b = if order.is_ge() { b.next() } else { None };
        let key = a.map(|(key, _)| key).or(b.map(|(key, _)| key))?;
        Some((key, a.map(|(_, value)| value), b.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_side_by_side() {
        let (a, b) = (BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd')]), BTreeMap::from([(2, 'b'), (3, 'c'), (4, 'x')]));
        let all: Vec<_> = side_by_side(&a, &b).map(|(key, a, b)| (*key, a.copied(), b.copied())).collect();
        let expected =
            [(1, Some('a'), None), (2, Some('b'), Some('b')), (3, None, Some('c')), (4, Some('d'), Some('x'))];
        assert_eq!(all, expected);
        assert_eq!(differing(&a, &b, PartialEq::eq).copied().collect::<Vec<_>>(), [1, 3, 4]);
    }
}
