//! What is added to a pod: our containers and volumes, and what the pod's own containers get of them.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::reader::Reader;
use super::resources::{self, Share};
use super::{Settings, Wanted};
use crate::fetch::{self, Arguments};

/// Name of the init container that asks for the plaintext.
pub const UNSEAL: &str = "zen-mesh-unseal";
/// Name of the sidecar that follows changes.
pub const REFRESH: &str = "zen-mesh-refresh";
/// Names of Secrets that were made for one pod begin so.
pub const SECRET_PREFIX: &str = "zen-mesh-unsealed-";

const SECRETS: &str = "zen-mesh-secrets";
const TOKEN: &str = "zen-mesh-token";
/// Seconds: the least that Kubernetes gives.
const TOKEN_LIFETIME: u32 = 600;
/// Two versions of sixteen ZenLocks, and the variables.
const VOLUME_SIZE: &str = "64Mi";

/// Of the init container: a pod's start waits for it, and what is set aside for it is what the pod's own containers have afterwards.
const ONCE: Share = Share { request: "100m", limit: "100m", guaranteed: "100m" };
/// Of the sidecar, which does next to nothing until something changes.
const FOLLOWING: Share = Share { request: "10m", limit: "100m", guaranteed: "20m" };

/// The names of our volumes in this pod: those that the pod has already get a suffix.
#[derive(Clone, Debug)]
pub(super) struct Volumes {
    pub(super) secrets: String,
    token: String,
}

impl Volumes {
    pub(super) fn of(spec: &PodSpec) -> Self {
        let taken = |name: &str| spec.volumes.iter().flatten().any(|volume| volume.name == name);
        let free = |name: &str| {
            let numbered = (1..).map(|number| format!("{name}-{number}"));
            std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
        };
        Self { secrets: free(SECRETS), token: free(TOKEN) }
    }

    /// The volumes of the delivery in memory.
    pub(super) fn in_memory(&self) -> Vec<Value> {
        let token = json!({"audience": crate::AUDIENCE, "expirationSeconds": TOKEN_LIFETIME, "path": "token"});
        vec![
            json!({"name": self.secrets, "emptyDir": {"medium": "Memory", "sizeLimit": VOLUME_SIZE}}),
            json!({"name": self.token, "projected": {"sources": [{"serviceAccountToken": token}]}}),
        ]
    }

    /// The volume of a Secret.
    pub(super) fn of_secret(&self, secret: &str, items: &[Item], grouped: bool) -> Value {
        let items: Vec<_> = items.iter().map(|item| json!({"key": item.data, "path": item.path()})).collect();
        // The kubelet writes these as root.
        let mode = if grouped { 0o440 } else { 0o444 };
        json!({"name": self.secrets, "secret": {"secretName": secret, "defaultMode": mode, "items": items}})
    }

    /// What a served container mounts.
    pub(super) fn mount(&self, wanted: &Wanted, in_memory: bool) -> Value {
        let mut mount = json!({"name": self.secrets, "mountPath": wanted.path, "readOnly": true});
        if in_memory {
            // Beside it lies the file of the variables, which is nobody's but the kubelet's.
            mount["subPath"] = fetch::FILES.into();
        }
        mount
    }
}

/// One key of one ZenLock in the Secret of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Key in the Secret: names of ZenLocks and keys together could be too long for one.
    pub(super) data: String,
    pub(super) lock: String,
    pub(super) key: String,
}

impl Item {
    fn path(&self) -> String {
        format!("{}/{}", self.lock, self.key)
    }
}

/// What the pod is admitted for.
pub(super) fn arguments(wanted: &Wanted, settings: &Settings, reader: &Reader) -> Arguments {
    Arguments {
        url: settings.url.clone(),
        ca: settings.roots.clone(),
        locks: wanted.locks.clone(),
        env: wanted.env.clone(),
        mode: reader.mode,
        ..Arguments::standard()
    }
}

/// Our containers, in the order in which they start.
pub(super) fn containers(
    spec: &PodSpec,
    wanted: &Wanted,
    settings: &Settings,
    reader: &Reader,
    volumes: &Volumes,
    arguments: &Arguments,
) -> Vec<Value> {
    let container = |name: &str, arguments: &Arguments, share: Share| {
        let mut container = json!({
            "name": name,
            "image": settings.image,
            "args": arguments.to_args(),
            "resources": resources::of(spec, share),
            "securityContext": reader.security_context(),
            // Why it failed is what kubectl describe shows.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": volumes.secrets, "mountPath": fetch::VOLUME},
                {"name": volumes.token, "mountPath": fetch::TOKEN_FOLDER, "readOnly": true},
            ],
        });
        if let Some(policy) = &settings.pull_policy {
            container["imagePullPolicy"] = policy.as_str().into();
        }
        container
    };
    let mut containers = vec![container(UNSEAL, arguments, ONCE)];
    if wanted.refresh {
        let arguments = Arguments { watch: true, notify: wanted.notify.clone(), ..arguments.clone() };
        let mut sidecar = container(REFRESH, &arguments, FOLLOWING);
        sidecar["restartPolicy"] = "Always".into();
        containers.push(sidecar);
    }
    containers
}
