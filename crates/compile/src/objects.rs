//! What the compiler reads: objects as any source delivers them, reduced to what matters here.
//!
//! Each object is behind an `Arc`: a source that hands in the same `Arc` again says that the object did not change.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use zen_model::{ClusterId, Namespace, ObjectKey, Secret};

use crate::{Enrolled, LockData, Place, Problem, ReferenceKind, Unlisted, mesh};

/// Everything that a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Webhooks that their source could read.
    pub webhooks: BTreeMap<ObjectKey, Arc<zen_crds::Webhook>>,
    /// Destinations that their source could read.
    pub destinations: BTreeMap<ObjectKey, Arc<zen_crds::Destination>>,
    /// Secrets.
    pub secrets: BTreeMap<ObjectKey, Arc<SecretData>>,
    /// Config maps.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMapData>>,
    /// `ZenLock`s, opened as far as their source can; none from a source that opens no `ZenLock`s, which makes every
    /// `zenLockRef` unsupported.
    pub zen_locks: Option<BTreeMap<ObjectKey, Arc<LockData>>>,
    /// What is known of a `ZenLock` that is not there.
    pub unlisted: Unlisted,
    /// Secrets and config maps that are known not to be there. In a cluster, one that is neither here nor above was not
    /// read yet.
    pub unavailable: BTreeMap<(ReferenceKind, ObjectKey), Unavailable>,
    /// Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// Endpoint slices, by their own names.
    pub endpoint_slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<Namespace, Arc<BTreeMap<String, String>>>,
    /// The mesh configuration; none where there is none, which grants everything under `zen up` and nothing in a
    /// cluster.
    pub mesh: Option<Arc<mesh::Config>>,
    /// Addresses of Services from `--service NS/NAME=HOST:PORT`; they come before any Service object.
    pub overrides: BTreeMap<ObjectKey, Vec<SocketAddr>>,
    /// A Destination that is not here may exist: its source is out of order. Events for it wait, and consent is asked for
    /// again when they are leased.
    pub incomplete: bool,
    /// Member clusters, by their `ClusterEnrollment`s: at the hub, and only for whoever keeps events for them.
    pub clusters: BTreeMap<ClusterId, Arc<Enrolled>>,
    /// A cluster that is not here may be one: they were not read yet.
    pub clusters_unread: bool,
    /// Which cluster this is at its hub; none at the hub itself.
    pub member: Option<ClusterId>,
    /// Objects that their source refused, so that they are reported and their paths are not given to others.
    pub refused: Vec<Refused>,
}

/// Why a referenced object is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// It does not exist.
    Absent,
    /// The mesh may not read it: the operator has not granted it yet.
    Forbidden,
}

/// An object that could not be read.
#[derive(Clone, Debug)]
pub struct Refused {
    /// `Webhook` or `Destination`, ….
    pub kind: &'static str,
    /// The object.
    pub key: ObjectKey,
    /// Why.
    pub problems: Vec<Problem>,
    /// Where a Webhook would be served, as far as that could be read.
    pub place: Option<Place>,
    /// Its `metadata.uid`.
    pub uid: Option<Arc<str>>,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
}

/// The content of a Secret, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData {
    r#type: String,
    data: BTreeMap<String, Secret>,
    digest: [u8; 32],
}

impl SecretData {
    /// A Secret of a type (`Opaque`, `kubernetes.io/tls`, …) with these keys.
    pub fn new(r#type: impl Into<String>, data: BTreeMap<String, Secret>) -> Self {
        let r#type = r#type.into();
        let entries = data.iter().map(|(key, value)| (key.as_str(), value.expose()));
        let digest = digest_of(&r#type, entries);
        Self { r#type, data, digest }
    }

    /// The Secret's type.
    pub fn r#type(&self) -> &str {
        &self.r#type
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.data.get(key)
    }

    /// Names and values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.data.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Names of the keys, for messages.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }

    /// Changes whenever the content does.
    pub(crate) const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretData").field("type", &self.r#type).field("keys", &self.data.len()).finish_non_exhaustive()
    }
}

/// The content of a `ConfigMap`, binary and text alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapData {
    data: BTreeMap<String, Vec<u8>>,
    digest: [u8; 32],
}

impl ConfigMapData {
    /// A `ConfigMap` with these keys.
    pub fn new(data: BTreeMap<String, Vec<u8>>) -> Self {
        let digest = digest_of("", data.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        Self { data, digest }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(Vec::as_slice)
    }

    /// Names and values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.data.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Changes whenever the content does.
    pub(crate) const fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Lengths first, so that no two contents run together to one input.
pub(crate) fn digest_of<'a>(head: &str, entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    };
    part(head.as_bytes());
    for (key, value) in entries {
        part(key.as_bytes());
        part(value);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What matters of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Service {
    /// `ExternalName`: a name of anyone's choice, refused as a target (D-01).
    pub external_name: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct ServicePort {
    /// Its name; empty where it has none.
    pub name: String,
    /// The number that clients of the Service use.
    pub port: u16,
}

/// What matters of an `EndpointSlice`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct EndpointSlice {
    /// The Service that it belongs to, from the label `kubernetes.io/service-name`.
    pub service: String,
    /// Port numbers by the name of the Service's port.
    pub ports: BTreeMap<String, u16>,
    /// Addresses that are ready.
    pub endpoints: Vec<Endpoint>,
}

/// An address of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Whether a pod stands behind it; any other address passes the SSRF guard first (D-01).
    pub is_pod: bool,
}
