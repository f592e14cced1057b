//! `zen check`: exit codes, and one line a problem with its place (point 2 of the main path).

use crate::harness::{Folder, MANIFESTS, zen};

#[tokio::test]
async fn good_manifests_are_clean() {
    let folder = Folder::new();
    folder.write("objects.yaml", &MANIFESTS.replace("UPSTREAM", "127.0.0.1:9000"));
    let checked = zen(&["check", folder.text()]).await.expect(0);
    assert_eq!(checked.stdout, "no problems\n");
    assert_eq!(zen(&["check", folder.text(), "-o", "json"]).await.expect(0).json(), serde_json::json!([]));
}

#[tokio::test]
async fn the_quickstart_is_clean() {
    let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    assert_eq!(zen(&["check", quickstart]).await.expect(0).stdout, "no problems\n");
}

const WRONG: &str = "\
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: github, namespace: team-a}
spec:
  verification:
    provider: github
    secrets: [{secretRef: {name: github, key: secret}}]
  rotues: []
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: nobody, namespace: team-a}
spec:
  verification: {provider: githup, secrets: [{secretRef: {name: github, key: secret}}]}
  routes: [{destinations: [{name: nowhere}]}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec:
  target: {url: \"http://example.com/\"}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ordered, namespace: team-a}
spec:
  target: {url: \"https://example.com/\"}
  delivery: {ordering: {key: {pointer: /id}}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: secretless, namespace: team-a}
spec:
  verification: {provider: stripe, tolerance: 0777s, secrets: [{secretRef: {name: missing, key: secret}}]}
  routes: [{destinations: [{name: ordered}]}]
";

#[tokio::test]
async fn problems_are_lines_with_file_object_field_reason_and_hint() {
    let folder = Folder::new();
    folder.write("wrong.yaml", WRONG);
    let checked = zen(&["check", folder.text()]).await.expect(1);
    insta::assert_snapshot!(checked.stdout);
    let found = zen(&["check", folder.text(), "-o", "json"]).await.expect(1).json();
    let found = found.as_array().expect("a list");
    let reasons: Vec<_> = found.iter().map(|finding| finding["reason"].as_str().expect("text")).collect();
    for reason in ["UnknownField", "UnknownProvider", "Invalid", "NotSupported", "RefNotFound"] {
        assert!(reasons.contains(&reason), "{reason}: {reasons:?}");
    }
    assert!(found.iter().all(|finding| finding["file"] == "wrong.yaml" && finding["line"].as_u64() > Some(0)));
    assert!(found.iter().all(|finding| finding["hint"].as_str().is_some_and(|hint| !hint.is_empty())));
}

#[tokio::test]
async fn what_cannot_be_checked_is_exit_code_2() {
    let folder = Folder::new();
    for dir in [folder.text(), &format!("{}/missing", folder.text())] {
        let ran = zen(&["check", dir]).await.expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
    }
}
