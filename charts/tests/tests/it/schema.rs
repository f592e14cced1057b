//! The schema of the values: what is unknown or of another type is refused, at every level.

use serde_json::{Map, Value, json};
use zen_charts::Helm;

use crate::coverage::{defaults, leaves};

/// Maps whose keys users choose.
const FREE: [&str; 12] = [
    "affinity",
    "annotations",
    "buckets",
    "claims",
    "labels",
    "limits",
    "nodeSelector",
    "requests",
    "volume",
    "podSelector",
    "namespaceSelector",
    "ipBlock",
];

fn refusal(values: &Value) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), values.to_string()).expect("writes");
    let helm = Helm::find().expect("helm");
    helm.render(&["--values", &file.path().to_string_lossy()]).expect_err("refused").to_string()
}

fn maps(value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(fields) = value else { return };
    found.push(at.to_owned());
    for (name, value) in fields.iter().filter(|(name, _)| !FREE.contains(&name.as_str())) {
        maps(value, &format!("{at}/{name}"), found);
    }
}

#[test]
fn unknown_values_are_refused_everywhere() {
    let mut found = Vec::new();
    maps(&defaults(), "", &mut found);
    assert!(found.len() > 25, "{found:?}");
    let mut values = json!({});
    for at in &found {
        let mut node = &mut values;
        for part in at.split('/').skip(1) {
            node = &mut node[part];
        }
        node["misspelt"] = json!(1);
    }
    let message = refusal(&values);
    for at in found {
        let line = format!("at '{at}': additional properties 'misspelt' not allowed");
        assert!(message.contains(&line), "{line} is not in {message}");
    }
}

#[test]
fn values_of_another_type_are_refused_everywhere() {
    let paths: Vec<_> = leaves(&defaults()).into_iter().collect();
    let mut values = Value::Object(Map::new());
    for (path, value) in &paths {
        let mut node = &mut values;
        for part in path.split('.') {
            node = &mut node[part];
        }
        *node = if value.is_array() || value.is_object() { json!("text") } else { json!(["list"]) };
    }
    let message = refusal(&values);
    for (path, _) in paths {
        let at = format!("at '/{}'", path.replace('.', "/"));
        assert!(message.contains(&at), "{at} is not in {message}");
    }
}

/// Bounds and forms, with the words that users see.
#[test]
fn values_out_of_bounds_are_refused() {
    for (set, at) in [
        ("ingester.replicas=0", "at '/ingester/replicas': minimum: got 0, want 1"),
        ("egress.replicas=1.5", "at '/egress/replicas': got number, want integer"),
        (r#"profile="staging""#, "at '/profile': value must be one of 'production', 'dev'"),
        (r#"image.registry="r.example.com/""#, "at '/image/registry'"),
        (r#"image.digests.egress="sha256:ab""#, "at '/image/digests/egress'"),
        (r#"mesh.drainDelay="5""#, "at '/mesh/drainDelay'"),
        (r#"mesh.certificates.lifetime="1 hour""#, "at '/mesh/certificates/lifetime'"),
        (r#"mesh.grants=[{"hosts":[]}]"#, "at '/mesh/grants/0': missing property 'namespace'"),
        (r#"mesh.grants=[{"namespace":"a","cidr":[]}]"#, "at '/mesh/grants/0': additional properties 'cidr'"),
        (r#"mesh.grants=[{"namespace":"a","quota":{"bytes":"many"}}]"#, "at '/mesh/grants/0/quota/bytes'"),
        (r#"ingester.storage.size="big""#, "at '/ingester/storage/size'"),
        (r#"ingester.storage.size="1Ti""#, "at '/ingester/storage/size'"),
        ("ingester.service.port=70000", "at '/ingester/service/port': maximum"),
        (r#"intake.exposure.hosts=["Hooks_example"]"#, "at '/intake/exposure/hosts/0'"),
        (r#"networkPolicies.intakeFrom=[{"ips":[]}]"#, "at '/networkPolicies/intakeFrom/0'"),
        ("networkPolicies.apiServerPorts=[]", "at '/networkPolicies/apiServerPorts'"),
        ("networkPolicies.apiServerPorts=[70000]", "at '/networkPolicies/apiServerPorts/0'"),
        (r#"operator.pod.labels={"a":1}"#, "at '/operator/pod/labels/a'"),
    ] {
        let message = Helm::find().expect("helm").render(&["--set-json", set]).expect_err("refused").to_string();
        assert!(message.contains(at), "{set}: {message}");
    }
}

/// What the schema takes for mesh.yaml, the data plane's own reader takes too, and the defaults are its defaults.
#[test]
fn the_mesh_settings_are_those_of_the_reader() {
    let helm = Helm::find().expect("helm");
    let default = helm.render(&[]).expect("renders").mesh().expect("mesh.yaml");
    assert_eq!(zen_compile::mesh::Config::from_json(&default).expect("valid"), zen_compile::mesh::Config::default());
    let all = helm.render(&[
        "--set-json",
        r#"mesh={"trustDomain":"prod.example.com","drainDelay":"0s","certificates":{"issuer":"built-in","lifetime":"5m"},"buckets":{"b":{"requests":1,"per":"1s","burst":2}},"grants":[{"namespace":"team-a","hosts":["*.a.example.com","b"],"cidrs":["10.0.0.0/8","fd00::/8","10.0.0.1"],"quota":{"bytes":"999Gi"}}]}"#,
    ]);
    let all = all.expect("renders").mesh().expect("mesh.yaml");
    zen_compile::mesh::Config::from_json(&all).expect("valid");
}
