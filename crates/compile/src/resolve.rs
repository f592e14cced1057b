//! References of an object to others, and the record of them.
//!
//! Whatever a compiled object depended on beside its own spec is looked up here and noted with a digest of the answer.
//! The next compilation repeats the look-ups; where every answer is the same, the compiled object is too (see
//! [`crate::cache`]).

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use zen_crds::{DestinationSpec, SubjectKind};
use zen_model::{ClusterId, Name, Namespace, ObjectKey, ObjectReason};

use crate::enrolled::Standing;
use crate::relay::Relay;
use crate::{
    Address, Cache, ConfigMapData, EndpointSlice, LockData, Mode, Objects, ReferenceKind, SecretData, Unavailable,
    Unlisted, mesh, network,
};

/// SHA-256; zeros where there is nothing.
pub(crate) type Digest = [u8; 32];

/// One look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Secret(ObjectKey),
    ConfigMap(ObjectKey),
    /// What an object of this kind and name has of it.
    ZenLock {
        lock: ObjectKey,
        kind: SubjectKind,
        name: Name,
    },
    Service(ObjectKey, u16),
    Cluster(ClusterId),
    Consent {
        destination: ObjectKey,
        from: Namespace,
    },
    Labels,
}

/// Everything that is the same for all objects of one compilation.
pub(crate) struct Environment<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) mode: Mode,
    pub(crate) mesh: Arc<mesh::Config>,
    /// `zen up` without a mesh configuration: the owner of the folder is the owner of the machine.
    pub(crate) permissive: bool,
    slices: HashMap<(&'a Namespace, &'a str), Vec<&'a EndpointSlice>>,
    refused: HashSet<(&'static str, &'a ObjectKey)>,
    labels: OnceCell<Digest>,
    pub(crate) digest: Digest,
}

/// Whether a Destination takes events from a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Consent {
    /// There is none of this name.
    Missing,
    /// There may be one of this name.
    Unknown,
    /// It does not allow the namespace.
    Refused,
    /// It may, and forwards these received headers.
    Given { forward: Vec<String> },
}

/// Why a Service has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unresolved {
    Missing,
    ExternalName,
    NoSuchPort,
}

/// Why a Secret or `ConfigMap` is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    Absent,
    Forbidden,
    Unread,
    /// The source opens no `ZenLock`s.
    Unbuilt,
}

impl Gap {
    const fn digest(self) -> Digest {
        let mut digest = [0; 32];
        digest[0] = match self {
            Self::Absent => 1,
            Self::Forbidden => 2,
            Self::Unread => 3,
            Self::Unbuilt => 4,
        };
        digest
    }

    /// Reason and message.
    pub(crate) fn tell(self, kind: &str, key: &ObjectKey) -> (ObjectReason, String) {
        match self {
            Self::Absent => {
                let message = format!("{kind} {key} does not exist; create it in this namespace or correct the name");
                (ObjectReason::RefNotFound, message)
            }
            Self::Forbidden => {
                let message = format!("{kind} {key} may not be read yet; the operator grants it in a moment");
                (ObjectReason::RefPending, message)
            }
            Self::Unread => (ObjectReason::RefPending, format!("{kind} {key} was not read yet; wait a moment")),
            Self::Unbuilt => (
                ObjectReason::NotSupported,
                "nothing opens ZenLocks here: have zenLock.enabled switched on in the chart's values, or use secretRef"
                    .to_owned(),
            ),
        }
    }
}

impl<'a> Environment<'a> {
    /// What the cache knows of the same mesh configuration is not worked out again.
    pub(crate) fn new(objects: &'a Objects, mode: Mode, cache: Option<&Cache>) -> Self {
        let permissive = objects.mesh.is_none() && mode == Mode::Standalone;
        let mesh = objects.mesh.clone().unwrap_or_default();
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for (key, slice) in &objects.endpoint_slices {
            slices.entry((&key.namespace, slice.service.as_str())).or_default().push(&**slice);
        }
        let refused = objects.refused.iter().map(|refused| (refused.kind, &refused.key)).collect();
        let same = |a: &Option<Arc<mesh::Config>>| match (a, &objects.mesh) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let known = cache.and_then(|cache| cache.ground.as_ref());
        let known = known.filter(|ground| ground.mode == mode && ground.member == objects.member && same(&ground.mesh));
        let digest =
            known.map_or_else(|| digest_of(&(&mesh, mode, &objects.member, permissive)), |ground| ground.digest);
        Self { objects, mode, mesh, permissive, slices, refused, labels: OnceCell::new(), digest }
    }

    pub(crate) fn digest(&self, lookup: &Lookup) -> Digest {
        match lookup {
            Lookup::Secret(key) => {
                let found = self.referenced(ReferenceKind::Secret, key, &self.objects.secrets);
                found.map_or_else(Gap::digest, |secret| secret.map_or([0; 32], SecretData::digest))
            }
            Lookup::ConfigMap(key) => {
                let found = self.referenced(ReferenceKind::ConfigMap, key, &self.objects.config_maps);
                found.map_or_else(Gap::digest, |map| map.map_or([0; 32], ConfigMapData::digest))
            }
            Lookup::ZenLock { lock, kind, name } => {
                let digest =
                    |lock: Option<&LockData>| lock.map_or([0; 32], |lock| lock.digest_for(*kind, name.as_str()));
                self.zen_lock(lock).map_or_else(Gap::digest, digest)
            }
            Lookup::Service(key, port) => digest_of(&self.service(key, *port)),
            Lookup::Consent { destination, from } => digest_of(&self.consent(destination, from)),
            Lookup::Cluster(id) => digest_of(&self.standing(id)),
            Lookup::Labels => *self.labels.get_or_init(|| digest_of(&self.objects.namespaces)),
        }
    }

    /// The object; none where references are taken to resolve.
    fn referenced<T>(
        &self,
        kind: ReferenceKind,
        key: &ObjectKey,
        map: &'a BTreeMap<ObjectKey, Arc<T>>,
    ) -> Result<Option<&'a T>, Gap> {
        if self.mode.assumes() {
            return Ok(None);
        }
        if let Some(found) = map.get(key) {
            return Ok(Some(found));
        }
        let known = (self.mode != Mode::Standalone).then(|| self.objects.unavailable.get(&(kind, key.clone())));
        Err(match known {
            None | Some(Some(Unavailable::Absent)) => Gap::Absent,
            Some(Some(Unavailable::Forbidden)) => Gap::Forbidden,
            Some(None) => Gap::Unread,
        })
    }

    fn zen_lock(&self, key: &ObjectKey) -> Result<Option<&'a LockData>, Gap> {
        let Some(locks) = &self.objects.zen_locks else { return Err(Gap::Unbuilt) };
        if self.mode.assumes() {
            return Ok(None);
        }
        let missing = match self.objects.unlisted {
            Unlisted::Absent => Gap::Absent,
            Unlisted::Unread => Gap::Unread,
            Unlisted::Forbidden => Gap::Forbidden,
        };
        locks.get(key).map(|lock| Some(&**lock)).ok_or(missing)
    }

    fn consent(&self, destination: &ObjectKey, from: &Namespace) -> Consent {
        let Some(object) = self.objects.destinations.get(destination) else {
            let known = destination.namespace == *from && self.refused.contains(&("Destination", destination));
            return match known {
                true => Consent::Given { forward: Vec::new() },
                false if self.objects.incomplete => Consent::Unknown,
                false => Consent::Missing,
            };
        };
        if destination.namespace != *from && !self.allows(&object.spec, from) {
            return Consent::Refused;
        }
        let forward = object.spec.headers.iter().flat_map(|headers| &headers.forward);
        Consent::Given { forward: forward.map(|name| name.to_ascii_lowercase()).collect() }
    }

    fn allows(&self, spec: &DestinationSpec, from: &Namespace) -> bool {
        spec.allow_from.as_ref().is_some_and(|allow| {
            allow.namespaces.iter().any(|name| **name == *from.as_str())
                || allow.selector.as_ref().is_some_and(|selector| {
                    let labels = self.objects.namespaces.get(from).map(|labels| &**labels);
                    selects(selector.match_labels.iter().map(|(key, value)| (key.as_str(), &**value)), from, labels)
                })
        })
    }

    fn standing(&self, cluster: &ClusterId) -> Standing {
        let missing = if self.objects.clusters_unread { Standing::Unread } else { Standing::Missing };
        match self.objects.clusters.get(cluster).map_or(missing, |enrolled| enrolled.standing()) {
            // News of a stream is none for those who keep events; who writes a status says it.
            Standing::Away if !self.mode.assumes() => Standing::Joined,
            standing => standing,
        }
    }

    /// What a Destination of this cluster is here.
    pub(crate) fn relay(&self, cluster: Option<&ClusterId>) -> Relay {
        match (&self.objects.member, self.mode) {
            (Some(member), _) if cluster == Some(member) => Relay::Own,
            (Some(_), _) => Relay::Elsewhere,
            // A folder without the enrollment may be the member's, whose objects are checked whole.
            (None, Mode::Standalone) if cluster.is_some_and(|id| !self.objects.clusters.contains_key(id)) => Relay::Own,
            (None, _) => Relay::Hub,
        }
    }

    /// Every known namespace that a Destination allows.
    pub(crate) fn allowed(&self, spec: &DestinationSpec) -> Vec<Namespace> {
        let named = spec.allow_from.iter().flat_map(|allow| &allow.namespaces).map(|name| Namespace::from(&**name));
        let selected = self.objects.namespaces.keys().filter(|namespace| self.allows(spec, namespace)).cloned();
        let mut allowed: Vec<_> = named.chain(selected).collect();
        allowed.sort();
        allowed.dedup();
        allowed
    }

    /// Addresses of a Service.
    fn service(&self, key: &ObjectKey, port: u16) -> Result<Vec<Address>, Unresolved> {
        if let Some(addresses) = self.objects.overrides.get(key) {
            return Ok(addresses.iter().map(|socket| Address { socket: *socket, trusted: true }).collect());
        }
        let service = self.objects.services.get(key).ok_or(Unresolved::Missing)?;
        if service.external_name {
            return Err(Unresolved::ExternalName);
        }
        let name = &service.ports.iter().find(|own| own.port == port).ok_or(Unresolved::NoSuchPort)?.name;
        let slices = self.slices.get(&(&key.namespace, key.name.as_str()));
        let mut addresses = BTreeMap::<SocketAddr, bool>::new();
        for slice in slices.into_iter().flatten() {
            let Some(port) = slice.ports.get(name) else { continue };
            for endpoint in &slice.endpoints {
                // An address may be in two slices while one replaces the other.
                *addresses.entry(SocketAddr::new(endpoint.address, *port)).or_default() |= endpoint.is_pod;
            }
        }
        addresses.retain(|address, _| !network::is_metadata(address.ip()));
        Ok(addresses.into_iter().map(|(socket, trusted)| Address { socket, trusted }).collect())
    }
}

/// Every namespace has the label `kubernetes.io/metadata.name`, whether its manifest says so or not.
fn selects<'a>(
    mut wanted: impl Iterator<Item = (&'a str, &'a str)>,
    namespace: &Namespace,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    wanted.all(|(key, value)| match key {
        "kubernetes.io/metadata.name" => namespace.as_str() == value,
        _ => labels.and_then(|labels| labels.get(key)).is_some_and(|own| own == value),
    })
}

/// Looks up, and remembers what.
pub(crate) struct Resolver<'e, 'a> {
    pub(crate) environment: &'e Environment<'a>,
    record: Vec<(Lookup, Digest)>,
}

impl<'e, 'a> Resolver<'e, 'a> {
    pub(crate) const fn new(environment: &'e Environment<'a>) -> Self {
        Self { environment, record: Vec::new() }
    }

    /// A Secret; none where it is taken to be there.
    pub(crate) fn secret(&mut self, key: &ObjectKey) -> Result<Option<&'a SecretData>, Gap> {
        self.note(Lookup::Secret(key.clone()));
        self.environment.referenced(ReferenceKind::Secret, key, &self.environment.objects.secrets)
    }

    /// A `ConfigMap`; none where it is taken to be there.
    pub(crate) fn config_map(&mut self, key: &ObjectKey) -> Result<Option<&'a ConfigMapData>, Gap> {
        self.note(Lookup::ConfigMap(key.clone()));
        self.environment.referenced(ReferenceKind::ConfigMap, key, &self.environment.objects.config_maps)
    }

    /// A `ZenLock` for an object of this kind and name; none where it is taken to be there.
    pub(crate) fn zen_lock(
        &mut self,
        lock: &ObjectKey,
        kind: SubjectKind,
        name: &str,
    ) -> Result<Option<&'a LockData>, Gap> {
        self.note(Lookup::ZenLock { lock: lock.clone(), kind, name: name.into() });
        self.environment.zen_lock(lock)
    }

    pub(crate) fn service(&mut self, key: &ObjectKey, port: u16) -> Result<Vec<Address>, Unresolved> {
        self.note(Lookup::Service(key.clone(), port));
        self.environment.service(key, port)
    }

    pub(crate) fn standing(&mut self, cluster: &ClusterId) -> Standing {
        self.note(Lookup::Cluster(cluster.clone()));
        self.environment.standing(cluster)
    }

    pub(crate) fn consent(&mut self, destination: &ObjectKey, from: &Namespace) -> Consent {
        self.note(Lookup::Consent { destination: destination.clone(), from: from.clone() });
        self.environment.consent(destination, from)
    }

    pub(crate) fn allowed(&mut self, spec: &DestinationSpec) -> Vec<Namespace> {
        if spec.allow_from.as_ref().is_some_and(|allow| allow.selector.is_some()) {
            self.note(Lookup::Labels);
        }
        self.environment.allowed(spec)
    }

    fn note(&mut self, lookup: Lookup) {
        if !self.record.iter().any(|(noted, _)| *noted == lookup) {
            let digest = self.environment.digest(&lookup);
            self.record.push((lookup, digest));
        }
    }

    pub(crate) fn into_record(self) -> Vec<(Lookup, Digest)> {
        self.record
    }
}

/// A digest of anything whose `Debug` shows all of it; nothing that holds a secret comes here.
pub(crate) fn digest_of(value: &impl std::fmt::Debug) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, format!("{value:?}").as_bytes()).as_ref());
    out
}
