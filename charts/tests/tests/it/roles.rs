//! The roles for people, asked of a real API server (point 9 of the promise; T-08, C-02).

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::server::installed;

/// What somebody tries, and from which role on it is allowed.
const TABLE: [(&str, &str, &str); 20] = [
    ("get", "webhooks.zen-mesh.io", "view"),
    ("watch", "destinations.zen-mesh.io", "view"),
    ("list", "zenlocks.zen-mesh.io", "view"),
    ("list", "clusterenrollments.zen-mesh.io", "view"),
    ("list", "deadletters.data.zen-mesh.io", "view"),
    ("get", "webhookevents.data.zen-mesh.io", "view"),
    ("list", "meshstatuses.data.zen-mesh.io", "view"),
    ("get", "replays.data.zen-mesh.io", "view"),
    // Whoever writes these can make the mesh use Secrets of the namespace: never a viewer.
    ("create", "webhooks.zen-mesh.io", "edit"),
    ("patch", "destinations.zen-mesh.io", "edit"),
    ("delete", "zenlocks.zen-mesh.io", "edit"),
    ("create", "replays.data.zen-mesh.io", "edit"),
    ("create", "replays.data.zen-mesh.io/cancel", "edit"),
    ("get", "deadletters.data.zen-mesh.io/payload", "admin"),
    ("get", "signingkeys.data.zen-mesh.io", "admin"),
    ("create", "clusterenrollments.zen-mesh.io", "admin"),
    // The status is the operator's.
    ("patch", "webhooks.zen-mesh.io/status", "nobody"),
    ("get", "secrets", "nobody"),
    ("update", "configmaps", "nobody"),
    ("create", "rolebindings.rbac.authorization.k8s.io", "nobody"),
];

const ROLES: [&str; 3] = ["view", "edit", "admin"];

#[tokio::test(flavor = "multi_thread")]
async fn what_each_role_may_do() {
    let server = installed().await;
    server.kubectl(&["create", "namespace", "tenant"]).await.expect("a namespace");
    for role in ROLES.iter().chain(&["owner"]) {
        let (cluster_role, user) = (format!("--clusterrole=zen-mesh-{role}"), format!("--user={role}"));
        let binding = ["-n", "tenant", "create", "rolebinding", role, &cluster_role, &user];
        server.kubectl(&binding).await.expect("a binding");
    }
    let reviews: Api<SubjectAccessReview> = Api::all(server.client().await.expect("a client"));
    for (verb, resource, least) in TABLE {
        let least = ROLES.iter().position(|role| *role == least).unwrap_or(usize::MAX);
        for (rank, role) in ROLES.into_iter().enumerate().chain([(2, "owner")]) {
            let allowed = may(&reviews, verb, resource, role, "tenant").await;
            assert_eq!(allowed, rank >= least, "{role}: {verb} {resource}");
            assert!(
                !may(&reviews, verb, resource, role, "default").await,
                "{role} in another namespace: {verb} {resource}"
            );
        }
    }
}

/// Asked as the ingester's aggregated API asks it.
async fn may(reviews: &Api<SubjectAccessReview>, verb: &str, resource: &str, user: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let review = json!({
        "metadata": {},
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        }},
    });
    let review = serde_json::from_value(review).expect("a review");
    let answer = reviews.create(&PostParams::default(), &review).await.expect("an answer");
    answer.status.expect("a status").allowed
}

/// `view`, `edit` and `admin` of Kubernetes take the shipped roles in by these labels, and no other.
#[test]
fn aggregation_is_by_label() {
    let rendering = zen_charts::Helm::find().expect("helm").render(&[]).expect("renders");
    for role in ["view", "edit", "admin", "owner"] {
        let labels = rendering.object(&format!("ClusterRole/zen-mesh-{role}"))["metadata"]["labels"].clone();
        let found: Vec<_> = labels
            .as_object()
            .expect("labels")
            .keys()
            .filter(|label| label.contains("aggregate-to"))
            .cloned()
            .collect();
        let expected =
            if role == "owner" { vec![] } else { vec![format!("rbac.authorization.k8s.io/aggregate-to-{role}")] };
        assert_eq!(found, expected);
    }
}
