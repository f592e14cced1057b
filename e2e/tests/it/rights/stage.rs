//! A control plane with the chart's roles, the operator as its ServiceAccount, and one pod of each plane as theirs. Only the
//! kubelet's and the controllers' parts are stood in for.

mod kubelet;
mod operator;
mod pods;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zen_audit_store::anchor::ConfigMapAnchor;
use zen_charts::Helm;
use zen_e2e::{ControlPlane, audit};
use zen_identity::Client;
use zen_identity::client::{Options, Remote, StaticResolver};
use zen_identity::endpoint::Endpoint;
use zen_operator::run::{Arguments, Listeners, run};
use zen_pki::TrustRoots;
use zen_pod::Platform;
use zen_runtime::Shutdown;
use zen_testkit::Reserved;
use zenlock_webhook::fetch;

use crate::api_server::install;
use crate::pods::stage::{ANY, own_address, until};

pub const NAMESPACE: &str = "zen-mesh";
/// Where the API server looks for the aggregated API.
const API: &str = "zen-ingester-api.zen-mesh.svc";
/// Those that the chart gives rights.
pub const ACCOUNTS: [&str; 5] = ["zen-operator", "zen-ingester", "zen-egress", "zenlock-webhook", "zen-audit"];
/// With everything on that needs a right of its own.
const VALUES: &[&str] = &["--set", "intake.tlsSecret=intake-tls,zenLock.secretDelivery=true"];
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Stage {
    control_plane: ControlPlane,
    admin: kube::Client,
    rendered: Vec<Value>,
    /// By account: with the API server's own audience.
    configs: HashMap<&'static str, kube::Config>,
    folder: TempDir,
    /// The CA's root and the age identities are in folders.
    keys_in_files: bool,
    /// By account: how its pod comes to its certificates.
    identities: HashMap<String, Client>,
    identity: Reserved,
    /// Where members ask the operator.
    pub hub: Reserved,
    /// Where ZenLocks are opened.
    unseal: Reserved,
    /// Where the operator looks for the ingester's control API.
    control: Reserved,
    /// Where that is, if somebody stands between.
    behind: Option<Reserved>,
    operator_admin: Option<SocketAddr>,
    /// Where writers look for the audit store.
    audit: Reserved,
    bundle: String,
    shutdown: Shutdown,
    operator: Option<JoinHandle<Result<(), zen_operator::run::Error>>>,
    ingester: Option<(zen_ingester::pod::Addresses, JoinHandle<()>)>,
    egress: Option<(zen_egress::pod::Addresses, JoinHandle<()>)>,
    zen_lock: Option<(zenlock_webhook::serve::Addresses, JoinHandle<()>)>,
    store: Option<JoinHandle<()>>,
}

impl Stage {
    pub async fn start() -> Self {
        let stage = Self::of(VALUES).await;
        stage.apply(&tls_secret("intake-tls")).await;
        stage
    }

    /// With the chart's defaults.
    pub async fn plain() -> Self {
        Self::of(&[]).await
    }

    /// A mesh that enrolls clusters.
    pub async fn hub() -> Self {
        let hub = Reserved::loopback();
        let values = format!("hub.enabled=true,hub.url=https://{},hub.relay=127.0.0.1:9446", hub.address());
        Self { hub, ..Self::of(&["--set", &values]).await }
    }

    /// A cluster that joins a hub whose root has this fingerprint.
    pub async fn member(fingerprint: &str) -> Self {
        let pins = format!("member.rootFingerprints=[\"{fingerprint}\"]");
        Self::of(&["--set", "member.enabled=true", "--set-json", &pins]).await
    }

    /// The root of the CA and this age identity are in folders, as volumes of another store would bring them.
    pub async fn with_keys_in_files(age: &zen_lock::Identity) -> Self {
        let csi = |at: &str| format!("{at}.volume.csi.driver=secrets-store.csi.k8s.io");
        let values = [csi("certificates.ca"), csi("zenLock.custody")].join(",");
        let mut stage = Self::of(&["--set", &values]).await;
        stage.keys_in_files = true;
        let put = |path: &str, content: &[u8]| {
            let path = stage.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let root = zen_pki::Ca::new_root(&"zen-mesh.local".parse().unwrap(), zen_model::Timestamp::now()).unwrap();
        put("ca/tls.crt", root.certificate_pem().as_bytes());
        put("ca/tls.key", root.key_pem().expose());
        put("age/2026-01-01.txt", age.to_file(jiff::Timestamp::now()).expose());
        stage
    }

    /// Everything that was asked of the API server, and its answers, are kept ([`Stage::recorded`]).
    pub async fn with_records(values: &[&str]) -> Self {
        Self::on(ControlPlane::start_recorded().await.unwrap(), &[VALUES, values].concat()).await
    }

    async fn of(values: &[&str]) -> Self {
        Self::on(ControlPlane::start_observed().await.unwrap(), values).await
    }

    async fn on(control_plane: ControlPlane, values: &[&str]) -> Self {
        let admin = control_plane.client().await.unwrap();
        install(&admin).await;
        for namespace in [NAMESPACE, "team-a"] {
            control_plane.kubectl(&["create", "namespace", namespace]).await.unwrap();
        }
        let rendered = Helm::find().unwrap().render(values).unwrap().objects;
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Self {
            control_plane,
            admin,
            rendered,
            configs: HashMap::new(),
            identities: HashMap::new(),
            folder,
            keys_in_files: false,
            identity: Reserved::loopback(),
            hub: Reserved::loopback(),
            unseal: Reserved::at(own_address()),
            control: Reserved::at(own_address()),
            behind: None,
            operator_admin: None,
            audit: Reserved::loopback(),
            bundle: String::new(),
            shutdown: Shutdown::manual(),
            operator: None,
            ingester: None,
            egress: None,
            zen_lock: None,
            store: None,
        };
        let kinds = ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        for object in stage.rendered.iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)) {
            stage.apply(&object.to_string()).await;
        }
        for account in ACCOUNTS {
            let token = stage.token(account, None).await;
            stage.configs.insert(account, stage.control_plane.config_of(token).await.unwrap());
        }
        stage
    }

    /// With all rights.
    pub fn admin(&self) -> kube::Client {
        self.admin.clone()
    }

    pub fn config(&self, account: &str) -> kube::Config {
        self.configs[account].clone()
    }

    pub fn client(&self, account: &str) -> kube::Client {
        zen_live::cluster::client(self.config(account)).unwrap()
    }

    /// The chart's objects.
    pub fn rendered(&self) -> &[Value] {
        &self.rendered
    }

    /// What Kubernetes brings along: a role that the chart binds, and what everybody may do who has a token.
    pub async fn built_in_roles(&self) -> Vec<Value> {
        let name = "extension-apiserver-authentication-reader";
        let text = self.kubectl(&["get", "role", name, "-n", "kube-system", "-o", "json"]).await;
        let bindings = self.rendered.iter().filter(|object| object["kind"] == "RoleBinding").cloned();
        let everybody = self.kubectl(&["get", "clusterrole", "system:basic-user", "-o", "json"]).await;
        let subjects = ACCOUNTS.map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}));
        let bound = json!({
            "kind": "ClusterRoleBinding", "metadata": {"name": "system:basic-user"},
            "roleRef": {"kind": "ClusterRole", "name": "system:basic-user"}, "subjects": subjects,
        });
        let roles = [text, everybody].map(|text| serde_json::from_str(&text).unwrap());
        roles.into_iter().chain([bound]).chain(bindings).collect()
    }

    pub fn audit(&self) -> Vec<audit::Entry> {
        self.control_plane.audit().unwrap()
    }

    /// The API server's audit log as it was written.
    pub fn recorded(&self) -> Vec<u8> {
        self.control_plane.recorded().unwrap()
    }

    /// From now on the ingester's control API is at the second address, and the operator looks for it at the first.
    pub fn between_operator_and_ingester(&mut self) -> (SocketAddr, SocketAddr) {
        (self.control.address(), self.behind.insert(Reserved::at(own_address())).address())
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.control_plane.kubectl(arguments).await.unwrap()
    }

    pub async fn apply(&self, manifest: &str) {
        self.try_apply(manifest, &[]).await.unwrap();
    }

    /// What kubectl says where it is refused. Nothing is kept.
    pub async fn dry_run(&self, manifest: &str) -> Result<(), String> {
        self.try_apply(manifest, &["--dry-run=server"]).await
    }

    async fn try_apply(&self, manifest: &str, more: &[&str]) -> Result<(), String> {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        let apply = [&["apply", "--server-side", "-f", file.to_str().unwrap()][..], more].concat();
        self.control_plane.kubectl(&apply).await.map(drop).map_err(|error| format!("{error:#}"))
    }

    pub async fn until_condition(&self, kind: &str, name: &str, condition: &str) {
        let condition = format!("--for=condition={condition}");
        self.kubectl(&["wait", "-n", "team-a", kind, name, &condition, "--timeout=60s"]).await;
    }

    /// The roots of the mesh.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What a plane's pod proves itself with.
    pub async fn proof_of(&self, account: &str) -> zen_pki::Identity {
        self.identities[account].obtain().await
    }

    /// Asks the aggregated API past the API server, with no certificate.
    pub async fn api_directly(&self) -> Result<(), String> {
        let url = format!("https://{API}:{}", self.ingester().api.expect("it is served").port());
        let endpoint = Endpoint::with_resolver(&url, self.resolver()).unwrap();
        let request = http::Request::get("/apis").header("host", API).body(http_body_util::Full::default()).unwrap();
        let tls = zen_pki::named_client(&TrustRoots::from_pem(&self.bundle).unwrap(), None).unwrap();
        endpoint.send(&tls, &request, PATIENCE, 1 << 20).await.map(drop).map_err(|error| error.to_string())
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.stop_pods().await;
        let operator = self.operator.take().expect("it runs");
        timeout(PATIENCE, operator).await.expect("ends in time").unwrap().unwrap();
    }

    /// Those of `needles` that stand anywhere in what etcd has written.
    pub fn found_in_etcd<'a>(&self, needles: &[&'a [u8]]) -> Vec<&'a [u8]> {
        self.control_plane.found_in_etcd(needles).unwrap()
    }

    /// Changes `workloads.yaml`, as a release with other values does.
    pub async fn change_workloads(&self, change: impl FnOnce(&mut Value)) {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.admin(), NAMESPACE);
        let mut workloads = config_maps.get("zen-mesh-workloads").await.unwrap();
        let text = workloads.data.as_mut().unwrap().get_mut("workloads.yaml").unwrap();
        let mut settings: Value = serde_saphyr::from_str(text).unwrap();
        change(&mut settings);
        *text = settings.to_string();
        config_maps.replace("zen-mesh-workloads", &PostParams::default(), &workloads).await.unwrap();
    }
}

fn tls_secret(name: &str) -> String {
    let issued = crate::pods::Issued::new();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"tls.crt": issued.chain, "tls.key": issued.key},
    })
    .to_string()
}
