//! The two ConfigMaps that say how the mesh is set up, followed by every replica: `mesh.yaml` and `workloads.yaml`. One that
//! cannot be read leaves the last good one in force, and is a problem.

use std::sync::Arc;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use zen_compile::mesh;

use crate::decide::Problem;
use crate::names;
use crate::settings::Workloads;
use crate::watching::Watched;

/// One of the two.
#[derive(Clone, Debug)]
pub struct Followed<T> {
    /// The API server was asked.
    pub is_known: bool,
    /// The last good content; none when there never was one, or the object is gone.
    pub content: Option<Arc<T>>,
    /// What is wrong with it as it is now.
    pub problem: Option<Problem>,
    /// The object, for Events and as an owner; none when it is not there.
    pub object: Option<ObjectReference>,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self { is_known: false, content: None, problem: None, object: None }
    }
}

impl<T> Followed<T> {
    /// The object as an owner reference.
    pub fn owner(&self) -> Option<Value> {
        let ObjectReference { api_version, kind, name, uid, .. } = self.object.as_ref()?;
        Some(json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}))
    }
}

/// Follows `workloads.yaml`. The future never ends.
pub async fn workloads(client: Client, namespace: String, tell: watch::Sender<Followed<Workloads>>) {
    let read = |text: &str| Workloads::parse(text).map_err(|error| error.to_string());
    follow(client, &namespace, (names::WORKLOADS, names::WORKLOADS_KEY), read, &tell).await;
}

/// Follows `mesh.yaml`. Without the object the defaults are in force, which grant nothing. The future never ends.
pub async fn mesh(client: Client, namespace: String, tell: watch::Sender<Followed<mesh::Config>>) {
    follow(client, &namespace, (names::MESH, names::MESH_KEY), read_mesh, &tell).await;
}

pub(crate) fn read_mesh(text: &str) -> Result<mesh::Config, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    mesh::Config::from_json(&value).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message));
        lines.collect::<Vec<_>>().join("; ")
    })
}

async fn follow<T>(
    client: Client,
    namespace: &str,
    (name, key): (&str, &str),
    read: impl Fn(&str) -> Result<T, String>,
    tell: &watch::Sender<Followed<T>>,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let changes = watch_object(api, name).default_backoff();
    pin_mut!(changes);
    let mut watched = Watched::new(name);
    while let Some(change) = changes.next().await {
        match watched.heard(change) {
            Some(Some(object)) => tell.send_modify(|followed| take(followed, &object, key, &read)),
            Some(None) => {
                tracing::warn!(config_map = name, "there is no such ConfigMap");
                tell.send_modify(|followed| *followed = Followed { is_known: true, ..Followed::default() });
            }
            None => {}
        }
    }
}

fn take<T>(followed: &mut Followed<T>, object: &ConfigMap, key: &str, read: impl Fn(&str) -> Result<T, String>) {
    followed.is_known = true;
    followed.object = Some(object.object_ref(&()));
    let text = object.data.as_ref().and_then(|data| data.get(key));
    let content = text.map_or_else(|| Err(format!("there is no key {key}")), |text| read(text));
    match content {
        Ok(content) => (followed.content, followed.problem) = (Some(Arc::new(content)), None),
        Err(message) => {
            let kept = if followed.content.is_some() { ", the last good one stays in force" } else { "" };
            let message = format!("{key} cannot be used{kept}: {message}");
            tracing::error!(key, problem = message, "invalid configuration");
            followed.problem = Some(Problem { reason: "InvalidConfiguration", message });
        }
    }
}

#[cfg(test)]
mod tests {
    use zen_testkit::api_server::ApiServer;

    use super::*;
    use crate::settings::tests::LEAST;

    const PATH: &str = "/api/v1/namespaces/zen-mesh/configmaps";

    fn config_map(text: &str, version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": names::WORKLOADS, "namespace": "zen-mesh", "uid": "u1", "resourceVersion": version},
               "data": {names::WORKLOADS_KEY: text}})
    }

    #[tokio::test]
    async fn the_last_good_one_stays_in_force_and_a_deleted_one_does_not() {
        let server = ApiServer::new();
        let watch = server.watch(PATH, vec![config_map(LEAST, "1")]);
        let (tell, mut told) = watch::channel(Followed::default());
        let task = tokio::spawn(workloads(server.client(), "zen-mesh".to_owned(), tell));
        let good = told.wait_for(|told| told.content.is_some()).await.expect("goes on").clone();
        assert_eq!(good.owner().expect("an owner")["uid"], "u1");
        watch.modified(config_map("images: 1", "2"));
        let bad = told.wait_for(|told| told.problem.is_some()).await.expect("goes on").clone();
        assert_eq!(bad.content, good.content);
        watch.modified(config_map(&LEAST.replace("size: 1Gi", "size: 2Gi"), "3"));
        let next = told.wait_for(|told| told.problem.is_none()).await.expect("goes on").clone();
        assert_ne!(next.content, good.content);
        watch.deleted(config_map(LEAST, "4"));
        let gone = told.wait_for(|told| told.content.is_none()).await.expect("goes on").clone();
        assert!(gone.is_known && gone.owner().is_none());
        task.abort();
    }

    #[test]
    fn mesh_settings_name_every_problem() {
        assert_eq!(read_mesh("drainDelay: 7s").expect("valid").drain_delay.as_secs(), 7);
        assert_eq!(read_mesh("").expect("empty"), mesh::Config::default());
        let message = read_mesh("{trustdomain: x, drainDelay: 5}").expect_err("two problems");
        assert!(message.contains("trustdomain") && message.contains("drainDelay"), "{message}");
    }
}
