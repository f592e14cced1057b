//! What our containers may use of their node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use serde_json::{Value, json};

use super::containers;

const MEMORY: &str = "64Mi";

/// A share of a processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// What is set aside for it: what it takes on the average.
    pub(super) request: &'static str,
    /// What it may take: a TLS handshake with next to nothing of a processor takes seconds.
    pub(super) limit: &'static str,
    /// Both, in a pod that is Guaranteed: set aside for every such pod, so less than the limit elsewhere.
    pub(super) guaranteed: &'static str,
}

/// Resources of a container of ours in this pod.
pub(super) fn of(spec: &PodSpec, share: Share) -> Value {
    // A pod that has them as a whole shares them among its containers, and none may ask for more than there is.
    if spec.resources.as_ref().is_some_and(|whole| !is_empty(whole)) {
        return json!({});
    }
    let (request, limit) =
        if is_guaranteed(spec) { (share.guaranteed, share.guaranteed) } else { (share.request, share.limit) };
    json!({"requests": {"cpu": request, "memory": MEMORY}, "limits": {"cpu": limit, "memory": MEMORY}})
}

fn is_empty(resources: &ResourceRequirements) -> bool {
    [&resources.requests, &resources.limits].into_iter().all(|one| one.as_ref().is_none_or(BTreeMap::is_empty))
}

/// Whether the pod's class is Guaranteed without us: every container's requests are its limits, of processor and memory
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/#guaranteed>). The API server writes a quantity in one way only.
fn is_guaranteed(spec: &PodSpec) -> bool {
    containers::all(spec).all(|slot| {
        let Some(resources) = &slot.container.resources else { return false };
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
            let request = resources.requests.as_ref().and_then(|requests| requests.get(name));
            // A request that is not there is the limit; a limit of zero is none.
            limit.is_some_and(|limit| limit.0 != "0" && request.is_none_or(|request| request == limit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { request: "10m", limit: "100m", guaranteed: "20m" };

    /// Z-02: what a pod is to the scheduler and the kubelet stays as it was.
    #[test]
    fn a_pods_class_stays() {
        let both =
            |cpu: &str| json!({"limits": {"cpu": cpu, "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let own = |request: &str, limit: &str| json!({"requests": {"cpu": request, "memory": "64Mi"}, "limits": {"cpu": limit, "memory": "64Mi"}});
        let (burst, even) = (own("10m", "100m"), own("20m", "20m"));
        let rows = [
            ("nothing is said", json!({"containers": [{"name": "a"}]}), &burst),
            ("requests are limits", json!({"containers": [{"name": "a", "resources": both("1")}]}), &even),
            (
                "limits alone",
                json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}),
                &even,
            ),
            ("more than its request", json!({"containers": [{"name": "a", "resources": both("2")}]}), &burst),
            ("one of two", json!({"containers": [{"name": "a", "resources": both("1")}, {"name": "b"}]}), &burst),
            (
                "its init container is another",
                json!({"containers": [{"name": "a", "resources": both("1")}], "initContainers": [{"name": "b"}]}),
                &burst,
            ),
            ("no memory", json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}), &burst),
            (
                "a limit of zero",
                json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "0", "memory": "1Gi"}}}]}),
                &burst,
            ),
            (
                "of the pod as a whole",
                json!({"containers": [{"name": "a"}], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}),
                &json!({}),
            ),
            ("of the pod as a whole, but nothing", json!({"containers": [{"name": "a"}], "resources": {}}), &burst),
        ];
        for (row, spec, wanted) in rows {
            let spec: PodSpec = serde_json::from_value(spec).expect("a pod's specification");
            assert_eq!(&of(&spec, SHARE), wanted, "{row}");
        }
    }
}
