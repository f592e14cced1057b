//! A member joins a hub: two real API servers, and on each the operator's whole process with the chart's roles (T-01, T-02, T-06).

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Value, json};
use zen_crds::ClusterEnrollment;
use zen_enroll::Bundle;
use zen_enroll::bundle::fingerprint;

use crate::pods::stage::until;
use crate::rights::stage::{NAMESPACE, Stage};

const NAME: &str = "prod-eu";

async fn status(enrollments: &Api<ClusterEnrollment>) -> Value {
    serde_json::to_value(enrollments.get(NAME).await.unwrap().status).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_its_hub_and_its_egress_has_a_members_identity() {
    let mut hub = Stage::hub().await;
    hub.start_operator().await;
    let mut member = Stage::member(&fingerprint(hub.bundle()).unwrap()).await;
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
    assert_eq!(member.bundle(), hub.bundle(), "the hub's roots, and no other");
    let identity = member.identity_of("zen-egress").await;
    assert_eq!(
        identity.id().as_str(),
        "spiffe://zen-mesh.local/tenant/team-a/cluster/prod-eu/ns/zen-mesh/sa/zen-egress"
    );
    let secrets: Api<Secret> = Api::namespaced(member.admin(), NAMESPACE);
    for (name, is_there) in [
        ("zen-mesh-egress-keys", true),
        ("zen-mesh-issuer-pending", false),
        ("zen-mesh-ca", false),
        ("zen-mesh-root", false),
        ("zen-mesh-ingester-keys", false),
    ] {
        assert_eq!(secrets.get_opt(name).await.unwrap().is_some(), is_there, "{name}");
    }
    until("the member asks its hub by itself", async || status(&enrollments).await["connected"] == true).await;
    until("an egress and no ingester", async || {
        member.kubectl(&["get", "deployments", "-n", NAMESPACE, "-o", "name"]).await.contains("zen-egress")
    })
    .await;
    let sets = member.kubectl(&["get", "statefulsets", "-n", NAMESPACE, "-o", "name"]).await;
    assert!(!sets.contains("zen-ingester"), "{sets}");
}
