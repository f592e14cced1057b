//! The names that chart, operator and data plane agree on.

use serde_json::{Value, json};
use zen_charts::{Helm, Rendering};
use zen_operator::names;

fn default() -> Rendering {
    Helm::find().expect("helm").render(&[]).expect("renders")
}

/// Nothing more and nothing less: another name would be an object that nobody looks for.
#[test]
fn the_objects_of_the_chart() {
    let rendering = default();
    let mut found: Vec<_> = rendering
        .objects
        .iter()
        .map(|object| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("-");
            format!(
                "{} {} {}",
                namespace,
                object["kind"].as_str().expect("a kind"),
                object["metadata"]["name"].as_str().expect("a name")
            )
        })
        .collect();
    found.sort();
    let expected = "\
- ClusterRole zen-egress
- ClusterRole zen-ingester
- ClusterRole zen-mesh-admin
- ClusterRole zen-mesh-edit
- ClusterRole zen-mesh-owner
- ClusterRole zen-mesh-view
- ClusterRole zen-operator
- ClusterRole zenlock-webhook
- ClusterRoleBinding zen-egress
- ClusterRoleBinding zen-ingester
- ClusterRoleBinding zen-operator
- ClusterRoleBinding zenlock-webhook
- CustomResourceDefinition clusterenrollments.zen-mesh.io
- CustomResourceDefinition destinations.zen-mesh.io
- CustomResourceDefinition webhooks.zen-mesh.io
- CustomResourceDefinition zenlocks.zen-mesh.io
kube-system RoleBinding zen-ingester-authentication-reader
zen-mesh ConfigMap zen-mesh
zen-mesh ConfigMap zen-mesh-workloads
zen-mesh Deployment zen-operator
zen-mesh Job zen-mesh-cleanup
zen-mesh Job zen-mesh-wait
zen-mesh NetworkPolicy zen-mesh-hooks
zen-mesh NetworkPolicy zen-operator
zen-mesh PodDisruptionBudget zen-operator
zen-mesh Role zen-audit
zen-mesh Role zen-mesh-egress
zen-mesh Role zen-mesh-ingester
zen-mesh Role zen-mesh-owner
zen-mesh Role zen-mesh-recipients
zen-mesh Role zen-operator
zen-mesh Role zenlock-webhook
zen-mesh RoleBinding zen-audit
zen-mesh RoleBinding zen-mesh-egress
zen-mesh RoleBinding zen-mesh-ingester
zen-mesh RoleBinding zen-mesh-recipients
zen-mesh RoleBinding zen-operator
zen-mesh RoleBinding zenlock-webhook
zen-mesh Service zen-operator
zen-mesh ServiceAccount zen-audit
zen-mesh ServiceAccount zen-egress
zen-mesh ServiceAccount zen-ingester
zen-mesh ServiceAccount zen-operator
zen-mesh ServiceAccount zenlock-webhook";
    assert_eq!(found, expected.lines().collect::<Vec<_>>());
}

#[test]
fn labels_select_what_they_should() {
    let rendering = default();
    let deployment = rendering.object("Deployment/zen-operator");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let selector = json!({"app.kubernetes.io/name": "zen-mesh", "app.kubernetes.io/component": "operator"});
    for (id, pointer) in [
        ("Deployment/zen-operator", "/spec/selector/matchLabels"),
        ("Service/zen-operator", "/spec/selector"),
        ("PodDisruptionBudget/zen-operator", "/spec/selector/matchLabels"),
        ("NetworkPolicy/zen-operator", "/spec/podSelector/matchLabels"),
    ] {
        assert_eq!(rendering.object(id).pointer(pointer), Some(&selector), "{id}");
    }
    for (name, value) in selector.as_object().expect("a map") {
        assert_eq!(&labels[name], value);
    }
    // A hook's pod is no operator: nobody may ask it for a certificate.
    for id in ["Job/zen-mesh-wait", "Job/zen-mesh-cleanup"] {
        let labels = &rendering.object(id)["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/component"], "hook", "{id}");
        assert_eq!(rendering.object(id)["spec"]["template"]["spec"]["serviceAccountName"], "zen-operator", "{id}");
    }
}

/// Also after a rollback: what the operator makes Helm itself does not see.
#[test]
fn whatever_helm_installs_is_waited_for() {
    let rendering = default();
    let hook = |id: &str| rendering.object(id)["metadata"]["annotations"]["helm.sh/hook"].clone();
    assert_eq!(hook("Job/zen-mesh-wait"), "post-install,post-upgrade,post-rollback");
    assert_eq!(hook("Job/zen-mesh-cleanup"), "pre-delete");
}

/// Service, ports and probes of the operator.
#[test]
fn the_operator_is_where_pods_look_for_it() {
    let rendering = default();
    let port = &rendering.object("Service/zen-operator")["spec"]["ports"];
    assert_eq!(port, &json!([{"name": "identity", "port": 443, "protocol": "TCP", "targetPort": "identity"}]));
    let pod = &rendering.object("Deployment/zen-operator")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["ports"],
        json!([{"name": "identity", "containerPort": 8443}, {"name": "admin", "containerPort": 9901}])
    );
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "admin"}), "{probe}");
    }
    assert_eq!(container["args"], Value::Null);
    let env: Vec<_> =
        container["env"].as_array().expect("a list").iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(
        env,
        [
            "POD_NAME",
            "POD_NAMESPACE",
            "POD_UID",
            "POD_IP",
            "ZEN_LOG",
            "ZEN_AUDIT_MIB",
            "ZEN_AUDIT_STORE",
            "ZEN_AUDIT_STRICT"
        ]
    );
    assert_eq!(pod["serviceAccountName"], "zen-operator");
    assert_eq!(rendering.object("Deployment/zen-operator")["spec"]["replicas"], 2);
}

/// The whole of workloads.yaml with default values, field by field: the operator reads it strictly.
#[test]
fn the_shape_of_the_data_plane() {
    let pod = |requests: (&str, &str), memory: &str| {
        json!({
            "resources": {"requests": {"cpu": requests.0, "memory": requests.1}, "limits": {"memory": memory}},
            "nodeSelector": {}, "tolerations": [], "affinity": {}, "annotations": {}, "labels": {}, "priorityClassName": "",
        })
    };
    let expected = json!({
        "images": {
            "ingester": "zen-ingester:0.1.0", "egress": "zen-egress:0.1.0", "zenlockWebhook": "zenlock-webhook:0.1.0",
            "audit": "zen-audit:0.1.0",
            "pullPolicy": "IfNotPresent", "pullSecrets": [],
        },
        "ingester": {
            "replicas": 2,
            "storage": {"size": "10Gi", "className": ""},
            "service": {"type": "ClusterIP", "port": 443, "annotations": {}},
            "pod": pod(("100m", "128Mi"), "1Gi"),
            "log": "info",
        },
        "egress": {"replicas": 2, "pod": pod(("100m", "128Mi"), "512Mi"), "log": "info"},
        "zenLock": {
            "replicas": 2,
            "custody": {"secretName": "", "volume": {}},
            "secretDelivery": false,
            "pod": pod(("50m", "64Mi"), "512Mi"),
            "log": "info",
        },
        "audit": {
            "storage": {"size": "10Gi", "className": ""},
            "keepDays": 90,
            "keepMib": 8192,
            "strict": false,
            "pod": pod(("20m", "64Mi"), "256Mi"),
            "log": "info",
        },
        "intake": {"tlsSecret": "", "names": []},
        "api": {"enabled": true},
        "networkPolicies": {"enabled": true, "hubFrom": [], "intakeFrom": [], "apiServerPorts": [443, 6443]},
        "podDisruptionBudgets": {"enabled": true},
        "rotation": {"syntheticEvent": true},
        "spread": true,
    });
    assert_eq!(default().workloads().expect("workloads.yaml"), expected);
}

/// The strings of the templates are the constants of the operator.
#[test]
fn the_operator_looks_for_these_names() {
    let rendering = default();
    for id in [
        format!("Deployment/{}", names::OPERATOR),
        format!("Service/{}", names::OPERATOR),
        format!("ServiceAccount/{}", names::OPERATOR),
        format!("ServiceAccount/{}", names::INGESTER),
        format!("ServiceAccount/{}", names::EGRESS),
        format!("ServiceAccount/{}", names::ZENLOCK),
        format!("ServiceAccount/{}", names::AUDIT),
        format!("ConfigMap/{}", names::MESH),
        format!("ConfigMap/{}", names::WORKLOADS),
    ] {
        assert!(rendering.object(&id).is_object(), "{id}");
    }
    let operator = rendering.object("Deployment/zen-operator");
    let labels = &operator["metadata"]["labels"];
    assert_eq!(
        (&labels[names::NAME_LABEL], &labels[names::COMPONENT_LABEL]),
        (&json!(names::NAME), &json!("operator"))
    );
    // What carries this label the operator may write over, and the cleanup deletes.
    for object in &rendering.objects {
        assert_ne!(object["metadata"]["labels"][names::MANAGED_BY_LABEL], names::MANAGED_BY);
    }
    assert!(rendering.object(&format!("ConfigMap/{}", names::MESH))["data"][names::MESH_KEY].is_string());
    let ports = &operator["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(
        (&ports[0]["containerPort"], &ports[1]["containerPort"]),
        (&json!(names::port::IDENTITY), &json!(names::port::ADMIN))
    );
    let rules = rendering.object("Role/zen-operator")["rules"].to_string();
    for name in [names::TRUST, names::ROOT, names::INGESTER_KEYS, names::EGRESS_KEYS, names::AGE, names::RECIPIENTS] {
        assert!(rules.contains(&format!("\"{name}\"")), "{name}");
    }
    let rules = rendering.object("ClusterRole/zen-operator")["rules"].to_string();
    assert!(rules.contains(names::API_SERVICE) && rules.contains(names::ADMISSION), "{rules}");
}

/// NOTES says the next command, and where the intake is.
#[test]
fn notes_say_what_comes_next() {
    let helm = Helm::find().expect("helm");
    let notes = |arguments: &[&str]| {
        helm.run(
            &[&["install", "zen-mesh", "CHART", "-n", "mesh", "--dry-run=client", "--hide-notes=false"], arguments]
                .concat(),
        )
        .expect("notes")
    };
    let text = notes(&[]);
    assert!(text.contains("\n  kubectl apply -f examples/kubernetes/first-webhook/\n"), "{text}");
    assert!(text.contains("https://zen-ingester.mesh.svc") && text.contains("PerReplicaState"), "{text}");
    let text = notes(&["--set", "ingester.replicas=1,networkPolicies.enabled=false,hooks.wait.enabled=false"]);
    assert!(text.contains("There is one ingester") && text.contains("networkPolicies.enabled is false"), "{text}");
    assert!(
        text.contains("rollout status statefulset/zen-ingester deployment/zen-egress deployment/zenlock-webhook"),
        "{text}"
    );
    assert!(text.contains("get configmap zen-mesh-recipients") && !text.contains("and so in etcd"), "{text}");
    let text = notes(&["--set", "zenLock.secretDelivery=true,zenLock.custody.secretName=mine"]);
    assert!(!text.contains("get configmap zen-mesh-recipients") && text.contains("and so in etcd"), "{text}");
    let text = notes(&["--set", "intake.exposure.type=ingress,intake.exposure.hosts={hooks.example.com}"]);
    assert!(text.contains("through the Ingress zen-ingester at:\n  https://hooks.example.com/"), "{text}");
}
