//! The rights of our own ServiceAccounts, tried on a real API server (K-06): what the operator applies is taken under its names
//! and under no other.

use serde_json::{Value, json};

use crate::server::{installed, path, write};

const OPERATOR: &str = "system:serviceaccount:zen-mesh:zen-operator";

/// What a server-side apply by this user meets; nothing is kept.
async fn applies(user: &str, object: &Value) -> Result<(), String> {
    let file = write(&object.to_string());
    let apply = ["apply", "--server-side", "--dry-run=server", "--validate=false", "--as", user, "-f", path(&file)];
    installed().await.kubectl(&apply).await.map(drop).map_err(|error| error.to_string())
}

async fn refused(user: &str, object: &Value) {
    let error = applies(user, object).await.expect_err("refused");
    assert!(error.to_lowercase().contains("forbidden"), "{error}");
}

fn secret(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}})
}

fn role(name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["github-webhook"], "verbs": ["get", "list", "watch"]}],
    })
}

fn binding(name: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "zen-ingester", "namespace": "zen-mesh"}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_its_own_secrets_and_no_other() {
    for name in [
        "zen-mesh-ca",
        "zen-mesh-ca-next",
        "zen-mesh-issuer",
        "zen-mesh-issuer-next",
        "zen-mesh-root",
        "zen-mesh-ingester-keys",
        "zen-mesh-egress-keys",
        "zen-mesh-age",
    ] {
        applies(OPERATOR, &secret("zen-mesh", name)).await.expect(name);
    }
    refused(OPERATOR, &secret("zen-mesh", "other")).await;
    refused(OPERATOR, &secret("default", "zen-mesh-ca")).await;
}

/// Workloads, Services and policies have fixed names.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_what_it_should_and_no_other() {
    let mut object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "zen-egress", "namespace": "zen-mesh"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    });
    applies(OPERATOR, &object).await.expect("its own");
    object["metadata"]["name"] = "other".into();
    refused(OPERATOR, &object).await;
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "zen-ingester-api", "namespace": "zen-mesh"},
        "spec": {"ports": [{"port": 443}]},
    });
    applies(OPERATOR, &service).await.expect("its own");
    service["metadata"]["namespace"] = "default".into();
    refused(OPERATOR, &service).await;
}

/// It may give rights on Secrets that it cannot read itself, by Roles of two names.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_grants_by_two_names() {
    for name in ["zen-ingester", "zen-egress"] {
        applies(OPERATOR, &role(name)).await.expect(name);
        applies(OPERATOR, &binding(name, name)).await.expect(name);
    }
    refused(OPERATOR, &role("other")).await;
    refused(OPERATOR, &binding("other", "zen-ingester")).await;
    // A Role of somebody else, with rights that the operator does not have.
    let file = write(&role("other").to_string());
    installed().await.kubectl(&["apply", "-f", path(&file)]).await.expect("a Role");
    refused(OPERATOR, &binding("zen-ingester", "other")).await;
    let mut cluster = binding("zen-ingester", "cluster-admin");
    cluster["roleRef"]["kind"] = "ClusterRole".into();
    refused(OPERATOR, &cluster).await;
}

/// Admission of the whole cluster goes through what it registers: under one name.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_registers_one_name_for_admission() {
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let mut object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "zenlock-webhook.zen-mesh.io"},
        });
        applies(OPERATOR, &object).await.expect("its own");
        object["metadata"]["name"] = "other".into();
        refused(OPERATOR, &object).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_write_nothing() {
    for plane in ["zen-ingester", "zen-egress", "zenlock-webhook"] {
        let user = format!("system:serviceaccount:zen-mesh:{plane}");
        refused(&user, &secret("zen-mesh", "zen-mesh-root")).await;
        refused(&user, &role(plane)).await;
        let read = ["get", "secret", "zen-mesh-ca", "-n", "zen-mesh", "--as", &user];
        let error = installed().await.kubectl(&read).await.expect_err("refused").to_string();
        assert!(error.contains("Forbidden"), "{error}");
    }
}
