//! Whose objects these are, and which part of the mesh compiles them.

use crate::relay::Relay;

/// Where the objects come from, which decides what may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A folder of one owner: without a mesh configuration everything is granted but metadata addresses.
    Standalone,
    /// The objects of a cluster with many owners: nothing beyond the own prefix and public targets is granted without
    /// it.
    Cluster(Plane),
}

/// The part of the mesh that compiles the objects of a cluster: each reads no more than it needs (K-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plane {
    /// Webhooks with their Secrets, Destinations of mode `Direct` in full, and of mode `Egress` as much as leases need:
    /// limits, consent and headers, but neither credentials, TLS, signing keys nor addresses.
    Ingester,
    /// Destinations of mode `Egress` in full; no Webhooks, and nothing of the other Destinations.
    Egress,
    /// The egress of a member cluster: Destinations of mode `Relay` that name its cluster ([`crate::Objects::member`]) in
    /// full; no Webhooks, and nothing of the other Destinations.
    Member,
    /// Everything, without one Secret, `ConfigMap` or Service: references are taken to resolve. What it says is about the
    /// objects themselves, and [`crate::Compiled::references`] is what the pods have to be granted.
    Operator,
}

/// Who attempts the deliveries of a Destination (D-02).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryMode {
    /// The egress.
    #[default]
    Egress,
    /// The ingester itself, to a URL.
    Direct,
    /// The egress of a member cluster.
    Relay,
}

impl DeliveryMode {
    pub(crate) const fn of(mode: zen_crds::Mode) -> Self {
        match mode {
            zen_crds::Mode::Egress => Self::Egress,
            zen_crds::Mode::Direct => Self::Direct,
            zen_crds::Mode::Relay => Self::Relay,
        }
    }

    /// The pods that read what such a Destination refers to.
    pub(crate) const fn plane(self) -> Plane {
        match self {
            Self::Egress => Plane::Egress,
            Self::Direct => Plane::Ingester,
            Self::Relay => Plane::Member,
        }
    }
}

/// How much of a Destination is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of it.
    Full,
    /// What leases need; or, for the operator, what can be said without reading anything else.
    Lean,
    /// Another plane's business.
    None,
}

impl Mode {
    /// The plane, in a cluster.
    pub const fn plane(self) -> Option<Plane> {
        match self {
            Self::Standalone => None,
            Self::Cluster(plane) => Some(plane),
        }
    }

    /// Whether Webhooks are compiled.
    pub(crate) const fn has_webhooks(self) -> bool {
        !matches!(self, Self::Cluster(Plane::Egress | Plane::Member))
    }

    /// Whether references are taken to resolve.
    pub(crate) const fn assumes(self) -> bool {
        matches!(self, Self::Cluster(Plane::Operator))
    }

    /// How much of a Destination is compiled.
    pub(crate) const fn share(self, delivery: DeliveryMode, relay: Relay) -> Share {
        let Self::Cluster(plane) = self else {
            // What a folder of the hub's has of it: that of a member is another.
            return if matches!((delivery, relay), (DeliveryMode::Relay, Relay::Hub)) {
                Share::Lean
            } else {
                Share::Full
            };
        };
        match (plane, delivery, relay) {
            (Plane::Operator, _, _)
            | (Plane::Ingester, DeliveryMode::Egress, _)
            | (Plane::Ingester, DeliveryMode::Relay, Relay::Hub) => Share::Lean,
            (Plane::Ingester, DeliveryMode::Direct, _)
            | (Plane::Egress, DeliveryMode::Egress, _)
            | (Plane::Member, DeliveryMode::Relay, Relay::Own) => Share::Full,
            (Plane::Ingester | Plane::Egress | Plane::Member, _, _) => Share::None,
        }
    }
}
