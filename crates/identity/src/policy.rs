//! Which workload may do what, in terms of SPIFFE ids (T-05). Default deny: what is not in the table below is refused.

use zen_pki::{SpiffeId, SpiffeIdError, TrustDomain};

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
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] =
        [Self::Link, Self::Report, Self::Drain, Self::Adopt, Self::Peer, Self::Issue, Self::Audit, Self::Unseal];

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
        }
    }

    /// Who may: the whole policy.
    pub const fn permitted(self) -> &'static [Component] {
        match self {
            Self::Link | Self::Adopt | Self::Peer => &[Component::Ingester],
            Self::Report | Self::Drain => &[Component::Operator],
            Self::Issue => &[Component::Ingester, Component::Egress, Component::ZenLock, Component::Audit],
            Self::Audit => &[Component::Operator, Component::Ingester, Component::Egress, Component::ZenLock],
            Self::Unseal => &[Component::Ingester, Component::Egress],
        }
    }
}

/// Why a peer may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Another trust domain's.
    #[error("it belongs to another trust domain")]
    TrustDomain,
    /// No workload of this mesh's namespace and accounts.
    #[error("it is no workload of this mesh")]
    Unknown,
    /// A workload of this mesh that has no reason to.
    #[error("{} may not {}", .0.account(), .1.label())]
    NotPermitted(Component, Action),
}

impl Denied {
    /// Stable label for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TrustDomain => "trust_domain",
            Self::Unknown => "unknown_workload",
            Self::NotPermitted(..) => "not_permitted",
        }
    }
}

/// The workloads of one mesh: its trust domain and the namespace that it runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    domain: TrustDomain,
    namespace: String,
    ids: [SpiffeId; 5],
}

impl Mesh {
    /// The mesh of this trust domain whose release namespace is `namespace`. Fails for what is no namespace.
    pub fn new(domain: &TrustDomain, namespace: &str) -> Result<Self, SpiffeIdError> {
        let id = |component: Component| SpiffeId::workload(domain, namespace, component.account());
        let [operator, ingester, egress, lock, audit] = Component::ALL.map(id);
        let ids = [operator?, ingester?, egress?, lock?, audit?];
        Ok(Self { domain: domain.clone(), namespace: namespace.to_owned(), ids })
    }

    /// The mesh that a workload of it belongs to, read from its own id. None for an id of another shape.
    pub fn of(own: &SpiffeId) -> Option<Self> {
        let namespace = own.path().strip_prefix("/ns/")?.split('/').next()?;
        let mesh = Self::new(&own.trust_domain(), namespace).ok()?;
        mesh.component(own).ok().map(|_| mesh)
    }

    /// The id of a component.
    pub fn id(&self, component: Component) -> &SpiffeId {
        &self.ids[component as usize]
    }

    /// Whose ids these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The release namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The ids that may do any of these: the list for [`zen_pki::mtls_server`].
    pub fn permitted(&self, actions: &[Action]) -> Vec<SpiffeId> {
        let may = |component: &Component| actions.iter().any(|action| action.permitted().contains(component));
        Component::ALL.into_iter().filter(may).map(|component| self.id(component).clone()).collect()
    }

    /// Which component a peer is.
    pub fn component(&self, peer: &SpiffeId) -> Result<Component, Denied> {
        if peer.trust_domain() != self.domain {
            return Err(Denied::TrustDomain);
        }
        Component::ALL.into_iter().find(|component| self.id(*component) == peer).ok_or(Denied::Unknown)
    }

    /// Whether this peer may do this, and who it is.
    pub fn check(&self, peer: &SpiffeId, action: Action) -> Result<Component, Denied> {
        let component = self.component(peer)?;
        if action.permitted().contains(&component) {
            Ok(component)
        } else {
            Err(Denied::NotPermitted(component, action))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> Mesh {
        Mesh::new(&"zen-mesh.local".parse().expect("valid"), "zen-mesh").expect("valid")
    }

    /// T-05: every pair of workload and action, written out a second time.
    #[test]
    fn the_whole_table() {
        use Action as A;
        use Component as C;
        let rows = [
            (C::Operator, A::Link, false),
            (C::Operator, A::Report, true),
            (C::Operator, A::Drain, true),
            (C::Operator, A::Adopt, false),
            (C::Operator, A::Peer, false),
            (C::Operator, A::Issue, false),
            (C::Ingester, A::Link, true),
            (C::Ingester, A::Report, false),
            (C::Ingester, A::Drain, false),
            (C::Ingester, A::Adopt, true),
            (C::Ingester, A::Peer, true),
            (C::Ingester, A::Issue, true),
            (C::Egress, A::Link, false),
            (C::Egress, A::Report, false),
            (C::Egress, A::Drain, false),
            (C::Egress, A::Adopt, false),
            (C::Egress, A::Peer, false),
            (C::Egress, A::Issue, true),
            (C::ZenLock, A::Link, false),
            (C::ZenLock, A::Report, false),
            (C::ZenLock, A::Drain, false),
            (C::ZenLock, A::Adopt, false),
            (C::ZenLock, A::Peer, false),
            (C::ZenLock, A::Issue, true),
            (C::Audit, A::Link, false),
            (C::Audit, A::Report, false),
            (C::Audit, A::Drain, false),
            (C::Audit, A::Adopt, false),
            (C::Audit, A::Peer, false),
            (C::Audit, A::Issue, true),
            (C::Operator, A::Audit, true),
            (C::Ingester, A::Audit, true),
            (C::Egress, A::Audit, true),
            (C::ZenLock, A::Audit, true),
            (C::Audit, A::Audit, false),
            (C::Operator, A::Unseal, false),
            (C::Ingester, A::Unseal, true),
            (C::Egress, A::Unseal, true),
            (C::ZenLock, A::Unseal, false),
            (C::Audit, A::Unseal, false),
        ];
        assert_eq!(rows.len(), Component::ALL.len() * Action::ALL.len());
        for (component, action, allowed) in rows {
            let expected = if allowed { Ok(component) } else { Err(Denied::NotPermitted(component, action)) };
            assert_eq!(mesh().check(mesh().id(component), action), expected, "{component:?} {action:?}");
        }
    }

    #[test]
    fn strangers_may_do_nothing() {
        let strangers = [
            ("spiffe://other.local/ns/zen-mesh/sa/zen-operator", Denied::TrustDomain),
            ("spiffe://zen-mesh.local.evil/ns/zen-mesh/sa/zen-operator", Denied::TrustDomain),
            ("spiffe://zen-mesh.local/ns/team-a/sa/zen-operator", Denied::Unknown),
            ("spiffe://zen-mesh.local/ns/zen-mesh/sa/default", Denied::Unknown),
            ("spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-operator/x", Denied::Unknown),
            ("spiffe://zen-mesh.local/tenant/t/cluster/c/ns/zen-mesh/sa/zen-ingester", Denied::Unknown),
            ("spiffe://zen-mesh.local/ns/zen-mesh/sa/Zen-Operator", Denied::Unknown),
            ("spiffe://zen-mesh.local", Denied::Unknown),
        ];
        for (stranger, denied) in strangers {
            for action in Action::ALL {
                assert_eq!(mesh().check(&stranger.parse().expect("valid"), action), Err(denied), "{stranger}");
            }
        }
    }

    #[test]
    fn a_workload_knows_its_mesh() {
        let mesh = mesh();
        for component in Component::ALL {
            assert_eq!(Mesh::of(mesh.id(component)).as_ref(), Some(&mesh));
        }
        for other in
            ["spiffe://zen-mesh.local", "spiffe://a/ns/b/sa/c", "spiffe://a/ns/b", "spiffe://a/x/b/sa/zen-egress"]
        {
            assert_eq!(Mesh::of(&other.parse().expect("valid")), None, "{other}");
        }
    }

    #[test]
    fn listeners_let_in_who_may_do_anything_there() {
        let mesh = mesh();
        assert_eq!(mesh.permitted(&[Action::Link]), [mesh.id(Component::Ingester).clone()]);
        let control = mesh.permitted(&[Action::Report, Action::Drain, Action::Adopt, Action::Peer]);
        assert_eq!(control, [mesh.id(Component::Operator).clone(), mesh.id(Component::Ingester).clone()]);
        assert!(mesh.permitted(&[]).is_empty());
    }
}
