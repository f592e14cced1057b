//! Who writes the files, and who can read them.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Value, json};

use crate::fetch::Mode;

/// Whom images of ours run as.
const OURS: i64 = 65532;

/// User and mode of what our containers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) user: i64,
    pub(super) group: Option<i64>,
    pub(super) mode: Mode,
}

impl Reader {
    /// One stated user for all that are served: it alone reads. Else the pod's `fsGroup` reads, and where there is none,
    /// every user in the pod: who they are is written in their images, which nobody can see here.
    pub(super) fn of(spec: &PodSpec, served: &[&Container]) -> Self {
        let pod = spec.security_context.as_ref();
        let pod_user = pod.and_then(|context| context.run_as_user);
        let pod_group = pod.and_then(|context| context.run_as_group);
        let fs_group = pod.and_then(|context| context.fs_group);
        let user = |container: &&Container| {
            container.security_context.as_ref().and_then(|context| context.run_as_user).or(pod_user)
        };
        let group = |container: &&Container| {
            container.security_context.as_ref().and_then(|context| context.run_as_group).or(pod_group)
        };
        match (same(served.iter().map(user)), fs_group) {
            (Some(user), _) => Self { user, group: same(served.iter().map(group)), mode: Mode::Owner },
            (None, Some(_)) => Self { user: pod_user.unwrap_or(OURS), group: pod_group, mode: Mode::Group },
            (None, None) => Self { user: pod_user.unwrap_or(OURS), group: pod_group, mode: Mode::Everyone },
        }
    }

    /// A security context that Pod Security `restricted` takes, unless the pod's own containers are root.
    pub(super) fn security_context(&self) -> Value {
        let mut context = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": self.user != 0,
            "runAsUser": self.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        if let Some(group) = self.group {
            context["runAsGroup"] = group.into();
        }
        context
    }
}

/// The one value that all have; none when one has none, or they differ.
fn same(mut values: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let first = values.next()??;
    values.all(|value| value == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_few_readers_as_can_be_told() {
        let at = |pod: Value, containers: [Value; 2]| {
            let containers = containers.map(|context| json!({"name": "c", "securityContext": context}));
            let spec: PodSpec =
                serde_json::from_value(json!({"securityContext": pod, "containers": containers})).expect("a pod");
            let served: Vec<_> = spec.containers.iter().collect();
            let Reader { user, group, mode } = Reader::of(&spec, &served);
            (user, group, mode)
        };
        let (none, one) = (json!({}), json!({"runAsUser": 1000, "runAsGroup": 2000}));
        for (pod, containers, expected) in [
            (none.clone(), [none.clone(), none.clone()], (65532, None, Mode::Everyone)),
            (json!({"fsGroup": 5}), [none.clone(), none.clone()], (65532, None, Mode::Group)),
            (one.clone(), [none.clone(), none.clone()], (1000, Some(2000), Mode::Owner)),
            (none.clone(), [one.clone(), one.clone()], (1000, Some(2000), Mode::Owner)),
            (none.clone(), [one.clone(), none.clone()], (65532, None, Mode::Everyone)),
            (one.clone(), [json!({"runAsUser": 7}), none.clone()], (1000, Some(2000), Mode::Everyone)),
            (json!({"runAsUser": 1, "fsGroup": 5}), [json!({"runAsUser": 7}), none.clone()], (1, None, Mode::Group)),
            (json!({"runAsUser": 0}), [none.clone(), none.clone()], (0, None, Mode::Owner)),
        ] {
            assert_eq!(at(pod.clone(), containers.clone()), expected, "{pod} {containers:?}");
        }
    }
}
