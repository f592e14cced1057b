//! The workloads of a mesh, what one asks of another, and who may: the policy as it ships.

/// A workload of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// ServiceAccount `zen-operator`.
    Operator,
    /// ServiceAccount `zen-ingester`.
    Ingester,
    /// ServiceAccount `zen-egress`.
    Egress,
    /// ServiceAccount `zenlock-webhook`.
    ZenLock,
    /// ServiceAccount `zen-audit`.
    Audit,
}

impl Component {
    /// Every component.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Ingester, Self::Egress, Self::ZenLock, Self::Audit];

    /// The name of its ServiceAccount.
    pub const fn account(self) -> &'static str {
        match self {
            Self::Operator => "zen-operator",
            Self::Ingester => "zen-ingester",
            Self::Egress => "zen-egress",
            Self::ZenLock => "zenlock-webhook",
            Self::Audit => "zen-audit",
        }
    }
}

/// What one part asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Open the link to an egress and push deliveries.
    Link,
    /// Read how objects stand at a pod.
    Report,
    /// Drain a pod, look at its drain, resume it.
    Drain,
    /// Hand over what a drained ingester could not deliver.
    Adopt,
    /// Use the admin API of one replica, for the aggregated API's fan-out.
    Peer,
    /// Have a certificate from the identity service. The operator needs none from there: it signs its own.
    Issue,
    /// Hand over entries of the audit log, each component its own.
    Audit,
    /// Have ZenLocks opened on behalf of Webhooks and Destinations (Z-03).
    Unseal,
    /// Pull the deliveries that are addressed to a member cluster over a stream of one's own (`Relay`, D-02).
    Lease,
    /// Have the issuing CA and the keys of a member cluster renewed by the hub (T-01, T-06).
    Renew,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Link,
        Self::Report,
        Self::Drain,
        Self::Adopt,
        Self::Peer,
        Self::Issue,
        Self::Audit,
        Self::Unseal,
        Self::Lease,
        Self::Renew,
    ];

    /// Stable label for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Report => "report",
            Self::Drain => "drain",
            Self::Adopt => "adopt",
            Self::Peer => "peer",
            Self::Issue => "issue",
            Self::Audit => "audit",
            Self::Unseal => "unseal",
            Self::Lease => "lease",
            Self::Renew => "renew",
        }
    }

    /// Who may among the workloads of one cluster.
    pub const fn permitted(self) -> &'static [Component] {
        match self {
            Self::Link | Self::Adopt | Self::Peer => &[Component::Ingester],
            Self::Report | Self::Drain => &[Component::Operator],
            Self::Issue => &[Component::Ingester, Component::Egress, Component::ZenLock, Component::Audit],
            Self::Audit => &[Component::Operator, Component::Ingester, Component::Egress, Component::ZenLock],
            Self::Unseal => &[Component::Ingester, Component::Egress],
            Self::Lease | Self::Renew => &[],
        }
    }

    /// Who may at the hub among the workloads of a member cluster, each for its own cluster alone.
    pub const fn permitted_to_members(self) -> &'static [Component] {
        match self {
            Self::Lease => &[Component::Egress],
            Self::Renew => &[Component::Operator],
            _ => &[],
        }
    }
}
