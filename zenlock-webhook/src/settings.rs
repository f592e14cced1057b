//! What admission writes into pods, as it is now: the trust bundle changes when a root is exchanged, the cluster when it is
//! upgraded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admit::Settings;
use crate::fetch::Arguments;

/// How often the trust bundle is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the cluster is asked what it can do.
const ASK: Duration = Duration::from_mins(10);
/// The first release whose feature `EnvFiles` is on by default.
const ENV_FILES: (u32, u32) = (1, 35);

/// What never changes while the process runs.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Image of our containers.
    pub image: String,
    /// Its pull policy.
    pub pull_policy: Option<String>,
    /// The unseal API as pods reach it.
    pub url: String,
    /// The trust bundle.
    pub trust: PathBuf,
    /// Our own namespace.
    pub namespace: String,
    /// Whether variables may come from files; none: ask the cluster.
    pub env_files: Option<bool>,
}

/// Keeps the settings up to date, for as long as it is polled.
pub async fn follow(client: Client, fixed: Fixed, settings: watch::Sender<Option<Arc<Settings>>>) {
    let mut asked: Option<(Instant, bool)> = None;
    loop {
        if asked.is_none_or(|(at, has)| !has && at.elapsed() >= ASK) {
            let has = match fixed.env_files {
                Some(has) => Some(has),
                None => has_env_files(&client, &fixed.namespace).await,
            };
            asked = has.map(|has| (Instant::now(), has)).or(asked);
        }
        match std::fs::read_to_string(&fixed.trust) {
            Ok(pem) => {
                let now = Settings {
                    image: fixed.image.clone(),
                    pull_policy: fixed.pull_policy.clone(),
                    url: fixed.url.clone(),
                    roots: Arguments::encode_roots(&pem),
                    env_files: asked.is_some_and(|(_, has)| has),
                };
                settings.send_if_modified(|current| {
                    let same = current.as_ref().is_some_and(|current| **current == now);
                    if !same {
                        *current = Some(Arc::new(now));
                    }
                    !same
                });
            }
            Err(error) => tracing::warn!(%error, file = %fixed.trust.display(), "failed to read the trust bundle"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the cluster has environment variables from files: by a pod that is never made where we may try that, else by the
/// API server's version. None when it cannot be asked.
async fn has_env_files(client: &Client, namespace: &str) -> Option<bool> {
    let answered =
        if may_try(client, namespace).await? { try_it(client, namespace).await } else { by_version(client).await };
    match answered {
        Ok(has) => {
            tracing::info!(env_files = has, "environment variables from files");
            Some(has)
        }
        Err(error) => {
            tracing::warn!(%error, "failed to ask whether the cluster has environment variables from files");
            None
        }
    }
}

/// Asked first, so that nothing is attempted that was not granted.
async fn may_try(client: &Client, namespace: &str) -> Option<bool> {
    let text = |text: &str| Some(text.to_owned());
    let attributes = ResourceAttributes {
        namespace: text(namespace),
        resource: text("pods"),
        verb: text("create"),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    answer.ok().map(|review| review.status.is_some_and(|status| status.allowed))
}

async fn try_it(client: &Client, namespace: &str) -> Result<bool, kube::Error> {
    let file = json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "K"}});
    let pod = json!({
        "metadata": {"generateName": "zenlock-webhook-probe-"},
        "spec": {
            "automountServiceAccountToken": false,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "c", "image": "none", "env": [{"name": "K", "valueFrom": file}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await {
        Ok(pod) => {
            let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
            let source = container.and_then(|container| container.env?.into_iter().next()?.value_from);
            Ok(source.is_some_and(|source| source.file_key_ref.is_some()))
        }
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn by_version(client: &Client) -> Result<bool, kube::Error> {
    let version = client.apiserver_version().await?;
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    Ok((number(&version.major), number(&version.minor)) >= ENV_FILES)
}
