//! What the operator is built of, and what its role grants (T-08).

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use zen_charts::Helm;
use zen_e2e::rights::granted;

use crate::rights::stage::NAMESPACE;

/// Queues of events, the frames that carry them, and who has both.
const OF_THE_DATA_PLANE: [&str; 4] = ["zen-queue", "zen-link", "zen-ingester", "zen-egress"];

/// Everything that this package is linked with, without what only its tests need.
fn linked(package: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = command.args(arguments).args(["--manifest-path", manifest, "--package", package]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// It could not open a queue or read a frame if it were told to: the code is not in its program.
#[test]
fn the_operator_is_built_without_what_holds_events() {
    let operator = linked("zen-operator");
    assert!(operator.contains("zen-pod") && operator.contains("kube"), "{operator:?}");
    for package in OF_THE_DATA_PLANE {
        assert!(!operator.contains(package), "the operator is built with {package}");
    }
    let ingester = linked("zen-ingester");
    assert!(["zen-queue", "zen-link"].iter().all(|package| ingester.contains(*package)), "{ingester:?}");
}

/// No rule of its role leads to the data plane's API, or into a pod.
#[test]
fn the_operators_role_leads_to_no_event() {
    for values in [&[][..], &["--set", "hub.enabled=true,hub.url=https://h:1,hub.relay=h:2"]] {
        let objects: Vec<Value> = Helm::find().unwrap().render(values).unwrap().objects;
        let rights = granted(&objects, NAMESPACE, "zen-operator");
        assert!(rights.iter().any(|right| right.resource == "webhooks" && right.verb == "list"), "{rights:?}");
        for right in &rights {
            assert!(!["data.zen-mesh.io", "*"].contains(&&*right.group), "{right}");
            let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
            assert!(resource != "*" && right.verb != "*" && right.verb != "impersonate", "{right}");
            assert!(
                !["exec", "attach", "portforward", "proxy", "log", "ephemeralcontainers"].contains(&subresource),
                "{right}"
            );
        }
    }
}
