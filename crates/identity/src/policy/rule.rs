//! Rules, and the order in which they count.

use std::collections::BTreeSet;

use zen_model::reason::TrustRefusal;
use zen_model::{ClusterId, Namespace};
use zen_pki::{Scope, SpiffeId, TrustDomain, Workload};

use super::Action;

/// Who may do what within one trust domain.
///
/// The order of evaluation is fixed, whatever the order of the rules: a rule that denies exactly this workload; one that
/// denies a scope it is in; one that allows exactly this workload; one that allows a scope it is in; and where none of them
/// speaks, no. So a denial always wins, and nothing is allowed by being forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    domain: TrustDomain,
    rules: Vec<Rule>,
}

/// One sentence of a policy: this subject may, or may not, do these things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    subject: Subject,
    actions: BTreeSet<Action>,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Deny,
    Allow,
}

/// Whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One workload.
    Exact(SpiffeId),
    /// All workloads of this form.
    Scoped(Pattern),
}

/// A set of workloads. What is none is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Where they run.
    pub place: Place,
    /// In this namespace of their cluster.
    pub namespace: Option<String>,
    /// Under this ServiceAccount.
    pub account: Option<String>,
}

/// Where workloads run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In any cluster of the mesh.
    Anywhere,
    /// In the hub's.
    Hub,
    /// In any member.
    Members,
    /// In any member of this tenant.
    Tenant(Namespace),
    /// In this member.
    Cluster(ClusterId),
}

/// On whose things an allowed action may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On anybody's.
    Any,
    /// On those of the workload's own cluster.
    Own,
}

/// Whose thing something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// The mesh's, at the hub.
    Mesh,
    /// A member cluster's: its deliveries, its keys.
    Cluster(&'a ClusterId),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// By whom: an id that a handshake has proven.
    pub peer: &'a SpiffeId,
    /// What.
    pub action: Action,
    /// To what.
    pub object: Object<'a>,
}

/// Something is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Where the workload runs; what it is given must be of there.
    pub scope: Scope,
    /// Whether a rule names it, and not only a set that it is in.
    pub exact: bool,
}

/// Why a peer may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// Another trust domain's.
    #[error("it belongs to another trust domain")]
    TrustDomain,
    /// No workload that any rule speaks of.
    #[error("it is no workload of this mesh")]
    Unknown,
    /// A rule denies exactly this workload.
    #[error("a rule denies {} to this workload", .0.label())]
    Exact(Action),
    /// A rule denies all of its cluster, tenant or kind.
    #[error("a rule denies {} to every workload of its cluster, tenant or kind", .0.label())]
    Scope(Action),
    /// It may, with what is its own cluster's.
    #[error("it may {} for its own cluster alone", .0.label())]
    OtherCluster(Action),
    /// A workload of this mesh that has no reason to.
    #[error("no rule lets it {}", .0.label())]
    NotPermitted(Action),
}

impl Denied {
    /// The code of the table of reasons.
    pub const fn reason(self) -> TrustRefusal {
        match self {
            Self::TrustDomain => TrustRefusal::TrustDomainForeign,
            Self::Unknown => TrustRefusal::WorkloadUnknown,
            Self::Exact(_) => TrustRefusal::WorkloadDenied,
            Self::Scope(_) => TrustRefusal::ScopeDenied,
            Self::OtherCluster(_) => TrustRefusal::ClusterForeign,
            Self::NotPermitted(_) => TrustRefusal::ActionNotPermitted,
        }
    }

    /// Stable label for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TrustDomain => "trust_domain",
            Self::Unknown => "unknown_workload",
            Self::Exact(_) => "denied_exact",
            Self::Scope(_) => "denied_scope",
            Self::OtherCluster(_) => "other_cluster",
            Self::NotPermitted(_) => "not_permitted",
        }
    }
}

impl Policy {
    /// Without a rule nobody may do anything.
    pub fn new(domain: TrustDomain, rules: Vec<Rule>) -> Self {
        Self { domain, rules }
    }

    /// With more rules.
    #[must_use]
    pub fn with(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// The decision.
    pub fn decide(&self, request: &Request<'_>) -> Result<Permit, Denied> {
        let (peer, action) = (request.peer, request.action);
        if !peer.is_in(&self.domain) {
            return Err(Denied::TrustDomain);
        }
        let workload = Scope::of(peer).ok_or(Denied::Unknown)?;
        let applies = |effect: Effect, exact: bool| {
            self.rules.iter().filter(move |rule| rule.effect == effect && rule.subject.is_exact() == exact)
        };
        let says = |rule: &&Rule| rule.actions.contains(&action) && rule.subject.covers(peer, &workload);
        if applies(Effect::Deny, true).any(|rule| says(&rule)) {
            return Err(Denied::Exact(action));
        }
        if applies(Effect::Deny, false).any(|rule| says(&rule)) {
            return Err(Denied::Scope(action));
        }
        let mut elsewhere = false;
        for exact in [true, false] {
            for rule in applies(Effect::Allow, exact).filter(says) {
                if rule.reach.reaches(&workload.scope, request.object) {
                    return Ok(Permit { scope: workload.scope, exact });
                }
                elsewhere = true;
            }
        }
        Err(if elsewhere {
            Denied::OtherCluster(action)
        } else if self.rules.iter().any(|rule| rule.effect == Effect::Allow && rule.subject.covers(peer, &workload)) {
            Denied::NotPermitted(action)
        } else {
            Denied::Unknown
        })
    }
}

impl Rule {
    /// Lets the subject do these things to what `reach` says.
    pub fn allow(subject: Subject, actions: impl IntoIterator<Item = Action>, reach: Reach) -> Self {
        Self { effect: Effect::Allow, subject, actions: actions.into_iter().collect(), reach }
    }

    /// Keeps the subject from doing these things to anything, whatever else allows them.
    pub fn deny(subject: Subject, actions: impl IntoIterator<Item = Action>) -> Self {
        Self { effect: Effect::Deny, subject, actions: actions.into_iter().collect(), reach: Reach::Any }
    }

    /// Keeps a whole member from doing anything: its enrollment is disabled or gone.
    pub fn revoke(cluster: ClusterId) -> Self {
        Self::deny(Subject::Scoped(Pattern::of(Place::Cluster(cluster))), Action::ALL)
    }
}

impl Subject {
    fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    fn covers(&self, peer: &SpiffeId, workload: &Workload<'_>) -> bool {
        match self {
            Self::Exact(id) => id == peer,
            Self::Scoped(pattern) => pattern.covers(workload),
        }
    }
}

impl Pattern {
    /// Everything that runs there.
    pub const fn of(place: Place) -> Self {
        Self { place, namespace: None, account: None }
    }

    /// Of those, the ones under this ServiceAccount.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    fn covers(&self, workload: &Workload<'_>) -> bool {
        let is = |due: &Option<String>, found: &str| due.as_deref().is_none_or(|due| due == found);
        self.place.holds(&workload.scope)
            && is(&self.namespace, workload.namespace)
            && is(&self.account, workload.account)
    }
}

impl Place {
    fn holds(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (Self::Anywhere, _) | (Self::Hub, Scope::Hub) | (Self::Members, Scope::Cluster(_)) => true,
            (Self::Tenant(tenant), Scope::Cluster(id)) => id.tenant() == tenant,
            (Self::Cluster(cluster), Scope::Cluster(id)) => id == cluster,
            _ => false,
        }
    }
}

impl Reach {
    fn reaches(self, scope: &Scope, object: Object<'_>) -> bool {
        match (self, scope, object) {
            (Self::Any, ..) | (Self::Own, Scope::Hub, Object::Mesh) => true,
            (Self::Own, Scope::Cluster(own), Object::Cluster(cluster)) => own == cluster,
            (Self::Own, ..) => false,
        }
    }
}
