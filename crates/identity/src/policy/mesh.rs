//! The policy that ships, with the ids of one installation.

use zen_model::ClusterId;
use zen_pki::{Scope, SpiffeId, SpiffeIdError, TrustDomain};

use super::{Action, Component, Denied, Object, Pattern, Permit, Place, Policy, Reach, Request, Rule, Subject};

/// The workloads of one installation: its trust domain, the cluster and the namespace that it runs in, and who may do what
/// there. At the hub that includes what the members' workloads may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    domain: TrustDomain,
    scope: Scope,
    namespace: String,
    ids: [SpiffeId; 5],
    policy: Policy,
}

impl Mesh {
    /// The hub's part of a mesh of this trust domain, whose release namespace is `namespace`. Fails for what is no
    /// namespace.
    pub fn new(domain: &TrustDomain, namespace: &str) -> Result<Self, SpiffeIdError> {
        Self::in_scope(domain, Scope::Hub, namespace)
    }

    /// A member's part of a mesh.
    pub fn member(domain: &TrustDomain, cluster: ClusterId, namespace: &str) -> Result<Self, SpiffeIdError> {
        Self::in_scope(domain, Scope::Cluster(cluster), namespace)
    }

    fn in_scope(domain: &TrustDomain, scope: Scope, namespace: &str) -> Result<Self, SpiffeIdError> {
        let id = |component: Component| scope.workload(domain, namespace, component.account());
        let [operator, ingester, egress, lock, audit] = Component::ALL.map(id);
        let ids = [operator?, ingester?, egress?, lock?, audit?];
        let own = Component::ALL.into_iter().map(|component| {
            let actions = Action::ALL.into_iter().filter(|action| action.permitted().contains(&component));
            Rule::allow(Subject::Exact(ids[component as usize].clone()), actions, Reach::Any)
        });
        let mut rules: Vec<_> = own.collect();
        if scope == Scope::Hub {
            rules.extend(Component::ALL.into_iter().filter_map(of_members));
        }
        let policy = Policy::new(domain.clone(), rules);
        Ok(Self { domain: domain.clone(), scope, namespace: namespace.to_owned(), ids, policy })
    }

    /// With more rules, of which those that deny count first: a member that is disabled, for one.
    #[must_use]
    pub fn with(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.policy = self.policy.with(rules);
        self
    }

    /// The mesh that a workload of it belongs to, read from its own id. None for an id of another shape.
    pub fn of(own: &SpiffeId) -> Option<Self> {
        let workload = Scope::of(own)?;
        let mesh = Self::in_scope(&own.trust_domain(), workload.scope, workload.namespace).ok()?;
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

    /// The hub's cluster, or which member.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The release namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The ids of this installation that may do any of these: the list for [`zen_pki::mtls_server`].
    pub fn permitted(&self, actions: &[Action]) -> Vec<SpiffeId> {
        let may = |component: &Component| actions.iter().any(|action| action.permitted().contains(component));
        Component::ALL.into_iter().filter(may).map(|component| self.id(component).clone()).collect()
    }

    /// Which component of this installation a peer is.
    pub fn component(&self, peer: &SpiffeId) -> Result<Component, Denied> {
        if !peer.is_in(&self.domain) {
            return Err(Denied::TrustDomain);
        }
        Component::ALL.into_iter().find(|component| self.id(*component) == peer).ok_or(Denied::Unknown)
    }

    /// Whether a workload of this installation may do this, and which one it is.
    pub fn check(&self, peer: &SpiffeId, action: Action) -> Result<Component, Denied> {
        let component = self.component(peer)?;
        self.decide(&Request { peer, action, object: Object::Mesh }).map(|_| component)
    }

    /// Whether any workload, a member's too, may do this to that.
    pub fn decide(&self, request: &Request<'_>) -> Result<Permit, Denied> {
        self.policy.decide(request)
    }
}

/// What a component may do at the hub when it runs in a member, in whatever namespace that one is installed.
fn of_members(component: Component) -> Option<Rule> {
    let actions: Vec<_> =
        Action::ALL.into_iter().filter(|action| action.permitted_to_members().contains(&component)).collect();
    let subject = Subject::Scoped(Pattern::of(Place::Members).account(component.account()));
    (!actions.is_empty()).then(|| Rule::allow(subject, actions, Reach::Own))
}
