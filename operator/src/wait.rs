//! `zen-operator wait`: ends when everything that the operator makes is there as the settings say, and ready. For the hook
//! that lets `helm install` and `helm upgrade` mean it.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{self, Instant};
use zen_compile::mesh;

use crate::decide::{self, Inputs, Storage};
use crate::settings::Workloads;
use crate::writer::digest;
use crate::{Object, configuration, names};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// It did not become ready in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready after {}s: {missing}", .after.as_secs())]
pub struct NotReady {
    after: Duration,
    missing: String,
}

/// Waits.
///
/// # Errors
///
/// [`NotReady`] after `timeout`, with what is missing.
pub async fn run(client: &Client, namespace: &str, timeout: Duration) -> Result<(), NotReady> {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        let missing = match missing(client, namespace).await {
            Ok(missing) => missing.join("; "),
            Err(error) => format!("the API server does not answer: {error}"),
        };
        if missing.is_empty() {
            return Ok(());
        }
        if missing != said {
            tracing::info!(missing, "waiting");
            said.clone_from(&missing);
        }
        if began.elapsed() >= timeout {
            return Err(NotReady { after: timeout, missing });
        }
        time::sleep(LOOK).await;
    }
}

/// What is not as it is to be; empty: everything is.
async fn missing(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let here = |name| ListParams::default().fields(&format!("metadata.name={name}"));
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let Some(settings) = one(&config_maps, &here(names::WORKLOADS)).await? else {
        return Ok(vec![format!("there is no ConfigMap {}", names::WORKLOADS)]);
    };
    let workloads = match Workloads::parse(text(&settings, names::WORKLOADS_KEY)) {
        Ok(workloads) => workloads,
        Err(error) => return Ok(vec![format!("{} cannot be used: {error}", names::WORKLOADS_KEY)]),
    };
    let mesh = one(&config_maps, &here(names::MESH)).await?;
    let mesh = match mesh.map(|mesh| configuration::read_mesh(text(&mesh, names::MESH_KEY))).transpose() {
        Ok(mesh) => mesh,
        Err(problem) => return Ok(vec![format!("{} cannot be used: {problem}", names::MESH_KEY)]),
    };
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = one(&sets, &here(names::INGESTER)).await?;
    let audit = if workloads.audit.is_some() { one(&sets, &here(names::AUDIT)).await? } else { None };
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": names::WORKLOADS, "uid": settings.metadata.uid});
    // The keys are the operator's to know: those that it took.
    let egress = if workloads.member.is_some() { one(&deployments, &here(names::EGRESS)).await? } else { None };
    let template = match (&set, &egress) {
        (_, Some(egress)) => egress.spec.as_ref().map(|spec| &spec.template),
        (Some(set), None) => set.spec.as_ref().map(|spec| &spec.template),
        (None, None) => None,
    };
    let keys = template.and_then(|template| template.metadata.as_ref()?.annotations.as_ref()?.get(names::KEYS));
    let plan = decide::decide(&Inputs {
        namespace,
        owner: &owner,
        workloads: &workloads,
        drain_delay: mesh.map_or(mesh::Config::default().drain_delay, |mesh| mesh.drain_delay),
        trust: Some(""),
        keys: Some(keys.map_or("", String::as_str)),
        age: true,
        ingester_replicas: workloads.ingester.replicas,
        storage: set.as_ref().and_then(|set| Storage::of(set, names::QUEUE)),
        audit_storage: audit.as_ref().and_then(|set| Storage::of(set, names::AUDIT_DATA)),
        api_answers: true,
    });
    let mut missing = Vec::new();
    for object in plan.wanted.values() {
        let problem = match &*object.id().kind {
            "StatefulSet" => {
                let there = if object.id().name == names::AUDIT { &audit } else { &set };
                rollout(object, there.as_ref(), set_counts)
            }
            "Deployment" => {
                let there = one(&deployments, &here(&*object.id().name)).await?;
                rollout(object, there.as_ref(), deployment_counts)
            }
            _ => None,
        };
        missing.extend(problem);
    }
    if workloads.api.enabled && workloads.member.is_none() {
        let registration = one::<APIService>(&Api::all(client.clone()), &here(names::API_SERVICE)).await?;
        missing.extend(unavailable(registration.as_ref()));
    }
    Ok(missing)
}

async fn one<K>(api: &Api<K>, named: &ListParams) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    Ok(api.list(named).await?.items.into_iter().next())
}

fn text<'a>(config_map: &'a ConfigMap, key: &str) -> &'a str {
    config_map.data.as_ref().and_then(|data| data.get(key)).map_or("", String::as_str)
}

/// Generation that the status speaks of, and replicas: wanted, updated, ready.
type Counts = (Option<i64>, i32, i32, i32);

fn rollout<K: Resource>(wanted: &Object, there: Option<&K>, counts: impl Fn(&K) -> Counts) -> Option<String> {
    let id = wanted.id();
    let Some(there) = there else { return Some(format!("there is no {id}")) };
    let applied = there.meta().annotations.as_ref().and_then(|annotations| annotations.get(names::APPLIED));
    if applied.is_none_or(|applied| *applied != digest(wanted.body())) {
        return Some(format!("{id} is not as the settings say yet"));
    }
    let (observed, wanted, updated, ready) = counts(there);
    if observed < there.meta().generation {
        return Some(format!("{id} is being rolled out"));
    }
    (updated < wanted || ready < wanted)
        .then(|| format!("{id}: {updated} of {wanted} replicas are up to date, {ready} are ready"))
}

fn set_counts(set: &StatefulSet) -> Counts {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &set.status else { return (None, wanted, 0, 0) };
    // Once all are updated it counts them as current ones.
    let updated = if status.current_revision == status.update_revision {
        status.replicas
    } else {
        status.updated_replicas.unwrap_or_default()
    };
    (status.observed_generation, wanted, updated, status.ready_replicas.unwrap_or_default())
}

fn deployment_counts(deployment: &Deployment) -> Counts {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return (None, wanted, 0, 0) };
    let updated = status.updated_replicas.unwrap_or_default();
    (status.observed_generation, wanted, updated, status.ready_replicas.unwrap_or_default())
}

fn unavailable(registration: Option<&APIService>) -> Option<String> {
    let conditions = registration.and_then(|it| it.status.as_ref()?.conditions.as_ref());
    let available = conditions.into_iter().flatten().find(|condition| condition.type_ == "Available");
    match available {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            let why = condition.message.as_deref().unwrap_or_default();
            Some(format!("the aggregated API does not answer: {why}"))
        }
        None => Some("the aggregated API is not registered yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use zen_testkit::api_server::{ApiServer, Call, Reply};

    use super::*;
    use crate::settings::tests::LEAST;

    const APPS: &str = "/apis/apps/v1/namespaces/zen-mesh";
    const CONFIG_MAPS: &str = "/api/v1/namespaces/zen-mesh/configmaps";

    fn workload(wanted: &Object, ready: i32) -> Value {
        let mut value = Value::Object(wanted.body().clone());
        value["metadata"]["generation"] = 3.into();
        value["metadata"]["annotations"][names::APPLIED] = digest(wanted.body()).into();
        value["status"] = json!({"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready});
        value
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_everything_is_as_the_settings_say_and_ready() {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": names::WORKLOADS, "uid": "u1"});
        let workloads = Workloads::parse(LEAST).expect("valid");
        let plan = decide::decide(&Inputs {
            namespace: "zen-mesh",
            owner: &owner,
            workloads: &workloads,
            drain_delay: Duration::from_secs(5),
            trust: Some("x"),
            keys: Some("k"),
            age: true,
            ingester_replicas: 1,
            storage: None,
            audit_storage: None,
            api_answers: true,
        });
        let wanted =
            |kind: &str| plan.wanted.values().find(|object| object.id().kind == kind).expect("decided").clone();
        let server = ApiServer::new();
        let list = |path: &str, name: &str| Call::get(path).query("fieldSelector", &format!("metadata.name={name}"));
        let settings =
            json!({"metadata": {"name": names::WORKLOADS, "uid": "u1"}, "data": {names::WORKLOADS_KEY: LEAST}});
        server.allow(list(CONFIG_MAPS, names::WORKLOADS), Reply::list(vec![settings]));
        server.allow(list(CONFIG_MAPS, names::MESH), Reply::list(vec![]));
        let (sets, deployments) = (format!("{APPS}/statefulsets"), format!("{APPS}/deployments"));
        let registrations = "/apis/apiregistration.k8s.io/v1/apiservices";
        let registration = |status: &str| {
            json!({"metadata": {"name": names::API_SERVICE}, "spec": {"groupPriorityMinimum": 1, "versionPriority": 1},
                   "status": {"conditions": [{"type": "Available", "status": status, "message": "no endpoints"}]}})
        };
        let (set, deployment) = (wanted("StatefulSet"), wanted("Deployment"));
        server.allow(list(&sets, names::INGESTER), Reply::list(vec![]));
        server.allow(list(&deployments, names::EGRESS), Reply::list(vec![workload(&deployment, 1)]));
        server.allow(list(registrations, names::API_SERVICE), Reply::list(vec![registration("False")]));
        let ask = async || missing(&server.client(), "zen-mesh").await.expect("answered");
        let found = ask().await;
        assert_eq!(
            found,
            [
                "Deployment zen-mesh/zen-egress is not as the settings say yet",
                "there is no StatefulSet zen-mesh/zen-ingester",
                "the aggregated API does not answer: no endpoints"
            ]
        );
        server.allow(list(&sets, names::INGESTER), Reply::list(vec![workload(&set, 0)]));
        assert_eq!(
            ask().await,
            [
                "StatefulSet zen-mesh/zen-ingester: 1 of 1 replicas are up to date, 0 are ready",
                "the aggregated API does not answer: no endpoints"
            ]
        );
        let error = run(&server.client(), "zen-mesh", Duration::from_secs(5)).await.expect_err("not ready");
        assert!(error.to_string().contains("0 are ready"), "{error}");
        server.allow(list(&sets, names::INGESTER), Reply::list(vec![workload(&set, 1)]));
        server.allow(list(registrations, names::API_SERVICE), Reply::list(vec![registration("True")]));
        run(&server.client(), "zen-mesh", Duration::from_secs(5)).await.expect("ready");
        // Settings that the operator refuses come to nothing, whatever runs.
        let settings = json!({"metadata": {"name": names::MESH}, "data": {names::MESH_KEY: "trustdomain: x"}});
        server.allow(list(CONFIG_MAPS, names::MESH), Reply::list(vec![settings]));
        let found = ask().await;
        assert!(found.len() == 1 && found[0].starts_with("mesh.yaml cannot be used: trustdomain"), "{found:?}");
    }
}
