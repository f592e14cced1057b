//! The objects of a cluster, from a real API server (K-04, K-06): watches by name under a Role, many of them over few
//! connections, grants that come later, and an API server that goes away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zen_compile::{Plane, Snapshot};
use zen_e2e::ControlPlane;
use zen_live::Published;
use zen_live::cluster::{self, Cluster, Options};
use zen_model::{Namespace, ObjectKey, ObjectReason};

use crate::api_server::{ApiServer, api_server};

fn hook(namespace: &str, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Webhook", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "verification": {"provider": "github", "secrets": [{"secretRef": {"name": secret, "key": "k"}}]},
            "routes": [{"destinations": [{"name": "ci"}]}],
        },
    })
}

fn secret(namespace: &str, name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
        "stringData": {"k": value},
    })
}

fn destination(namespace: &str) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Destination",
        "metadata": {"name": "ci", "namespace": namespace}, "spec": {"target": {"url": "https://ci.example.com/"}},
    })
}

async fn configuration(control_plane: &ControlPlane, user: Option<&str>) -> kube::Config {
    let file = kube::config::Kubeconfig::read_from(control_plane.kubeconfig()).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = user.map(str::to_owned);
    config
}

async fn start(control_plane: &ControlPlane, user: Option<&str>) -> Cluster {
    let client = cluster::client(configuration(control_plane, user).await).unwrap();
    let options =
        Options { plane: Plane::Ingester, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
    tokio::time::timeout(Duration::from_mins(1), Cluster::start(client, options)).await.unwrap().unwrap()
}

async fn until(cluster: &Cluster, fits: impl Fn(&Published, &Snapshot) -> bool) -> Arc<Published> {
    let (mut published, snapshot) = (cluster.published(), cluster.snapshot());
    let waited = published.wait_for(|published| fits(published, &snapshot.load()));
    let waited = tokio::time::timeout(Duration::from_mins(1), waited).await.map(|found| Arc::clone(&*found.unwrap()));
    waited.unwrap_or_else(|_| panic!("{:?}", cluster.published().borrow()))
}

fn serves(published: &Published, key: &ObjectKey) -> bool {
    published.verdicts.iter().any(|verdict| verdict.key == *key && verdict.kind == "Webhook" && verdict.serving)
}

fn reason(published: &Published, key: &ObjectKey) -> Option<ObjectReason> {
    let verdict = published.verdicts.iter().find(|verdict| verdict.key == *key && verdict.kind == "Webhook")?;
    verdict.problems.first().map(|problem| problem.reason)
}

/// More watches than an API server allows streams on one connection: none waits behind the others.
#[tokio::test(flavor = "multi_thread")]
async fn many_secrets_are_watched_over_few_connections() {
    const COUNT: usize = 230;
    let api = api_server().await;
    let namespace = "live-many";
    api.namespace(namespace).await;
    api.apply(&destination(namespace)).await.unwrap();
    for number in 0..COUNT {
        let name = format!("s{number}");
        api.apply(&secret(namespace, &name, "one")).await.unwrap();
        api.apply(&hook(namespace, &format!("w{number}"), &name)).await.unwrap();
    }
    let before = connections();
    let cluster = start(api.control_plane, None).await;
    let all = |published: &Published| {
        (0..COUNT).all(|number| serves(published, &ObjectKey::new(namespace, format!("w{number}"))))
    };
    until(&cluster, |published, _| all(published)).await;
    let opened = connections().saturating_sub(before);
    assert!(opened <= 12, "{opened} connections for {COUNT} Secrets");

    // Each of them is heard.
    let revision = |snapshot: &Snapshot, number: usize| {
        snapshot.webhooks[&ObjectKey::new(namespace, format!("w{number}"))].revision
    };
    for number in [0, 57, 99, 100, 101, COUNT - 1] {
        let first = revision(&cluster.snapshot().load(), number);
        api.apply(&secret(namespace, &format!("s{number}"), "two")).await.unwrap();
        until(&cluster, |_, snapshot| revision(snapshot, number) != first).await;
    }
}

/// TCP connections of this process that are established.
fn connections() -> usize {
    let inodes = std::fs::read_dir("/proc/self/fd").unwrap();
    let sockets: std::collections::BTreeSet<String> = inodes
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let established = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"01")).then(|| (*fields.get(9)?).to_owned().into())
    });
    established.filter(|inode: &Option<String>| inode.as_ref().is_some_and(|inode| sockets.contains(inode))).count()
}

/// A pod reads what its Roles name, and nothing else; a grant that comes later takes effect within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_by_name_as_they_are_granted() {
    let api = api_server().await;
    let (namespace, user) = ("live-roles", "zen-ingester-of-live-roles");
    api.namespace(namespace).await;
    grant_kinds(&api, user).await;
    for name in ["granted", "later", "never-made"] {
        api.apply(&hook(namespace, name, name)).await.unwrap();
    }
    api.apply(&destination(namespace)).await.unwrap();
    api.apply(&secret(namespace, "granted", "one")).await.unwrap();
    api.apply(&secret(namespace, "later", "one")).await.unwrap();
    grant(&api, namespace, user, &["granted", "never-made"]).await;

    let cluster = start(api.control_plane, Some(user)).await;
    let key = |name: &str| ObjectKey::new(namespace, name);
    let published = until(&cluster, |published, _| {
        serves(published, &key("granted")) && reason(published, &key("never-made")) == Some(ObjectReason::RefNotFound)
    })
    .await;
    assert_eq!(reason(&published, &key("later")), Some(ObjectReason::RefPending));
    assert!(published.complete);

    grant(&api, namespace, user, &["granted", "never-made", "later"]).await;
    until(&cluster, |published, _| serves(published, &key("later"))).await;
    api.apply(&secret(namespace, "never-made", "one")).await.unwrap();
    until(&cluster, |published, _| serves(published, &key("never-made"))).await;
}

/// What the chart grants for whole kinds.
async fn grant_kinds(api: &ApiServer, user: &str) {
    let rules = json!([
        {"apiGroups": ["zen-mesh.io"], "resources": ["webhooks", "destinations"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["zen-mesh"], "verbs": ["list", "watch"]},
    ]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    apply(api, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    apply(api, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
}

/// What the operator grants in a tenant's namespace.
async fn grant(api: &ApiServer, namespace: &str, user: &str, secrets: &[&str]) {
    let rules =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["list", "watch"]}]);
    let metadata = json!({"name": "zen-ingester", "namespace": namespace});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "zen-ingester"},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let root = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    apply(api, &format!("{root}/roles"), &role).await;
    apply(api, &format!("{root}/rolebindings"), &binding).await;
}

async fn apply(api: &ApiServer, collection: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let path = format!("{collection}/{name}?fieldManager=test&force=true");
    let request = http::Request::patch(path).header("content-type", "application/apply-patch+yaml");
    let client = api.control_plane.client().await.unwrap();
    client.request::<Value>(request.body(serde_json::to_vec(object).unwrap()).unwrap()).await.unwrap();
}
