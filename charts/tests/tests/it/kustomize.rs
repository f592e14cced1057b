//! What is made from the chart is what is committed. `ZEN_BLESS=1` writes it, as `cargo xtask generate` does.

use zen_charts::{Helm, generated, root};

#[test]
fn generated_files_are_committed() {
    let mut stale = Vec::new();
    for (path, text) in generated(&Helm::find().expect("helm")).expect("generates") {
        let file = root().join(&path);
        if std::env::var_os("ZEN_BLESS").is_some() {
            std::fs::write(&file, &text).expect("writes");
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != text {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "run `cargo xtask generate`: {stale:?}");
}

/// Nothing but the CRDs lies where the chart takes them from, and the kustomization names each.
#[test]
fn the_chart_has_every_crd() {
    let folder = root().join("charts/zen-mesh/files/crds");
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    found.retain(|name| name != "kustomization.yaml");
    found.sort();
    let mut expected: Vec<_> = zen_crds::yaml().into_iter().map(|(name, _)| name.to_owned()).collect();
    expected.sort();
    assert_eq!(found, expected);
    let text = std::fs::read_to_string(folder.join("kustomization.yaml")).expect("a kustomization");
    let kustomization: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(kustomization["resources"], serde_json::json!(expected));
}

/// Helm gives the CRDs as they are generated, and the annotation that keeps them.
#[test]
fn crds_go_through_unchanged() {
    let rendering = Helm::find().expect("helm").render(&[]).expect("renders");
    for (name, text) in zen_crds::yaml() {
        let mut expected: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let object = rendering
            .object(&format!("CustomResourceDefinition/{}", expected["metadata"]["name"].as_str().expect("a name")));
        expected["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
        assert_eq!(object, &expected, "{name}");
    }
}
