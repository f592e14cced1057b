//! Least privilege (K-06; issue 4, point 7): the operator and the pods run as their ServiceAccounts, with the chart's roles and no other,
//! through everything that they do. Then the API server's audit log and the roles must say the same: a verb that is granted
//! and was never used fails here, and so does one that was used and not granted.
//!
//! Whoever adds a right adds here what uses it. `escalate` and `bind` on the Roles of tenants are asked inside the API server and show in
//! no request: [`zen_e2e::rights::UNSEEN`].

mod audit;
mod probes;
pub mod stage;
pub mod zen_locks;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use zen_e2e::rights::{self, Right};
use zen_operator::writer::{Metrics, Notice, Writer};
use zen_runtime::lease::Leadership;

use crate::pods::objects::WEBHOOK;
use crate::pods::stage::{ready, until};
use stage::{ACCOUNTS, NAMESPACE, Stage};

/// Something of every kind that is read on behalf of a tenant, besides what [`WEBHOOK`] names.
const TENANT: &str = "
apiVersion: v1
kind: Secret
metadata: {name: target, namespace: team-a}
stringData: {token: battery-staple}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: target-ca, namespace: team-a}
data: {ca.crt: CERTIFICATE}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec:
  target: {url: https://ci.example.com}
  authentication: {bearer: {secretRef: {name: target, key: token}}}
  tls: {caRef: {configMapRef: {name: target-ca, key: ca.crt}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_used_and_every_use_is_granted() {
    let mut stage = Stage::start().await;
    stage.start_operator().await;
    root(&stage).await;
    stage.operator_has_made().await;
    stage.start_pods().await;
    until("the ingester is ready", async || ready(stage.ingester_admin()).await.0 == 200).await;
    until("the egress is ready", async || ready(stage.egress_admin()).await.0 == 200).await;

    let tenant = TENANT.replace("CERTIFICATE", &json!(stage.bundle()).to_string());
    let lost = WEBHOOK.replace("name: hook", "name: lost").replace("name: ci", "name: nowhere");
    stage.apply(&[WEBHOOK, &lost, &tenant].join("---")).await;
    let sample = crate::samples::named("ClusterEnrollment", "prod-eu");
    stage.apply(&crate::samples::with(sample, "/metadata/namespace", json!("team-a")).to_string()).await;
    stage.until_condition("webhook", "hook", "Programmed=True").await;
    stage.until_condition("webhook", "lost", "ResolvedRefs=False").await;
    stage.until_condition("destination", "ci", "Accepted=True").await;
    stage.until_condition("clusterenrollment", "--all", "Accepted=False").await;
    // An Event is written after the status that it is about.
    until("it is said as an Event too", async || {
        !stage.kubectl(&["get", "events", "-n", "team-a", "-o", "name"]).await.is_empty()
    })
    .await;
    let of_tenant = tenant_roles(&stage).await;
    assert_eq!(of_tenant.len(), 4, "a Role and its binding for each plane: {of_tenant:#?}");

    relay(&stage).await;
    zen_locks::run(&stage).await;
    audit::run(&stage).await;
    rotation(&stage).await;
    aggregated_api(&stage).await;
    drain(&stage).await;
    // What the hooks of the chart run. Nobody runs pods here, so that waiting ends with what is missing.
    let operator = stage.client("zen-operator");
    let missing = zen_operator::wait::run(&operator, NAMESPACE, Duration::ZERO).await.unwrap_err().to_string();
    assert!(missing.contains("StatefulSet"), "{missing}");
    ends(&mut stage, &ACCOUNTS, &of_tenant).await;
}

/// All that was made goes, by the settings, with the objects and by a hook of the chart; then what these accounts did is what they
/// may do.
pub async fn ends(stage: &mut Stage, accounts: &[&str], of_tenant: &[Value]) {
    repeated_event(stage);
    switch_off(stage).await;
    stage.kubectl(&["delete", "webhooks,destinations", "--all", "-n", "team-a"]).await;
    until("nothing is granted any more", async || tenant_roles(stage).await.is_empty()).await;
    let operator = stage.client("zen-operator");
    let (left, deleted) =
        tokio::join!(stage.operator_ends(), zen_operator::cleanup::run(&operator, NAMESPACE, "zen-mesh-cleanup"));
    assert!(left.contains("lease"), "the operator made room: {left}");
    assert_eq!(deleted.unwrap(), 0, "all of it was gone before");
    stage.stop_pods().await;
    let problems = problems(stage, accounts, of_tenant).await;
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// What these accounts did by the API server's audit log, compared with what they may do.
async fn problems(stage: &Stage, accounts: &[&str], of_tenant: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let entries = stage.audit();
    let built_in = [stage.built_in_roles().await, while_probing()].concat();
    for account in accounts {
        let mut ours = rights::granted(stage.rendered(), NAMESPACE, account);
        assert!(!ours.is_empty(), "{account} is granted nothing: are the bindings read?");
        ours.extend(rights::granted(of_tenant, NAMESPACE, account));
        let others: BTreeSet<Right> = rights::granted(&built_in, NAMESPACE, account);
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        problems.extend(rights::problems(&entries, &user, &ours, &others));
    }
    problems
}

/// What the operator grants while something is exchanged: pods use it if they come to it in that time.
fn while_probing() -> Vec<Value> {
    let name = json!({"name": "zen-ingester", "namespace": NAMESPACE});
    let verbs = ["list", "watch"];
    let rule =
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [zen_pod::sink::NAME], "verbs": verbs});
    let granted = json!({"kind": "Role", "name": "zen-ingester"});
    let subject = json!({"kind": "ServiceAccount", "name": "zen-ingester", "namespace": NAMESPACE});
    vec![
        json!({"kind": "Role", "metadata": name, "rules": [rule]}),
        json!({"kind": "RoleBinding", "metadata": name, "roleRef": granted, "subjects": [subject]}),
    ]
}

/// What the operator made for the data plane in the tenant's namespace.
pub async fn tenant_roles(stage: &Stage) -> Vec<Value> {
    let client = stage.admin();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=zen-operator");
    let roles: Api<Role> = Api::namespaced(client.clone(), "team-a");
    let bindings: Api<RoleBinding> = Api::namespaced(client, "team-a");
    let roles = roles.list(&ours).await.unwrap().items.into_iter().map(|role| json!(role));
    let bindings = bindings.list(&ours).await.unwrap().items.into_iter().map(|binding| json!(binding));
    roles.chain(bindings).collect()
}

/// The registration, and a request that the API server forwards and the ingester has reviewed.
pub async fn aggregated_api(stage: &Stage) {
    let ready = json!({"status": {"replicas": 1, "readyReplicas": 1}}).to_string();
    let patch = ["patch", "statefulset", "zen-ingester", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p"];
    stage.kubectl(&[&patch[..], &[&ready]].concat()).await;
    stage.serve_api().await;
    let dead_letters = "/apis/data.zen-mesh.io/v1alpha1/namespaces/team-a/deadletters";
    let request = || http::Request::get(dead_letters).body(Vec::new()).unwrap();
    until("the API server forwards", async || stage.admin().request_text(request()).await.is_ok()).await;
}

/// The root is exchanged before there are pods: it is made, put in the place of the one before, and that deleted (T-04).
async fn root(stage: &Stage) {
    let request = json!({
        "id": "root", "action": "start", "subject": {"kind": "root"},
        "plan": {"canaryPercent": 100, "probes": 1, "soakSeconds": 0, "patienceSeconds": 60, "intervalSeconds": 1, "overlapSeconds": 0},
    });
    assert_eq!(rotated(stage, &request).await, "RotationFinished");
    let secrets: Api<Secret> = Api::namespaced(stage.admin(), NAMESPACE);
    let next = zen_operator::identity::CA_NEXT;
    until("the new is in the place of the old", async || secrets.get_opt(next).await.unwrap().is_none()).await;
}

/// One that cannot go on here, because not every pod is where its slice says: it is made, and taken back (T-04).
pub async fn rotation(stage: &Stage) {
    let request = json!({
        "id": "r", "action": "start", "subject": {"kind": "issuingCa"},
        "plan": {"canaryPercent": 100, "probes": 1, "soakSeconds": 0, "patienceSeconds": 3, "intervalSeconds": 1},
    });
    rotated(stage, &request).await;
    let secrets: Api<Secret> = Api::namespaced(stage.admin(), NAMESPACE);
    let next = zen_operator::identity::ISSUER_NEXT;
    until("the new is gone", async || secrets.get_opt(next).await.unwrap().is_none()).await;
}

/// Asks for it, and waits for how it ended.
async fn rotated(stage: &Stage, request: &Value) -> String {
    let config_maps: Api<ConfigMap> = Api::namespaced(stage.admin(), NAMESPACE);
    let name = zen_rotation::record::CONFIG_MAP;
    until("rotations are kept", async || config_maps.get_opt(name).await.unwrap().is_some()).await;
    let patch = json!({"data": {zen_rotation::record::REQUEST: request.to_string()}});
    let patch = kube::api::Patch::Merge(&patch);
    config_maps.patch(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
    let record = async || {
        let object = config_maps.get(name).await.unwrap();
        let text = &object.data.unwrap()[zen_rotation::record::STATE];
        serde_json::from_str::<zen_rotation::record::State>(text).unwrap()
    };
    let id = request["id"].as_str().unwrap();
    until("it is over", async || {
        let record = record().await;
        record.answer.is_some_and(|answer| answer.id == id) && record.active.is_none() && !record.ended.is_empty()
    })
    .await;
    record().await.ended[0].reason.code().to_owned()
}

/// A volume of a replica that is gone is emptied by a pod, and marked.
async fn drain(stage: &Stage) {
    stage
        .apply(
            "
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: queue-zen-ingester-5
  namespace: zen-mesh
  labels: {app.kubernetes.io/name: zen-mesh, app.kubernetes.io/component: ingester}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
",
        )
        .await;
    let pods: Api<Pod> = Api::namespaced(stage.admin(), NAMESPACE);
    let is_there = async || pods.get_opt("zen-ingester-drain-5").await.unwrap().is_some();
    until("a pod empties it", is_there).await;
    let patch = ["patch", "pod", "zen-ingester-drain-5", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p"];
    stage.kubectl(&[&patch[..], &[r#"{"status":{"phase":"Succeeded"}}"#]].concat()).await;
    until("the pod goes", async || !is_there().await).await;
    let claim = stage.kubectl(&["get", "pvc", "queue-zen-ingester-5", "-n", NAMESPACE, "-o", "yaml"]).await;
    assert!(claim.contains("zen-mesh.io/drained"), "{claim}");
}

/// A notice that repeats is counted in its Event after ten minutes, which go by here at once.
fn repeated_event(stage: &Stage) {
    let config = stage.config("zen-operator");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = zen_live::cluster::client(config).unwrap();
                let writer = Writer::new(client, Leadership::unguarded(), "zen-operator-0", Metrics::default());
                let about = ObjectReference {
                    api_version: Some(zen_crds::API_VERSION.to_owned()),
                    kind: Some("Webhook".to_owned()),
                    namespace: Some("team-a".to_owned()),
                    name: Some("hook".to_owned()),
                    ..ObjectReference::default()
                };
                let notice = Notice { warning: true, reason: "RefNotFound", action: "Report", note: "gone" };
                writer.event(&about, &notice).await.unwrap();
                tokio::time::pause();
                tokio::time::advance(Duration::from_mins(11)).await;
                tokio::time::resume();
                writer.event(&about, &notice).await.unwrap();
            });
        });
    });
}

/// A hub has a Service for its members, and its ingester follows their enrollments (D-02).
async fn relay(stage: &Stage) {
    let to_member = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "Destination", "metadata": {"name": "far", "namespace": "team-a"},
        "spec": {"mode": "Relay", "cluster": "nowhere", "target": {"service": {"name": "far", "port": 80}},
            "signing": {"secrets": [{"secretRef": {"name": "of-the-member", "key": "k"}}]}},
    });
    stage.apply(&to_member.to_string()).await;
    let reason = async |wanted: &str| {
        let path = "jsonpath={.status.conditions[?(@.status=='False')].reason}";
        let found = stage.kubectl(&["get", "destination", "far", "-n", "team-a", "-o", path]).await;
        found.split_whitespace().next() == Some(wanted)
    };
    until("there is no such cluster", async || reason("ClusterNotFound").await).await;
    let mut to_member = to_member;
    to_member["spec"]["cluster"] = "prod-eu".into();
    stage.apply(&to_member.to_string()).await;
    // This mesh enrolls nobody: the enrollment is refused, and so nothing is accepted of its cluster.
    until("the ingester heard of it", async || reason("ClusterDisabled").await).await;
    stage.kubectl(&["delete", "destination", "far", "-n", "team-a"]).await;
    stage.change_workloads(|workloads| workloads["hub"] = json!({})).await;
    until("members have a Service", async || {
        stage.kubectl(&["get", "services", "-n", NAMESPACE, "-o", "name"]).await.contains("zen-ingester-relay")
    })
    .await;
}

/// Everything that the settings can switch off goes.
async fn switch_off(stage: &Stage) {
    stage
        .change_workloads(|workloads| {
            for part in ["podDisruptionBudgets", "networkPolicies", "api"] {
                workloads[part]["enabled"] = false.into();
            }
            workloads.as_object_mut().unwrap().remove("zenLock");
            workloads.as_object_mut().unwrap().remove("audit");
            workloads.as_object_mut().unwrap().remove("hub");
        })
        .await;
    let labelled = ["-l", "app.kubernetes.io/managed-by=zen-operator", "-o", "name"];
    until("what was switched off is gone", async || {
        let here = ["get", "poddisruptionbudgets,networkpolicies,services,deployments,statefulsets", "-n", NAMESPACE];
        let left = stage.kubectl(&[&here[..], &labelled].concat()).await;
        let registrations = "apiservices,mutatingwebhookconfigurations,validatingwebhookconfigurations";
        let registered = stage.kubectl(&[&["get", registrations][..], &labelled].concat()).await;
        let gone = ["budget", "networkpolic", "zen-ingester-api", "zen-ingester-relay", "zenlock-webhook", "zen-audit"];
        registered.is_empty() && !gone.iter().any(|gone| left.contains(gone))
    })
    .await;
}
