//! What the pods of ingester and egress have in common.

use std::time::Duration;

use serde_json::{Map, Value, json};
use zen_identity::control;

use super::{Inputs, short};
use crate::names;
use crate::settings::Pod;

/// Who the images run as.
const USER: u32 = 65532;
/// Secrets are readable for the pod's group alone: 0440.
pub(super) const SECRET_MODE: u32 = 0o440;
/// What finishes after the drain delay has so long for it.
const FINISH: Duration = Duration::from_secs(30);
/// The grace period grows in such steps: the drain delay is in effect without a restart, and the grace period is not.
const STEP: u64 = 30;

/// One pod.
pub(super) struct Shape<'a> {
    pub(super) component: &'static str,
    pub(super) image: &'a str,
    pub(super) log: &'a str,
    pub(super) pod: &'a Pod,
    /// The Secret with its keys, and the fingerprint of what they were derived from.
    pub(super) keys: Option<(&'static str, &'a str)>,
    pub(super) ports: Value,
    /// Beside what every pod gets.
    pub(super) environment: Vec<Value>,
    pub(super) mounts: Vec<Value>,
    pub(super) volumes: Vec<Value>,
}

/// Which of the pods of a component serve. A pod that only empties a queue is none of them.
pub(super) fn selector(component: &str) -> Value {
    let mut labels = component_labels(component);
    labels[names::ROLE_LABEL] = names::REPLICA.into();
    labels
}

/// All pods of a component.
pub(super) fn component_labels(component: &str) -> Value {
    json!({names::NAME_LABEL: names::NAME, names::COMPONENT_LABEL: short(component)})
}

impl Shape<'_> {
    /// Metadata and spec of the pod, of the role that its label says.
    pub(super) fn template(&self, inputs: &Inputs<'_>, role: &str) -> Value {
        let mut labels: Map<_, _> =
            self.pod.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        if let Value::Object(ours) = component_labels(self.component) {
            labels.extend(ours);
        }
        labels.insert(names::ROLE_LABEL.to_owned(), role.into());
        let mut annotations: Map<_, _> =
            self.pod.annotations.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        if let Some((_, keys)) = self.keys {
            // Mounted keys are read once: other keys are another pod.
            annotations.insert(names::KEYS.to_owned(), keys.into());
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": self.spec(inputs, role)})
    }

    fn spec(&self, inputs: &Inputs<'_>, role: &str) -> Value {
        let mut spec = json!({
            "serviceAccountName": self.component,
            // It watches the objects itself.
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": grace(inputs.drain_delay),
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self.container(inputs, role)],
            "volumes": self.volumes(inputs),
        });
        let pull_secrets = &inputs.workloads.images.pull_secrets;
        let pull_secrets: Vec<_> = pull_secrets.iter().map(|name| json!({"name": name})).collect();
        let mut set = |key: &str, value: Value, is_set: bool| {
            if is_set {
                spec[key] = value;
            }
        };
        set("imagePullSecrets", pull_secrets.clone().into(), !pull_secrets.is_empty());
        set("nodeSelector", json!(self.pod.node_selector), !self.pod.node_selector.is_empty());
        set("tolerations", json!(self.pod.tolerations), !self.pod.tolerations.is_empty());
        let affinity = self.pod.affinity.as_object().is_some_and(|affinity| !affinity.is_empty());
        set("affinity", self.pod.affinity.clone(), affinity);
        let class = &*self.pod.priority_class_name;
        set("priorityClassName", class.into(), !class.is_empty());
        set("topologySpreadConstraints", self.spread(), inputs.workloads.spread && role == names::REPLICA);
        spec
    }

    fn container(&self, inputs: &Inputs<'_>, role: &str) -> Value {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut environment = vec![
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("POD_IP", "status.podIP"),
            json!({"name": "ZEN_LOG", "value": self.log}),
            json!({"name": "ZEN_IDENTITY_URL",
                   "value": format!("https://{}.{}.svc", names::OPERATOR, inputs.namespace)}),
        ];
        if self.unseals(inputs) {
            let url = format!("https://{}.{}.svc", names::ZENLOCK, inputs.namespace);
            environment.push(json!({"name": "ZEN_UNSEAL_URL", "value": url}));
        }
        environment.extend(self.environment.iter().cloned());
        let mut mounts = vec![
            json!({"name": "run", "mountPath": "/run/zen-mesh"}),
            json!({"name": "trust", "mountPath": "/etc/zen-mesh/trust", "readOnly": true}),
        ];
        if self.keys.is_some() {
            mounts.push(json!({"name": "keys", "mountPath": "/etc/zen-mesh/keys", "readOnly": true}));
        }
        mounts.push(json!({"name": "token", "mountPath": "/var/run/secrets/zen-mesh", "readOnly": true}));
        mounts.extend(self.mounts.iter().cloned());
        let probe = |path: &str, period: u32, failures: u32| {
            json!({"httpGet": {"path": path, "port": "admin"}, "periodSeconds": period, "timeoutSeconds": 2,
                   "failureThreshold": failures})
        };
        let mut container = json!({
            "name": short(self.component),
            "image": self.image,
            "imagePullPolicy": inputs.workloads.images.pull_policy,
            "env": environment,
            "ports": self.ports,
            "startupProbe": probe("/healthz", 1, 120),
            "livenessProbe": probe("/healthz", 10, 6),
            "readinessProbe": probe("/readyz", control::PROBE_PERIOD, control::PROBE_FAILURES),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        });
        if self.pod.resources.as_object().is_some_and(|resources| !resources.is_empty()) {
            container["resources"] = self.pod.resources.clone();
        }
        if role == names::DRAIN {
            container["args"] = json!(["--drain"]);
        }
        container
    }

    /// Whether it has ZenLocks opened for Webhooks and Destinations.
    fn unseals(&self, inputs: &Inputs<'_>) -> bool {
        inputs.workloads.zen_lock.is_some() && matches!(self.component, names::INGESTER | names::EGRESS)
    }

    fn volumes(&self, inputs: &Inputs<'_>) -> Vec<Value> {
        let token = |audience: &str, path: &str| json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": 600, "path": path}});
        let mut tokens = vec![token("zen-mesh-identity", "token")];
        if self.unseals(inputs) {
            tokens.push(token(zen_lock::wire::AUDIENCE, "unseal-token"));
        }
        let mut volumes = vec![
            // Keys and the secrets in use: never on a disk.
            json!({"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}}),
            json!({"name": "trust", "configMap": {"name": names::TRUST}}),
        ];
        if let Some((secret, _)) = self.keys {
            volumes.push(json!({"name": "keys", "secret": {"secretName": secret, "defaultMode": SECRET_MODE}}));
        }
        volumes.push(json!({"name": "token", "projected": {"defaultMode": SECRET_MODE, "sources": tokens}}));
        volumes.extend(self.volumes.iter().cloned());
        volumes
    }

    fn spread(&self) -> Value {
        let constraint = |key: &str| {
            json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                   "labelSelector": {"matchLabels": selector(self.component)}})
        };
        json!([constraint("kubernetes.io/hostname"), constraint("topology.kubernetes.io/zone")])
    }
}

/// At least [`FINISH`] after the drain delay, seconds.
fn grace(drain_delay: Duration) -> u64 {
    FINISH.as_secs() + drain_delay.as_secs().div_ceil(STEP).max(1) * STEP
}

pub(super) fn port(name: &str, number: u16) -> Value {
    json!({"name": name, "containerPort": number, "protocol": "TCP"})
}

/// A port of a Service, towards the container's port of the same name.
pub(super) fn service_port(name: &str, number: u16) -> Value {
    json!({"name": name, "port": number, "targetPort": name, "protocol": "TCP"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_delay_fits_into_the_grace_period_and_small_changes_restart_nothing() {
        for (delay, seconds) in [(0, 60), (5, 60), (30, 60), (31, 90), (300, 330)] {
            assert_eq!(grace(Duration::from_secs(delay)), seconds, "{delay}");
        }
    }
}
