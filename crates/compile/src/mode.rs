//! Whose objects these are, and which part of the mesh compiles them.

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
}

impl DeliveryMode {
    /// None for a mode that is not built.
    pub(crate) fn of(mode: zen_crds::Mode) -> Option<Self> {
        match mode {
            zen_crds::Mode::Egress => Some(Self::Egress),
            zen_crds::Mode::Direct => Some(Self::Direct),
            zen_crds::Mode::Relay => None,
        }
    }

    /// The pods that read what such a Destination refers to.
    pub(crate) const fn plane(self) -> Plane {
        match self {
            Self::Egress => Plane::Egress,
            Self::Direct => Plane::Ingester,
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
        !matches!(self, Self::Cluster(Plane::Egress))
    }

    /// Whether references are taken to resolve.
    pub(crate) const fn assumes(self) -> bool {
        matches!(self, Self::Cluster(Plane::Operator))
    }

    /// How much of a Destination of this mode is compiled. A mode that is not built is reported by whoever has the
    /// whole view.
    pub(crate) fn share(self, delivery: Option<DeliveryMode>) -> Share {
        let Self::Cluster(plane) = self else { return Share::Full };
        match (plane, delivery.map(DeliveryMode::plane)) {
            (Plane::Operator, _) => Share::Lean,
            (own, Some(carrier)) if own == carrier => Share::Full,
            (Plane::Ingester, _) => Share::Lean,
            (Plane::Egress, _) => Share::None,
        }
    }
}
