//! What the cluster says of its objects: every condition that does not hold.

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zen_crds::{Destination, Webhook};

use crate::cluster::Cluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::plain_text;

/// A condition that does not hold.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// `Webhook` or `Destination`.
    pub kind: &'static str,
    /// `namespace/name`.
    pub object: String,
    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    pub condition: String,
    /// Its reason code.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Of the namespace that is meant, or of all.
pub async fn problems(cluster: &Cluster) -> Outcome<Vec<Problem>> {
    let mut problems = Vec::new();
    for webhook in list::<Webhook>(cluster, "Webhooks").await? {
        let conditions = webhook.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
        of("Webhook", &webhook, conditions, &mut problems);
    }
    for destination in list::<Destination>(cluster, "Destinations").await? {
        let conditions = destination.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
        of("Destination", &destination, conditions, &mut problems);
    }
    Ok(problems)
}

async fn list<K>(cluster: &Cluster, what: &str) -> Outcome<Vec<K>>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let client = cluster.client.clone();
    let api: Api<K> = if cluster.all { Api::all(client) } else { Api::namespaced(client, &cluster.namespace) };
    let listed = api.list(&ListParams::default()).await;
    listed.map(|list| list.items).context(format_args!("failed to list {what}")).map_err(|failure| failure.code(2))
}

fn of<K: Resource<DynamicType = ()>>(
    kind: &'static str,
    object: &K,
    conditions: &[Condition],
    problems: &mut Vec<Problem>,
) {
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let problem = |condition: &str, reason: &str, message: &str| Problem {
        kind,
        object: key.clone(),
        condition: condition.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let generation = object.meta().generation;
    let current =
        |condition: &&Condition| condition.observed_generation.is_none() || condition.observed_generation >= generation;
    if !conditions.iter().any(|condition| current(&condition)) {
        problems.push(problem("Accepted", "Pending", "the operator has not looked at it yet; is it running?"));
        return;
    }
    // `PerReplicaState` is a word of caution, not a fault.
    let failing =
        conditions.iter().filter(|condition| condition.status != "True" && condition.type_ != "PerReplicaState");
    problems.extend(failing.map(|condition| problem(&condition.type_, &condition.reason, &condition.message)));
}

/// One line per problem.
pub fn lines(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "no problems\n".to_owned();
    }
    let mut text = String::new();
    for Problem { kind, object, condition, reason, message } in problems {
        let _ = writeln!(text, "{kind} {object}  {condition}  {reason}  {}", plain_text(message, 1000));
    }
    text
}

/// As `zen check DIR` ends.
pub fn outcome(problems: &[Problem]) -> Outcome {
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new("1 problem")),
        number => Err(Failure::new(format!("{number} problems"))),
    }
}
