//! Admission of pods (Z-02, Z-04).

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use zenlock_webhook::fetch::Arguments;

use crate::kube_objects::{init_containers, pod, restricted, zen_lock};
use crate::stage::Stage;

pub async fn admitted_as_the_annotations_ask(stage: &Stage) {
    let to = [stage.age.recipient()];
    for namespace in ["team-a", "strict"] {
        stage.apply(&zen_lock(namespace, "ci-token", &to, &[("token", "MARKER-one")], &["ci"])).await.unwrap();
        stage
            .apply(&zen_lock(
                namespace,
                "db",
                &to,
                &[("password", "MARKER-two"), ("user.name", "MARKER-three")],
                &["ci"],
            ))
            .await
            .unwrap();
    }
    // The API server takes every part of the patch, variables from files included.
    let annotations = [("inject", "ci-token,db"), ("env", "db"), ("refresh", "true"), ("mount-path", "/secrets")];
    let made = stage.create(&pod("shop", &annotations)).await.unwrap();
    assert_eq!(init_containers(&made), ["zen-mesh-unseal", "zen-mesh-refresh"]);
    let spec = made.spec.as_ref().unwrap();
    let args = spec.init_containers.as_ref().unwrap()[0].args.as_ref().unwrap();
    let admitted = Arguments::of_args(args).unwrap();
    assert_eq!(admitted.locks, ["ci-token", "db"]);
    assert_eq!(admitted.roots().as_deref(), Some(stage.ca.certificate_pem()));
    let shop = &spec.containers[0];
    assert!(
        shop.volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.mount_path == "/secrets" && mount.read_only == Some(true))
    );
    let names: Vec<_> = shop
        .env
        .iter()
        .flatten()
        .map(|env| (&*env.name, env.value_from.as_ref().unwrap().file_key_ref.is_some()))
        .collect();
    assert_eq!(names, [("PASSWORD", true), ("USER_NAME", true)]);
    assert_eq!(stage.audit.last_of("admin"), ("Pod/team-a/shop".to_owned(), true, ""));

    // Pods of controllers have no name yet; Pod Security looks at our containers, too.
    let mut generated = restricted(pod("x", &[("inject", "ci-token"), ("refresh", "true")]));
    generated["metadata"].as_object_mut().unwrap().remove("name");
    generated["metadata"]["generateName"] = "shop-5d6f-".into();
    generated["spec"]["initContainers"] = json!([{"name": "migrate", "image": "shop:1", "securityContext": generated["spec"]["containers"][0]["securityContext"]}]);
    let made = stage.create(&generated).await.unwrap();
    assert_eq!(init_containers(&made), ["zen-mesh-unseal", "zen-mesh-refresh", "migrate"]);
    assert_eq!(stage.audit.last_of("admin").0, "Pod/strict/shop-5d6f-…");

    // A pod that is read, and made again, is taken as it is.
    let mut again = serde_json::to_value(&made).unwrap();
    again["metadata"] = json!({"name": "again", "namespace": "strict", "annotations": made.metadata.annotations});
    let spec = |pod: &Pod| serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    assert_eq!(spec(&stage.create(&again).await.unwrap()), spec(&made));

    // A dry-run answers the same and leaves nothing.
    let before = stage.dry_run(&pod("dry", &[("inject", "db")])).await.unwrap();
    assert_eq!(init_containers(&before), ["zen-mesh-unseal"]);
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "team-a");
    assert!(pods.get_opt("dry").await.unwrap().is_none());
}

pub async fn refused_in_words_that_kubectl_shows(stage: &Stage) {
    let file = stage.folder.path().join("pod.json");
    for (annotations, account, words) in [
        (
            vec![("inject", "missing")],
            "ci",
            "pod team-a/refused, ZenLock missing: it is not in the pod's namespace (ZenLockNotFound)",
        ),
        (
            vec![("inject", "db")],
            "web",
            "pod team-a/refused, ZenLock db: ServiceAccount web is not among its subjects (SubjectNotAllowed)",
        ),
        (vec![("inject", "db"), ("mount-path", "/etc/ssl")], "ci", "MountPathUnsafe"),
        (vec![("inject", "db"), ("containers", "web")], "ci", "ContainerNotFound"),
        (vec![("inject", "db"), ("refresh", "maybe")], "ci", "AnnotationInvalid"),
    ] {
        let mut refused = pod("refused", &annotations);
        refused["spec"]["serviceAccountName"] = account.into();
        std::fs::write(&file, refused.to_string()).unwrap();
        let said =
            stage.control_plane.kubectl(&["create", "-f", file.to_str().unwrap()]).await.unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("denied the request"), "{said}");
        assert!(!said.contains("MARKER") && !said.contains("BEGIN AGE"), "{said}");
        assert!(!stage.audit.last_of("admin").1);
    }
}

/// A pod that asks for nothing is not sent: nothing is recorded of it, and nothing is added.
pub async fn only_annotated_pods_are_sent(stage: &Stage) {
    let before = stage.audit.count();
    let mut plain = pod("plain", &[]);
    plain["metadata"]["annotations"] = json!({"example.com/other": "x"});
    let made = stage.create(&plain).await.unwrap();
    assert!(init_containers(&made).is_empty() && stage.audit.count() == before);
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "team-a");
    assert_eq!(pods.list(&ListParams::default().fields("metadata.name=plain")).await.unwrap().items.len(), 1);
}
