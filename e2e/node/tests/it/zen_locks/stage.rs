//! A namespace whose pods say what they find, and ZenLocks sealed by `kubectl zen lock`.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use zen_e2e_node::{Cluster, Namespace, PAUSE, until};

use crate::stage::SOON;

/// What every container looks at.
const FILE: &str = "/var/run/zen/db/password";

/// What a container found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its own user.
    pub user: String,
    /// User and group of the file, and its mode.
    pub owner: String,
    pub value: String,
    /// `TOKEN`, or `none`.
    pub variable: String,
    /// Whether it could write there.
    pub writable: bool,
}

impl Found {
    fn of(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("FOUND ")?.split(' ').map(str::to_owned);
        let (user, owner, mode) = (words.next()?, words.next()?, words.next()?);
        let (value, variable, writable) = (words.next()?, words.next()?, words.next()? == "writable");
        Some(Self { user, owner: format!("{owner} {mode}"), value, variable, writable })
    }
}

/// Looks, says it, and ends.
pub fn once() -> String {
    format!(
        "w=$( (echo x > /var/run/zen/db/x) 2>/dev/null && echo writable || echo read-only); \
         echo \"FOUND $(/busybox id -u) $(/busybox stat -L -c '%u:%g %a' {FILE}) $(/busybox cat {FILE}) ${{TOKEN:-none}} $w\""
    )
}

/// Looks, says it, and stays.
pub fn stays() -> String {
    format!("{}; exec /busybox sleep 1000000", once())
}

/// Says each value that it sees.
pub fn following() -> String {
    format!(
        "last=; while :; do now=$(/busybox cat {FILE}); if [ \"$now\" != \"$last\" ]; then echo \"SEES $now\"; last=$now; fi; \
         /busybox sleep 0.1; done"
    )
}

/// Something that makes pods.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: String,
    kind: &'static str,
    replicas: usize,
    annotations: Value,
    /// Of the pod.
    pub spec: Value,
}

impl Workload {
    /// Of account `ci`, with one container.
    pub fn new(name: &str, kind: &'static str) -> Self {
        let ends = ["Job", "CronJob"].contains(&kind);
        let spec = json!({
            "serviceAccountName": "ci",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "shop", "image": PAUSE,
                "command": ["/busybox", "sh", "-c", if ends { once() } else { stays() }],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
            }],
        });
        let mut workload = Self { name: name.to_owned(), kind, replicas: 1, annotations: json!({}), spec };
        if ends {
            workload.spec["restartPolicy"] = "OnFailure".into();
        }
        workload
    }

    /// With this on top of the pod's specification.
    pub fn pod(mut self, more: Value) -> Self {
        merge(&mut self.spec, more);
        self
    }

    pub fn account(self, name: &str) -> Self {
        self.pod(json!({"serviceAccountName": name}))
    }

    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations[format!("zen-mesh.io/{name}")] = value.into();
        self
    }

    pub fn inject(self, locks: &str) -> Self {
        self.annotation("inject", locks)
    }

    pub fn env(self, locks: &str) -> Self {
        self.annotation("env", locks)
    }

    fn manifest(&self, namespace: &str) -> Value {
        let labels = json!({"workload": self.name});
        let template = json!({"metadata": {"labels": labels, "annotations": self.annotations}, "spec": self.spec});
        let selector = json!({"matchLabels": labels});
        let (version, spec) = match self.kind {
            "Pod" => {
                let mut pod = template;
                (pod["apiVersion"], pod["kind"]) = ("v1".into(), "Pod".into());
                pod["metadata"]["name"] = (&*self.name).into();
                pod["metadata"]["namespace"] = namespace.into();
                return pod;
            }
            "Deployment" => ("apps/v1", json!({"replicas": self.replicas, "selector": selector, "template": template})),
            "StatefulSet" => ("apps/v1", json!({"serviceName": self.name, "selector": selector, "template": template})),
            "DaemonSet" => ("apps/v1", json!({"selector": selector, "template": template})),
            "Job" => ("batch/v1", json!({"template": template})),
            "CronJob" => {
                // Never by itself while a test runs.
                ("batch/v1", json!({"schedule": "0 0 29 2 *", "jobTemplate": {"spec": {"template": template}}}))
            }
            other => panic!("{other}"),
        };
        let metadata = json!({"name": self.name, "namespace": namespace});
        json!({"apiVersion": version, "kind": self.kind, "metadata": metadata, "spec": spec})
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A namespace with the account `ci`.
pub struct Stage<'a> {
    cluster: &'a Cluster,
    pub namespace: Namespace,
}

impl<'a> Stage<'a> {
    /// Of this Pod Security level.
    pub async fn new(cluster: &'a Cluster, prefix: &str, level: &str) -> Self {
        let namespace = Namespace::new(cluster, prefix).await.unwrap();
        let level = format!("pod-security.kubernetes.io/enforce={level}");
        cluster.kubectl(&["label", "namespace", &namespace.name, &level]).await.unwrap();
        cluster.kubectl(&["create", "serviceaccount", "ci", "--namespace", &namespace.name]).await.unwrap();
        Self { cluster, namespace }
    }

    /// The manifest that `kubectl zen lock encrypt` writes for the cluster's own key, or for others.
    pub async fn sealed(&self, name: &str, values: &[(&str, &str)], accounts: &[&str], to: &[&str]) -> String {
        let values: serde_json::Map<_, _> =
            values.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": self.namespace.name},
            "stringData": values,
        });
        let mut arguments = vec!["lock", "encrypt"];
        arguments.extend(accounts.iter().flat_map(|account| ["--allow", account]));
        arguments.extend(to);
        self.cluster.zen(&arguments, Some(&secret.to_string())).await.unwrap()
    }

    /// A ZenLock for these accounts.
    pub async fn lock(&self, name: &str, values: &[(&str, &str)], accounts: &[&str]) {
        let manifest = self.sealed(name, values, accounts, &[]).await;
        self.cluster.apply(&manifest).await.unwrap();
        let lock = format!("zenlock/{name}");
        let wait = ["wait", "--for=condition=Decryptable", &lock, "--namespace", &self.namespace.name, "--timeout=60s"];
        self.cluster.kubectl(&wait).await.unwrap();
    }

    /// Applies a workload; what kubectl says where it is refused.
    pub async fn apply(&self, workload: &Workload) -> Result<(), String> {
        let manifest = workload.manifest(&self.namespace.name).to_string();
        self.cluster.apply(&manifest).await.map(drop).map_err(|error| format!("{error:#}"))
    }

    /// What all containers of a workload have written.
    pub async fn logs(&self, workload: &str) -> Result<String> {
        self.logs_with(workload, &[]).await
    }

    /// The lines of its containers, and when the runtime had each.
    pub async fn stamped(&self, workload: &str) -> Result<Vec<(Timestamp, String)>> {
        let logs = self.logs_with(workload, &["--timestamps"]).await?;
        let lines = logs.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(at, line)| Ok((at.parse()?, line.to_owned()))).collect()
    }

    async fn logs_with(&self, workload: &str, more: &[&str]) -> Result<String> {
        let selector = format!("workload={workload}");
        let logs =
            ["logs", "--namespace", &self.namespace.name, "--selector", &selector, "--all-containers", "--tail=-1"];
        self.cluster.kubectl(&[&logs[..], &["--max-log-requests=50", "--ignore-errors"], more].concat()).await
    }

    /// Waits until so many containers of a workload have said what they found.
    pub async fn found(&self, workload: &str, count: usize) -> Vec<Found> {
        until(&format!("{count} containers of {workload} have their files"), SOON, async || {
            let logs = self.logs(workload).await?;
            let found: Vec<_> = logs.lines().filter_map(Found::of).collect();
            anyhow::ensure!(found.len() >= count, "{logs}");
            Ok(Some(found))
        })
        .await
        .unwrap()
    }
}

/// The part of a value's base64 that stands there whatever comes before and after, at each alignment.
pub fn base64_within(value: &str) -> Vec<Vec<u8>> {
    let whole = |skipped: usize| {
        let rest = &value.as_bytes()[skipped..];
        STANDARD.encode(&rest[..rest.len() / 3 * 3]).into_bytes()
    };
    (0..3).map(whole).collect()
}
