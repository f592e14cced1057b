//! What the watches tell, by kind.

use std::sync::Arc;

use zen_compile::{ConfigMapData, EndpointSlice, Enrolled, Reference, SecretData, Service};

use super::kinds::{Labels, LockHead, MeshText, Own};
use super::state::Ask;
use super::unseal::{Unanswered, Unsealed};
use super::watch::Signal;

/// A signal of one of the watches, or an answer.
#[derive(Debug)]
pub(super) enum Update {
    Webhooks(Signal<Own<zen_crds::Webhook>>),
    Destinations(Signal<Own<zen_crds::Destination>>),
    Services(Signal<Arc<Service>>),
    EndpointSlices(Signal<Arc<EndpointSlice>>),
    Namespaces(Signal<Labels>),
    Clusters(Signal<Arc<Enrolled>>),
    Mesh(Signal<MeshText>),
    Secret(Reference, Signal<Arc<SecretData>>),
    ConfigMap(Reference, Signal<Arc<ConfigMapData>>),
    ZenLocks(Signal<Arc<LockHead>>),
    /// What was asked about `ZenLock`s, answered.
    Unsealed(Ask, Result<Unsealed, Unanswered>),
}

/// The watches that every configuration of a plane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Webhooks,
    Destinations,
    Services,
    EndpointSlices,
    Namespaces,
    Mesh,
    /// Waited for as what is named is: events of the other Destinations do not wait for these.
    Clusters,
    /// Waited for as what is named is: not for ever.
    ZenLocks,
}

/// How a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing came yet.
    Awaited,
    /// In order.
    Synced,
    /// What came is the last that is known.
    Broken,
}

impl Health {
    /// After a signal.
    pub(super) fn after<K>(self, signal: &Signal<K>) -> Self {
        match (signal, self) {
            (Signal::Failed { .. }, Self::Awaited) => Self::Awaited,
            (Signal::Failed { .. }, _) => Self::Broken,
            (Signal::Reset(_), _) => Self::Synced,
            (_, before) => before,
        }
    }
}
