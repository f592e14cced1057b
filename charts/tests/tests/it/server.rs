//! What a real API server says to the chart: `kubectl apply -k` without drift, every variant valid, pods that Pod Security admits, CRDs
//! that upgrade and stay.

use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use zen_charts::{Helm, root};
use zen_e2e::ControlPlane;

/// One API server for all tests of this program, with the mesh applied as `deploy/kustomize` has it.
pub async fn installed() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let server = ControlPlane::start().await.expect("a control plane");
            server.kubectl(&["apply", "-k", &folder("deploy/kustomize")]).await.expect("applies");
            let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
            server.kubectl(&established).await.expect("established");
            server
        })
        .await
}

/// A folder of the repository.
pub fn folder(path: &str) -> String {
    root().join(path).canonicalize().expect("it is there").to_string_lossy().into_owned()
}

/// A file with this text, as long as it is held.
pub fn write(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("writes");
    file
}

pub fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// K-05: the API server keeps what it was given, so that whoever compares sees no difference.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_drifts_after_apply() {
    let server = installed().await;
    server.kubectl(&["diff", "-k", &folder("deploy/kustomize")]).await.expect("no difference");
}

/// Strictly: an unknown field or a warning is a failure.
#[tokio::test(flavor = "multi_thread")]
async fn every_variant_is_valid() {
    let server = installed().await;
    let helm = Helm::find().expect("helm");
    let dev = folder("charts/zen-mesh/values-dev.yaml");
    let csi = r#"certificates.ca.volume={"csi":{"driver":"secrets-store.csi.k8s.io","readOnly":true,"volumeAttributes":{"secretProviderClass":"ca"}}}"#;
    let pod = r#"operator.pod={"nodeSelector":{"a":"b"},"tolerations":[{"key":"k","operator":"Exists","effect":"NoSchedule"}],"affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"a":"b"}}}}]}},"annotations":{"a":"b"},"labels":{"c":"d"},"priorityClassName":"high"}"#;
    let ingress = r#"intake.exposure={"type":"ingress","hosts":["a.example.com","*.b.example.com"],"ingress":{"className":"nginx","annotations":{"a":"b"},"tlsSecret":"t"}}"#;
    for arguments in [
        vec![],
        vec!["--values", &dev],
        vec!["--set", "certificates.ca.secretName=ca,intake.tlsSecret=t,api.enabled=false,image.pullSecrets={a}"],
        vec!["--set-json", csi],
        vec!["--set-json", pod],
        vec!["--set-json", ingress],
    ] {
        let file = write(&helm.template(&arguments).expect("renders"));
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--warnings-as-errors",
        ];
        server
            .kubectl(&[&apply[..], &["-f", path(&file)]].concat())
            .await
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}

/// `HTTPRoute` and `BackendTLSPolicy` fit the schemas of Gateway API 1.4.0, standard channel (without its descriptions; Apache-2.0,
/// kubernetes-sigs/gateway-api). No gateway runs here.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_route_fits_its_schema() {
    let server = installed().await;
    let schemas = write(include_str!("gateway-api.json"));
    server.kubectl(&["apply", "--server-side", "-f", path(&schemas)]).await.expect("applies");
    server
        .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])
        .await
        .expect("established");
    let values = r#"intake.exposure={"type":"gateway","hosts":["a.example.com","*.b.example.com"],"gateway":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public","namespace":"gateways","sectionName":"https","port":443}],"annotations":{"a":"b"}}}"#;
    let text =
        Helm::find().expect("helm").template(&["--set-json", values, "--show-only", "templates/intake/gateway.yaml"]);
    let text = text.expect("renders");
    let apply = async |text: &str| {
        let file = write(text);
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--warnings-as-errors",
            "-f",
            path(&file),
        ];
        server.kubectl(&apply).await
    };
    apply(&text).await.expect("fits");
    for (from, to) in [("backendRefs:", "backends:"), ("hostname: zen", "hostname: _zen"), ("PathPrefix", "Prefix")] {
        assert!(text.contains(from));
        apply(&text.replace(from, to)).await.expect_err(to);
    }
}

/// The namespace enforces the level `restricted`: each pod is admitted, and one without our security context is not.
#[tokio::test(flavor = "multi_thread")]
async fn pod_security_admits_every_pod() {
    let server = installed().await;
    let helm = Helm::find().expect("helm");
    let rendering = helm.render(&["--set", "certificates.ca.secretName=ca"]).expect("renders");
    for (id, template) in rendering.pods() {
        let mut pod = template.clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = "probe".into();
        pod["metadata"]["namespace"] = "zen-mesh".into();
        admits(server, &pod).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        for pointer in ["/spec/securityContext", "/spec/containers/0/securityContext"] {
            let mut without = pod.clone();
            *without.pointer_mut(pointer).expect("it is there") = json!({});
            let refused = admits(server, &without).await.expect_err("refused");
            assert!(refused.contains("violates PodSecurity \"restricted"), "{id} without {pointer}: {refused}");
        }
    }
}

async fn admits(server: &ControlPlane, pod: &Value) -> Result<(), String> {
    let file = write(&pod.to_string());
    let create = ["create", "--dry-run=server", "--warnings-as-errors", "-f", path(&file)];
    server.kubectl(&create).await.map(drop).map_err(|error| error.to_string())
}

/// K-05, K-09: an upgrade of the chart upgrades the CRDs, an uninstall keeps them with their objects, and a later install takes them up.
#[tokio::test(flavor = "multi_thread")]
async fn crds_upgrade_and_stay() {
    let server = ControlPlane::start().await.expect("a control plane");
    let helm = Helm::find().expect("helm");
    let next = tempfile::tempdir().expect("a folder");
    copy(&root().join("charts/zen-mesh"), next.path());
    let crd = next.path().join("files/crds/webhooks.yaml");
    let text = std::fs::read_to_string(&crd).expect("text");
    std::fs::write(&crd, text.replacen("shortNames:\n    - wh\n", "shortNames:\n    - wh\n    - whk\n", 1))
        .expect("writes");
    let next = next.path().to_str().expect("UTF-8");

    // No controller runs here: neither pods nor hooks would ever be done.
    let kubeconfig = server.kubeconfig();
    let helm = |verb: &[&str]| {
        let flags = ["--no-hooks", "--namespace", "zen-mesh", "--kubeconfig", kubeconfig.to_str().expect("UTF-8")];
        helm.run(&[verb, &flags].concat()).unwrap_or_else(|error| panic!("{error}"))
    };
    let short_names = async || {
        server.kubectl(&["get", "crd", "webhooks.zen-mesh.io", "-o", "jsonpath={.spec.names.shortNames}"]).await
    };
    helm(&["install", "zen-mesh", "CHART", "--create-namespace"]);
    assert_eq!(short_names().await.expect("a CRD"), r#"["wh"]"#);
    helm(&["upgrade", "zen-mesh", next]);
    assert_eq!(short_names().await.expect("a CRD"), r#"["wh","whk"]"#);
    server
        .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])
        .await
        .expect("established");
    let webhook = write(
        "{apiVersion: zen-mesh.io/v1alpha1, kind: Webhook, metadata: {name: w, namespace: default}, spec: {verification: {provider: none}}}",
    );
    server.kubectl(&["apply", "-f", path(&webhook)]).await.expect("a Webhook");
    helm(&["uninstall", "zen-mesh"]);
    let left = server.kubectl(&["get", "webhooks", "-A", "-o", "name"]).await.expect("the CRD is there");
    assert_eq!(left.trim(), "webhook.zen-mesh.io/w");
    assert!(server.kubectl(&["-n", "zen-mesh", "get", "deployment", "zen-operator"]).await.is_err());
    helm(&["install", "zen-mesh", "CHART"]);
    assert_eq!(short_names().await.expect("a CRD"), r#"["wh"]"#);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}
