//! Secure defaults: pods, policies and rights (K-05, K-06).

use serde_json::{Value, json};
use zen_charts::{Helm, Rendering};

fn default() -> Rendering {
    Helm::find().expect("helm").render(&[]).expect("renders")
}

fn rules<'a>(rendering: &'a Rendering, id: &str) -> &'a Vec<Value> {
    rendering.object(id)["rules"].as_array().expect("rules")
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[test]
fn every_pod_has_the_least() {
    let rendering = default();
    let pods = rendering.pods();
    assert_eq!(pods.len(), 3, "{pods:?}");
    for (id, template) in pods {
        let pod = &template["spec"];
        assert_eq!(
            pod["securityContext"],
            json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}),
            "{id}"
        );
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[field], Value::Null, "{id}");
        }
        for container in pod["containers"].as_array().expect("containers") {
            assert_eq!(
                container["securityContext"],
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false, "readOnlyRootFilesystem": true}),
                "{id}"
            );
            for resource in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(container["resources"].pointer(resource).is_some(), "{id} {resource}");
            }
        }
    }
    for name in ["zen-operator", "zen-ingester", "zen-egress", "zenlock-webhook", "zen-audit"] {
        let account = rendering.object(&format!("ServiceAccount/{name}"));
        assert_eq!(account["automountServiceAccountToken"], false, "{name}");
    }
}

/// The operator's key lies in memory only.
#[test]
fn the_operator_writes_to_memory_only() {
    let rendering = default();
    let volumes = &rendering.object("Deployment/zen-operator")["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes, &json!([{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}}]));
}

#[test]
fn policies_deny_by_default() {
    let rendering = default();
    let operator = &rendering.object("NetworkPolicy/zen-operator")["spec"];
    assert_eq!(operator["policyTypes"], json!(["Ingress", "Egress"]));
    let peer = |plane: &str| json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "zen-mesh", "app.kubernetes.io/component": plane}}});
    let planes = json!([peer("egress"), peer("ingester")]);
    let asking = json!([peer("egress"), peer("ingester"), peer("zenlock-webhook"), peer("audit"), peer("operator")]);
    let identity = json!({"from": asking, "ports": [{"port": 8443, "protocol": "TCP"}]});
    let metrics = json!({"from": [{"namespaceSelector": {}}], "ports": [{"port": 9901, "protocol": "TCP"}]});
    assert_eq!(operator["ingress"], json!([identity, metrics]));
    let ports = |ports: &[u16]| ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect::<Vec<_>>();
    assert_eq!(operator["egress"][2], json!({"to": planes, "ports": ports(&[9902, 9901, 8443])}));
    assert_eq!(operator["egress"][3], json!({"to": [peer("zenlock-webhook")], "ports": ports(&[8443])}));
    assert_eq!(operator["egress"][4], json!({"to": [peer("audit")], "ports": ports(&[9445])}));
    assert_eq!(operator["egress"].as_array().map(Vec::len), Some(6));
    assert_eq!(operator["egress"][5], json!({"to": [peer("operator")], "ports": ports(&[8443])}));
    let hooks = &rendering.object("NetworkPolicy/zen-mesh-hooks")["spec"];
    assert_eq!((&hooks["policyTypes"], &hooks["ingress"]), (&json!(["Ingress", "Egress"]), &Value::Null));
}

#[test]
fn no_rule_has_a_wildcard() {
    let rendering = default();
    for object in rendering.objects.iter().filter(|object| object["rules"].is_array()) {
        for rule in object["rules"].as_array().expect("rules") {
            for field in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(!names(&rule[field]).contains(&"*"), "{} {rule}", object["metadata"]["name"]);
            }
        }
    }
}

/// K-06: pods have no verb on Secrets of the whole cluster, and `escalate` and `bind` are for two names.
#[test]
fn secrets_and_escalation_are_by_name() {
    let rendering = default();
    for object in rendering.objects.iter().filter(|object| object["rules"].is_array()) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        for rule in object["rules"].as_array().expect("rules") {
            if names(&rule["resources"]).iter().any(|resource| resource.starts_with("secrets")) {
                assert_eq!((object["kind"].as_str(), name), (Some("Role"), "zen-operator"), "{rule}");
                assert!(names(&rule["resourceNames"]).iter().all(|name| name.starts_with("zen-mesh-")), "{rule}");
            }
            let verbs = names(&rule["verbs"]);
            if verbs.contains(&"escalate") || verbs.contains(&"bind") {
                assert_eq!(name, "zen-operator");
                assert_eq!(rule["resources"], json!(["roles"]));
                assert_eq!(rule["resourceNames"], json!(["zen-ingester", "zen-egress"]));
            }
            assert!(!verbs.contains(&"impersonate"), "{rule}");
        }
    }
}

/// Z-03: plaintext comes to no Secret unless the owner of the cluster lets it.
#[test]
fn secret_delivery_is_a_right_of_its_own() {
    let allowed = Helm::find().expect("helm").render(&["--set", "zenLock.secretDelivery=true"]).expect("renders");
    for (rendering, verbs) in [(default(), None), (allowed, Some(json!(["create", "list", "delete"])))] {
        let rule = rules(&rendering, "ClusterRole/zenlock-webhook")
            .iter()
            .find(|rule| names(&rule["resources"]).contains(&"secrets"));
        assert_eq!(rule.map(|rule| &rule["verbs"]), verbs.as_ref());
    }
}

/// Whoever may talk to the cluster may lock a secret for it.
#[test]
fn public_keys_are_public() {
    let rendering = default();
    let subjects = &rendering.object("RoleBinding/zen-mesh-recipients")["subjects"];
    assert_eq!(
        subjects,
        &json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}])
    );
    assert_eq!(
        rendering.object("Role/zen-mesh-recipients")["rules"],
        json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["zen-mesh-recipients"], "verbs": ["get"]}])
    );
}

/// Pods read what they need and write nothing.
#[test]
fn the_data_plane_only_reads() {
    let rendering = default();
    for id in ["ClusterRole/zen-ingester", "ClusterRole/zen-egress", "Role/zen-mesh-ingester", "Role/zen-mesh-egress"] {
        for rule in rules(&rendering, id) {
            if rule["resources"] == json!(["subjectaccessreviews"]) {
                assert_eq!((id, &rule["verbs"]), ("ClusterRole/zen-ingester", &json!(["create"])));
                continue;
            }
            assert!(names(&rule["verbs"]).iter().all(|verb| ["get", "list", "watch"].contains(verb)), "{id} {rule}");
        }
    }
    let all = rules(&rendering, "ClusterRole/zen-egress").iter().flat_map(|rule| names(&rule["resources"]));
    assert!(!all.into_iter().any(|resource| resource == "webhooks"), "the egress has nothing to do with Webhooks");
}
