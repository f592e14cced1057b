//! Whoever compares Git with the cluster sees no drift: a rendering depends on the values and on nothing else (K-05).

use zen_charts::{Helm, Rendering, root};

#[test]
fn two_renderings_are_equal_byte_for_byte() {
    let helm = Helm::find().expect("helm");
    let first = helm.template(&[]).expect("renders");
    for _ in 0..3 {
        assert!(helm.template(&[]).expect("renders") == first);
    }
}

/// The order in which values are given, and in which a map has its keys, changes nothing.
#[test]
fn order_of_values_changes_nothing() {
    let helm = Helm::find().expect("helm");
    let values = ["image.tag=1.2.3", "ingester.replicas=3", "mesh.drainDelay=9s"];
    let maps = [r#"operator.pod.labels={"b":"1","a":"2"}"#, r#"operator.pod.labels={"a":"2","b":"1"}"#];
    let forward = ["--set", &values.join(","), "--set-json", maps[0]].map(str::to_owned);
    let backward = ["--set-json", maps[1], "--set", &[values[2], values[1], values[0]].join(",")].map(str::to_owned);
    let render = |arguments: &[String; 4]| helm.template(&arguments.each_ref().map(String::as_str)).expect("renders");
    assert!(render(&forward) == render(&backward));
}

/// Nothing random, nothing asked of the cluster, no clock.
#[test]
fn templates_use_nothing_that_changes_by_itself() {
    let mut stack = vec![root().join("charts/zen-mesh/templates")];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        for word in [
            "rand",
            "uuid",
            "genCA",
            "genSigned",
            "genSelf",
            "genPrivate",
            "lookup",
            "now ",
            "htpasswd",
            "Capabilities",
            "Release.Revision",
            "Release.IsUpgrade",
            "Release.IsInstall",
        ] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

/// No object twice, each namespaced one with its namespace in it: `kubectl apply -f` needs no flag.
#[test]
fn objects_are_complete() {
    let helm = Helm::find().expect("helm");
    let Rendering { objects } = helm.render(&[]).expect("renders");
    let cluster = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];
    let mut seen = Vec::new();
    for object in &objects {
        let (kind, name) =
            (object["kind"].as_str().expect("a kind"), object["metadata"]["name"].as_str().expect("a name"));
        let namespace = object["metadata"]["namespace"].as_str();
        assert_eq!(namespace.is_none(), cluster.contains(&kind), "{kind} {name}");
        assert!(matches!(namespace, None | Some("zen-mesh" | "kube-system")), "{kind} {name}");
        assert_ne!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], serde_json::Value::Null, "{kind} {name}");
        assert!(!seen.contains(&(kind, name)), "{kind} {name} twice");
        seen.push((kind, name));
    }
}

/// Chart, CRDs and programs are of one release.
#[test]
fn versions_agree() {
    let text = std::fs::read_to_string(root().join("charts/zen-mesh/Chart.yaml")).expect("Chart.yaml");
    let chart: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(
        (chart["version"].as_str(), chart["appVersion"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some(env!("CARGO_PKG_VERSION")))
    );
}
