//! What the data plane is to look like: settings and what was observed → the objects that are wanted. Pure.
//!
//! An object that is not decided about, because something it needs is not there yet, is neither wanted nor unwanted: it
//! stays as it is. Only what was switched off is unwanted, and deleted.

mod api_service;
mod audit;
mod egress;
mod ingester;
pub mod keys;
mod network;
mod pod;
mod storage;
pub mod tenants;
#[cfg(test)]
mod tests;
mod zen_lock;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use ingester::{claim_ordinal, drain_ordinal, drain_pod, drain_pod_name, pod_ordinal};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
pub use storage::Storage;
pub use zen_lock::{age_identity, age_lost};

use crate::names;
use crate::object::{Id, Object};
use crate::settings::Workloads;

/// What is decided from.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The release namespace.
    pub namespace: &'a str,
    /// The owner reference to the ConfigMap `zen-mesh-workloads`.
    pub owner: &'a Value,
    /// The settings.
    pub workloads: &'a Workloads,
    /// How long intake goes on after readiness is withdrawn.
    pub drain_delay: Duration,
    /// The trust bundle, PEM; none: not made yet.
    pub trust: Option<&'a str>,
    /// Fingerprint of the root key that the mounted keys come from; none: they are not there yet.
    pub keys: Option<&'a str>,
    /// Whether there is what the ZenLock webhook opens ZenLocks with; where somebody else keeps it, it is taken to be there.
    pub age: bool,
    /// Replicas of the ingester that are to run now: more than are wanted while some drain.
    pub ingester_replicas: u32,
    /// Volumes of the ingester's `StatefulSet` that exists: they cannot be changed.
    pub storage: Option<Storage>,
    /// As those, of the audit store's.
    pub audit_storage: Option<Storage>,
    /// Whether an ingester has been ready, so that the aggregated API answers.
    pub api_answers: bool,
}

/// What is to be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Objects as they are to be.
    pub wanted: BTreeMap<Id, Arc<Object>>,
    /// Objects that are not to be; only those that we made are deleted.
    pub unwanted: BTreeSet<Id>,
    /// What somebody should know.
    pub problems: Vec<Problem>,
}

/// Something that keeps the data plane from being as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A word for Events and logs.
    pub reason: &'static str,
    /// For people: what, and what to do.
    pub message: String,
}

impl Plan {
    pub(crate) fn want(&mut self, object: Object) {
        self.wanted.insert(object.id().clone(), Arc::new(object));
    }

    fn want_if(&mut self, condition: bool, object: Object) {
        if condition {
            self.want(object);
        } else {
            self.unwanted.insert(object.id().clone());
        }
    }
}

/// Decides about everything in the release namespace, and the registration of the aggregated API.
pub fn decide(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    // A member delivers what its hub took in: without intake there is no queue, and no API over it.
    let is_member = inputs.workloads.member.is_some();
    let has_api = inputs.workloads.api.enabled && !is_member;
    if !is_member {
        for service in ingester::services(inputs) {
            plan.want(service);
        }
    }
    plan.want_if(has_api, ingester::api_service(inputs));
    plan.want_if(inputs.workloads.hub.is_some() && !is_member, ingester::relay_service(inputs));
    plan.want(egress::service(inputs));
    let zen_lock = inputs.workloads.zen_lock.as_ref();
    plan.want_if(zen_lock.is_some(), zen_lock::service(inputs));
    let audit = inputs.workloads.audit.as_ref();
    plan.want_if(audit.is_some(), audit::service(inputs));
    for (component, is_there) in
        [(names::INGESTER, !is_member), (names::EGRESS, true), (names::ZENLOCK, zen_lock.is_some())]
    {
        let is_wanted = is_there && inputs.workloads.pod_disruption_budgets.enabled;
        plan.want_if(is_wanted, disruption_budget(inputs, component));
    }
    for (policy, is_there) in [
        (network::ingester(inputs), !is_member),
        (network::egress(inputs), true),
        (network::zen_lock(inputs), zen_lock.is_some()),
        (network::audit(inputs), audit.is_some()),
    ] {
        plan.want_if(is_there && inputs.workloads.network_policies.enabled, policy);
    }
    // Pods that mount what is not there wait for the kubelet's next try, which is up to two minutes later.
    if let (Some(_), Some(keys)) = (inputs.trust, inputs.keys) {
        if !is_member {
            plan.want(ingester::stateful_set(inputs, keys));
        }
        plan.want(egress::deployment(inputs, keys));
    }
    if let Some(trust) = inputs.trust {
        // Before anybody answers: a pod that asks for secrets must not start without them.
        plan.want_if(zen_lock.is_some(), zen_lock::mutating(inputs, trust));
        plan.want_if(zen_lock.is_some(), zen_lock::validating(inputs, trust));
    }
    match (zen_lock, inputs.trust) {
        (Some(settings), Some(_)) if inputs.age => plan.want(zen_lock::deployment(inputs, settings)),
        (Some(_), _) => {}
        (None, _) => drop(plan.unwanted.insert(Id::new::<Deployment>(inputs.namespace, names::ZENLOCK))),
    }
    match (audit, inputs.trust) {
        (Some(settings), Some(_)) => plan.want(audit::stateful_set(inputs, settings)),
        (Some(_), None) => {}
        // The volume stays: what was recorded is evidence.
        (None, _) => drop(plan.unwanted.insert(Id::new::<StatefulSet>(inputs.namespace, names::AUDIT))),
    }
    plan.problems.extend(ingester::fixed_storage(inputs).filter(|_| !is_member));
    plan.problems.extend(audit.and_then(|settings| audit::fixed_storage(inputs, settings)));
    // Discovery of every client fails while a registered API does not answer.
    match inputs.trust {
        Some(trust) if inputs.api_answers || !has_api => {
            plan.want_if(has_api, api_service::registration(inputs, trust));
        }
        _ => {}
    }
    plan
}

/// An object of the release namespace, owned by the settings.
fn object<K: kube::Resource<DynamicType = ()>>(
    inputs: &Inputs<'_>,
    component: &str,
    name: &str,
    body: Value,
) -> Object {
    Object::new::<K>(Some(inputs.namespace), name, body).component(short(component)).owned_by(inputs.owner)
}

fn service(inputs: &Inputs<'_>, component: &str, name: &str, body: Value) -> Object {
    object::<Service>(inputs, component, name, body)
}

fn disruption_budget(inputs: &Inputs<'_>, component: &'static str) -> Object {
    let spec = json!({
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": pod::selector(component)},
    });
    object::<PodDisruptionBudget>(inputs, component, component, json!({"spec": spec}))
}

/// `zen-ingester` → `ingester`, the component label's word.
fn short(component: &str) -> &str {
    component.strip_prefix("zen-").unwrap_or(component)
}
