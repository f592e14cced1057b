//! A member joins a hub: two real API servers, and on each the operator's whole process with the chart's roles (T-01, T-02, T-06).

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use zen_crds::ClusterEnrollment;
use zen_enroll::Bundle;
use zen_enroll::bundle::fingerprint;
use zen_rotation::record::{self, State};

use crate::pods::objects::WEBHOOK;
use crate::pods::stage::{ready, until};
use crate::rights;
use crate::rights::stage::{NAMESPACE, Stage};

const NAME: &str = "prod-eu";

async fn status(enrollments: &Api<ClusterEnrollment>) -> Value {
    serde_json::to_value(enrollments.get(NAME).await.unwrap().status).unwrap()
}

/// A hub that runs.
async fn hub() -> Stage {
    let mut hub = Stage::hub().await;
    hub.start_operator().await;
    hub
}

/// Runs the member's operator, and takes this cluster in.
async fn join(hub: &Stage, member: &mut Stage) {
    member.spawn_operator().await;
    // `kubectl zen enroll recipient` in the member, for the object at the hub.
    let maps: Api<ConfigMap> = Api::namespaced(member.admin(), NAMESPACE);
    until("the member's public key is published", async || maps.get_opt("zen-mesh-member").await.unwrap().is_some())
        .await;
    let recipient = maps.get("zen-mesh-member").await.unwrap().data.unwrap().remove("recipient").unwrap();
    let enrollment = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ClusterEnrollment",
        "metadata": {"name": NAME, "namespace": "team-a"}, "spec": {"recipient": recipient, "bundle": "1"},
    });
    hub.apply(&enrollment.to_string()).await;
    let enrollments: Api<ClusterEnrollment> = Api::namespaced(hub.admin(), "team-a");
    until("the bundle is made", async || status(&enrollments).await["bundle"]["data"].is_object()).await;
    // `kubectl zen enroll` at the hub, applied in the member.
    let data = status(&enrollments).await["bundle"]["data"].clone();
    let text = |key: &str| data[key].as_str().unwrap().to_owned();
    let bundle = Bundle::from_data(&text("clear"), &text("sealed")).unwrap();
    member.apply(&bundle.manifest(NAMESPACE)).await;
    until("it is enrolled", async || status(&enrollments).await["phase"] == "Enrolled").await;
    member.operator_has_made().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_its_hub_and_its_egress_has_a_members_identity() {
    let hub = hub().await;
    let mut member = Stage::member(&fingerprint(hub.bundle()).unwrap()).await;
    join(&hub, &mut member).await;
    let enrollments: Api<ClusterEnrollment> = Api::namespaced(hub.admin(), "team-a");
    assert_eq!(member.bundle(), hub.bundle(), "the hub's roots, and no other");
    let identity = member.identity_of("zen-egress").await;
    assert_eq!(
        identity.id().as_str(),
        "spiffe://zen-mesh.local/tenant/team-a/cluster/prod-eu/ns/zen-mesh/sa/zen-egress"
    );
    let secrets: Api<Secret> = Api::namespaced(member.admin(), NAMESPACE);
    let is_there = async |name: &str| secrets.get_opt(name).await.unwrap().is_some();
    until("its egress has keys", async || is_there("zen-mesh-egress-keys").await).await;
    // Once the CA is kept, which is in use from then on.
    until("the CA's request is put away", async || !is_there("zen-mesh-issuer-pending").await).await;
    for name in ["zen-mesh-ca", "zen-mesh-root", "zen-mesh-ingester-keys"] {
        assert!(!is_there(name).await, "{name}");
    }
    until("the member asks its hub by itself", async || status(&enrollments).await["connected"] == true).await;
    until("an egress and no ingester", async || {
        member.kubectl(&["get", "deployments", "-n", NAMESPACE, "-o", "name"]).await.contains("zen-egress")
    })
    .await;
    let sets = member.kubectl(&["get", "statefulsets", "-n", NAMESPACE, "-o", "name"]).await;
    assert!(!sets.contains("zen-ingester"), "{sets}");
}

/// Of a time when this cluster was no member: what a member has no use for goes.
const BEFORE: &str = "
apiVersion: v1
kind: Service
metadata: {name: zen-ingester-api, namespace: zen-mesh, labels: {app.kubernetes.io/managed-by: zen-operator}}
spec: {ports: [{port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: zen-ingester-relay, namespace: zen-mesh, labels: {app.kubernetes.io/managed-by: zen-operator}}
spec: {ports: [{port: 443}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: zen-ingester, namespace: zen-mesh, labels: {app.kubernetes.io/managed-by: zen-operator}}
spec: {maxUnavailable: 1, selector: {matchLabels: {a: b}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: zen-ingester, namespace: zen-mesh, labels: {app.kubernetes.io/managed-by: zen-operator}}
spec: {podSelector: {matchLabels: {a: b}}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha1.data.zen-mesh.io, labels: {app.kubernetes.io/managed-by: zen-operator}}
spec:
  {group: data.zen-mesh.io, version: v1alpha1, groupPriorityMinimum: 100, versionPriority: 100, service: {name: x, namespace: zen-mesh}, insecureSkipTLSVerify: true}
";

/// Besides a Webhook.
const TENANT: &str = "
apiVersion: v1
kind: Secret
metadata: {name: target, namespace: team-a}
stringData: {token: battery-staple}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec:
  target: {url: https://ci.example.com}
  mode: Relay
  cluster: prod-eu
  authentication: {bearer: {secretRef: {name: target, key: token}}}
";

/// K-06: as for a hub in `rights.rs`: what the chart lets a member's operator do is what it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_members_operator_uses_every_right_that_it_has() {
    let hub = hub().await;
    let mut member = Stage::member(&fingerprint(hub.bundle()).unwrap()).await;
    member.apply(BEFORE).await;
    join(&hub, &mut member).await;
    member.start_pods_of_member().await;
    until("the egress is ready", async || ready(member.egress_admin()).await.0 == 200).await;
    member.apply(&[WEBHOOK, TENANT].join("---")).await;
    let to = rights::zen_locks::published(&member).await;
    member.apply(&rights::zen_locks::zen_lock(&to).to_string()).await;
    member.until_condition("destination", "ci", "Accepted=True").await;
    until("the plane may read what it names", async || !rights::tenant_roles(&member).await.is_empty()).await;
    let of_tenant = rights::tenant_roles(&member).await;

    rights::ends(&mut member, &["zen-operator"], &of_tenant).await;
}

fn fingerprints(bundle: &str) -> Vec<String> {
    zen_pki::certificates(bundle).into_iter().map(|(root, _)| root).collect()
}

/// T-04: the hub's root is exchanged, and the member has its issuing CA beneath the new one before the old is distrusted.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_with_its_hubs_root_before_the_old_is_dropped() {
    let mut hub = hub().await;
    let mut member = Stage::member(&fingerprint(hub.bundle()).unwrap()).await;
    join(&hub, &mut member).await;
    let enrollments: Api<ClusterEnrollment> = Api::namespaced(hub.admin(), "team-a");
    let old = fingerprints(hub.bundle()).remove(0);
    assert_eq!(status(&enrollments).await["certificateRoot"], old.as_str());
    until("the member asks its hub by itself", async || status(&enrollments).await["connected"] == true).await;
    let maps: Api<ConfigMap> = Api::namespaced(hub.admin(), NAMESPACE);
    until("rotations are kept", async || maps.get_opt(record::CONFIG_MAP).await.unwrap().is_some()).await;
    let request = json!({
        "id": "root", "action": "start", "subject": {"kind": "root"},
        "plan": {"canaryPercent": 100, "probes": 1, "soakSeconds": 0, "patienceSeconds": 240, "intervalSeconds": 1,
                 "overlapSeconds": 5, "settleSeconds": 5},
    });
    let patch = Patch::Merge(json!({"data": {record::REQUEST: request.to_string()}}));
    maps.patch(record::CONFIG_MAP, &PatchParams::default(), &patch).await.unwrap();
    let state = async || {
        let text = maps.get(record::CONFIG_MAP).await.unwrap().data.unwrap().remove(record::STATE).unwrap();
        serde_json::from_str::<State>(&text).unwrap()
    };
    let began = std::time::SystemTime::now();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(4);
    let mut moved = None;
    while state().await.ended.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", state().await);
        let root = status(&enrollments).await["certificateRoot"].as_str().unwrap().to_owned();
        if root != old && moved.is_none() {
            let phase = state().await.active.map(|active| active.rotation.phase.label());
            assert!(["rolling_out", "verifying", "overlap"].contains(&phase.unwrap()), "{phase:?}");
            eprintln!("the member moved after {:?}, in {}", began.elapsed().unwrap(), phase.unwrap());
            moved = Some(root);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ended = state().await.ended.remove(0);
    assert_eq!(ended.reason.row().code, "RotationFinished", "{ended:?}");
    assert_eq!(ended.new, moved, "before the hub dropped the old");
    eprintln!("exchanged in {:?}", began.elapsed().unwrap());
    hub.operator_has_made().await;
    let new = moved.unwrap();
    assert_eq!(fingerprints(hub.bundle()), std::slice::from_ref(&new));
    let trust: Api<ConfigMap> = Api::namespaced(member.admin(), NAMESPACE);
    let trusted = async || fingerprints(&trust.get("zen-mesh-trust").await.unwrap().data.unwrap()["ca.crt"]);
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while trusted().await != [new.clone()] {
        assert!(tokio::time::Instant::now() < deadline, "the member still trusts {:?}", trusted().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Its pods get certificates that verify under the new root alone.
    member.operator_has_made().await;
    let identity = member.identity_of("zen-egress").await;
    assert!(identity.id().as_str().contains("/cluster/prod-eu/"));
    assert_eq!(status(&enrollments).await["connected"], true);
}
