use serde_json::json;

use super::*;

#[test]
fn smoke() {
    let object = json!({"apiVersion": "zen-mesh.io/v1alpha1", "kind": "Destination", "metadata": {"name": "ci"},
        "spec": {"target": {"url": "https://x.example"}, "delivry": 1}});
    let problems = validate("Destination", &object);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].unknown);
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean delivery?"));
}
