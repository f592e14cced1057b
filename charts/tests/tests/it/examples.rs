//! Every example as it stands: `zen check` has nothing to say, and a real API server takes every object.

use std::path::PathBuf;

use serde_json::{Value, json};
use zen_charts::{Helm, documents, root};
use zen_lock::{Identity, Keyring};

use crate::server::{folder, installed};

/// Folders that belong into a cluster, applied file by file.
const CLUSTER: [&str; 6] =
    ["kubernetes/first-webhook", "providers", "cross-namespace", "tls-intake", "relay/hub", "relay/member"];
/// Folders for `zen up` alone.
const STANDALONE: [&str; 4] = ["quickstart", "first-webhook", "retries-and-dead-letters", "zenlock"];
/// Applied as one.
const GITOPS: &str = "gitops";

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}

/// No folder without a test.
#[test]
fn every_example_is_known() {
    let mut found: Vec<_> = std::fs::read_dir(root().join("examples"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("text"))
        .collect();
    found.sort();
    let mut known: Vec<_> =
        CLUSTER.iter().chain(&STANDALONE).chain(&[GITOPS]).map(|name| name.split('/').next().unwrap_or(name)).collect();
    known.sort_unstable();
    known.dedup();
    assert_eq!(found, known);
    for name in CLUSTER.iter().chain(&[GITOPS]) {
        // One of two clusters is explained with the other.
        let folder = name.strip_suffix("/hub").or(name.strip_suffix("/member")).unwrap_or(name);
        assert!(example(folder).join("README.md").is_file(), "{name} has no README");
    }
}

#[test]
fn the_check_has_nothing_to_say() {
    for name in CLUSTER.iter().chain(&STANDALONE).chain(&[GITOPS]) {
        // A cluster knows the addresses of its Services; a folder has none.
        let services = ["team-a/ci", "team-b/deploy", "security/audit", "shop/inbox"];
        let overrides =
            services.map(|service| zen_live::service_override(&format!("{service}=127.0.0.1:8080")).expect("valid"));
        // One of them has a private key, for everybody.
        let identity = std::fs::read_to_string(example(name).join("demo-identity.txt")).unwrap_or_default();
        let keyring = Keyring::new(Identity::parse_file(&identity).unwrap_or_default());
        let overrides = overrides.into_iter().collect();
        let findings = zen_live::check_with(&example(name), &overrides, keyring).expect("it can be read");
        let told: Vec<_> = findings.iter().map(|it| (it.object.as_str(), it.reason.code(), it.warning)).collect();
        // The one without verification is there to show it, and the check says what it means.
        // The enrollment is at the hub.
        let expected = match *name {
            "providers" => vec![("Webhook shop/intranet", "NoEffect", true)],
            "relay/member" => vec![("Destination team-a/orders", "ClusterNotFound", true)],
            _ => vec![],
        };
        assert_eq!(told, expected, "{name}: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_each() {
    let server = installed().await;
    let apply = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--validate=strict",
        "--warnings-as-errors",
    ];
    for name in CLUSTER {
        let mut files: Vec<_> =
            std::fs::read_dir(example(name)).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| {
            path.extension().is_some_and(|it| it == "yaml") && path.file_name() != Some("values.yaml".as_ref())
        });
        files.sort();
        let objects: Vec<Value> = files
            .iter()
            .flat_map(|path| documents(&std::fs::read_to_string(path).expect("text")).expect("YAML"))
            .collect();
        // In the order in which kubectl takes a folder, each namespace comes before what is in it.
        let mut there = vec!["zen-mesh"];
        for object in &objects {
            let own = object["metadata"]["name"].as_str().expect("a name");
            if object["kind"] == "Namespace" {
                there.push(own);
                // A dry run makes no namespace for what comes after it.
                let _ = server.kubectl(&["create", "namespace", own]).await;
            } else {
                let namespace = object["metadata"]["namespace"].as_str().expect("a namespace");
                assert!(there.contains(&namespace), "{name}: {own} comes before its namespace {namespace}");
            }
        }
        for file in &files {
            let file = file.to_str().expect("UTF-8");
            server
                .kubectl(&[&apply[..], &["-f", file]].concat())
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// The folder `gitops`: mesh, settings and teams as one, with the settings that `zen check` sees.
#[tokio::test(flavor = "multi_thread")]
async fn the_gitops_folder_is_one_state() {
    let server = installed().await;
    for namespace in ["team-a", "security"] {
        let _ = server.kubectl(&["create", "namespace", namespace]).await;
    }
    let path = folder("examples/gitops");
    let apply = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--validate=strict",
        "--warnings-as-errors",
        "-k",
        &path,
    ];
    server.kubectl(&apply).await.expect("taken");
    let text = server.kubectl(&["kustomize", &path]).await.expect("builds");
    let rendering = zen_charts::Rendering::parse(&text).expect("YAML");
    let written: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(example("gitops/mesh.yaml")).expect("text")).expect("YAML");
    assert_eq!(rendering.mesh().expect("mesh.yaml"), written);
    assert_eq!(rendering.object("ConfigMap/zen-mesh")["metadata"]["labels"]["app.kubernetes.io/name"], "zen-mesh");
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(
        rendering.object("Deployment/zen-operator").pointer(image),
        Some(&json!("localhost/zen-mesh/zen-operator:0.1.0"))
    );
    let workloads = rendering.workloads().expect("workloads.yaml");
    assert_eq!(workloads["ingester"]["storage"]["size"], "20Gi");
    let text = rendering.object("ConfigMap/zen-mesh-workloads")["data"]["workloads.yaml"].as_str().expect("text");
    zen_operator::settings::Workloads::parse(text).expect("the operator takes it");
    // A field that the chart has come to write would be missed here.
    let chart = Helm::find().expect("helm").render(&[]).expect("renders").workloads().expect("workloads.yaml");
    let fields = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    assert_eq!(fields(&workloads), fields(&chart));
}

/// The values of the TLS example name the Secret that it ships.
#[test]
fn the_tls_values_fit_their_secret() {
    let values = example("tls-intake/values.yaml");
    let rendering =
        Helm::find().expect("helm").render(&["--values", values.to_str().expect("UTF-8")]).expect("renders");
    let secret =
        &documents(&std::fs::read_to_string(example("tls-intake/certificate.yaml")).expect("text")).expect("YAML")[0];
    assert_eq!((&secret["type"], &secret["metadata"]["namespace"]), (&json!("kubernetes.io/tls"), &json!("zen-mesh")));
    assert_eq!(rendering.workloads().expect("workloads")["intake"]["tlsSecret"], secret["metadata"]["name"]);
    assert_eq!(rendering.workloads().expect("workloads")["ingester"]["service"]["type"], "LoadBalancer");
}
