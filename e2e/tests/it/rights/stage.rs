//! A control plane with the chart's roles, the operator as its ServiceAccount, and one pod of each plane as theirs. Only the
//! kubelet's and the controllers' parts are stood in for.

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

#[derive(Parser)]
struct ZenLock {
    #[command(flatten)]
    arguments: zenlock_webhook::serve::Arguments,
}

#[derive(Parser)]
struct Audit {
    #[command(flatten)]
    arguments: zen_audit_store::pod::Arguments,
}

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

    /// The mesh's issuing CA.
    pub async fn issuer(&self) -> zen_pki::Ca {
        let secrets: Api<Secret> = Api::namespaced(self.admin(), NAMESPACE);
        let read = async || secrets.get_opt("zen-mesh-issuer").await.unwrap();
        until("the operator has made it", async || read().await.is_some()).await;
        let secret = read().await.unwrap().data.unwrap();
        let text = |key: &str| String::from_utf8(secret[key].0.clone()).unwrap();
        let (domain, key) = ("zen-mesh.local".parse().unwrap(), zen_model::Secret::new(text("tls.key")));
        let now = zen_model::Timestamp::now();
        zen_pki::Ca::from_pem(&text("tls.crt"), &key, "zen-mesh-issuer", &domain, now).unwrap()
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

    /// The operator's whole process, on this one's threads; returns when pods could start.
    pub async fn start_operator(&mut self) {
        self.spawn_operator().await;
        self.operator_has_made().await;
    }

    /// As [`Stage::start_operator`], and does not wait.
    pub async fn spawn_operator(&mut self) {
        let (port, identity) = (self.control.port().to_string(), self.identity.address().to_string());
        let hub = self.hub.address().to_string();
        let arguments =
            ["zen-operator", "--pod-name", "zen-operator-0", "--control-port", &port, "--admin", ANY, "--hub", &hub];
        let (audit, store) = (self.folder.path().join("operator/audit"), self.audit.address().to_string());
        let ca = self.folder.path().join("ca");
        let mut more = vec!["--identity", &identity, "--audit", audit.to_str().unwrap(), "--audit-store", &store];
        if self.keys_in_files {
            more.extend(["--ca-path", ca.to_str().unwrap()]);
        }
        let serve = Arguments::parse_from(arguments.into_iter().chain(more)).serve;
        let listeners = Listeners {
            admin: TcpListener::bind(serve.admin).await.unwrap(),
            identity: TcpListener::bind(serve.identity).await.unwrap(),
            hub: TcpListener::bind(serve.hub).await.unwrap(),
        };
        self.operator_admin = listeners.admin.local_addr().ok();
        let (client, shutdown) = (self.client("zen-operator"), self.shutdown.clone());
        self.operator = Some(tokio::spawn(async move { Box::pin(run(serve, client, listeners, &shutdown)).await }));
    }

    /// Waits until pods could start.
    pub async fn operator_has_made(&mut self) {
        let secrets: Api<Secret> = Api::namespaced(self.admin(), NAMESPACE);
        let trust: Api<ConfigMap> = Api::namespaced(self.admin(), NAMESPACE);
        until("the operator has made what pods mount", async || {
            let keys = secrets.get_opt("zen-mesh-egress-keys").await.unwrap().is_some();
            let age = self.keys_in_files || secrets.get_opt("zen-mesh-age").await.unwrap().is_some();
            keys && age && trust.get_opt("zen-mesh-trust").await.unwrap().is_some()
        })
        .await;
        let trust = trust.get("zen-mesh-trust").await.unwrap();
        self.bundle.clone_from(&trust.data.unwrap()["ca.crt"]);
        std::fs::write(self.folder.path().join("ca.crt"), &self.bundle).unwrap();
    }

    /// The roots of the mesh.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What a pod of this account gets from the identity service.
    pub async fn identity_of(&self, account: &'static str) -> zen_pki::Identity {
        let (_, platform) = self.pod(account, &format!("{account}-0"), ANY).await;
        timeout(PATIENCE, platform.identity.obtain()).await.expect("a certificate in time")
    }

    /// How the operator ended by itself.
    pub async fn operator_ends(&mut self) -> String {
        let ended = timeout(PATIENCE, self.operator.take().expect("it runs")).await.expect("in time");
        ended.unwrap().expect_err("a failure").to_string()
    }

    /// One of each.
    pub async fn start_pods(&mut self) {
        let control = self.behind.as_ref().unwrap_or(&self.control).address().to_string();
        let (arguments, platform) = self.pod("zen-ingester", "zen-ingester-0", &control).await;
        self.identities.insert("zen-ingester".to_owned(), platform.identity.clone());
        let state = self.folder.path().join("state").to_string_lossy().into_owned();
        let api = format!("{}:0", own_address());
        // Streams arrive at any port: members do not, here.
        let (store, relay) = (self.audit.address().to_string(), &api);
        let more = ["--state", &state, "--intake", ANY, "--intake-secret", "intake-tls", "--api", &api];
        let more = more.into_iter().chain(["--relay", relay, "--audit-store", &store]).map(str::to_owned);
        let arguments = arguments.into_iter().chain(more).chain(self.unsealing("zen-ingester-0"));
        let arguments = zen_ingester::pod::Arguments::parse_from(arguments);
        let pod = timeout(PATIENCE, Box::pin(zen_ingester::pod::Pod::start(arguments, platform))).await;
        let pod = pod.expect("starts in time").unwrap();
        let (addresses, shutdown) = (pod.addresses(), self.shutdown.clone());
        let serving = tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() });
        self.ingester = Some((addresses, serving));
        self.endpoint("zen-ingester-peers", "control", self.control.address()).await;

        self.start_egress(ANY).await;
        self.start_audit().await;
        self.start_zen_lock().await;
    }

    /// The pods of a member: nobody but the operator has business with its egress.
    pub async fn start_pods_of_member(&mut self) {
        let control = self.control.address().to_string();
        self.start_egress(&control).await;
        self.endpoint("zen-egress", "control", self.control.address()).await;
        self.start_audit().await;
        self.start_zen_lock().await;
    }

    async fn start_egress(&mut self, control: &str) {
        let (mut arguments, platform) = self.pod("zen-egress", "zen-egress-0", control).await;
        self.identities.insert("zen-egress".to_owned(), platform.identity.clone());
        // The API server takes no loopback address into an EndpointSlice.
        arguments.extend(["--link".to_owned(), format!("{}:0", own_address())]);
        arguments.extend(["--audit-store".to_owned(), self.audit.address().to_string()]);
        arguments.extend(self.unsealing("zen-egress-0"));
        let arguments = zen_egress::pod::Arguments::parse_from(arguments);
        let pod = timeout(PATIENCE, Box::pin(zen_egress::pod::Pod::start(arguments, platform))).await;
        let pod = pod.expect("starts in time").unwrap();
        let (addresses, shutdown) = (pod.addresses(), self.shutdown.clone());
        let serving = tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() });
        self.egress = Some((addresses, serving));
    }

    /// What a plane needs to have ZenLocks opened.
    fn unsealing(&self, pod: &str) -> [String; 6] {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let url = format!("https://zenlock-webhook.{NAMESPACE}.svc:{}", self.unseal.port());
        let token = path(&format!("{pod}/unseal-token"));
        ["--trust", &path("ca.crt"), "--unseal-url", &url, "--unseal-token", &token].map(str::to_owned)
    }

    async fn start_audit(&mut self) {
        let (arguments, platform) = self.pod("zen-audit", "zen-audit-0", ANY).await;
        let data = self.entries().to_string_lossy().into_owned();
        let address = self.audit.address().to_string();
        // Heads are written again while this runs, so that the second write is seen too.
        let more = ["--audit", &address, "--data", &data, "--anchor-seconds", "1"].map(str::to_owned);
        let arguments = Audit::parse_from(arguments.into_iter().chain(more)).arguments;
        let anchor = ConfigMapAnchor::new(platform.client.clone(), NAMESPACE);
        let pod = zen_audit_store::pod::Pod::start(arguments, platform, Arc::new(anchor));
        let pod = timeout(PATIENCE, Box::pin(pod)).await.expect("starts in time").unwrap();
        let shutdown = self.shutdown.clone();
        self.store = Some(tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() }));
    }

    /// The audit store's volume.
    pub fn entries(&self) -> PathBuf {
        self.folder.path().join("entries")
    }

    pub async fn start_zen_lock(&mut self) {
        let (arguments, platform) = self.pod("zenlock-webhook", "zenlock-webhook-0", ANY).await;
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let more = [
            ("--listen", self.unseal.address().to_string()),
            ("--trust", path("ca.crt")),
            ("--age", self.identities_of_zen_locks().to_string_lossy().into_owned()),
            ("--audit", path("zenlock-webhook-0/audit")),
            ("--audit-store", self.audit.address().to_string()),
            ("--image", "zenlock-webhook:test".to_owned()),
            ("--secret-delivery", "true".to_owned()),
        ];
        let more = more.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
        let arguments = ZenLock::parse_from(arguments.into_iter().chain(more)).arguments;
        let pod = timeout(PATIENCE, Box::pin(zenlock_webhook::serve::Pod::start(arguments, platform, None))).await;
        let pod = pod.expect("starts in time").unwrap();
        let (addresses, shutdown) = (pod.addresses(), self.shutdown.clone());
        let serving = tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() });
        self.zen_lock = Some((addresses, serving));
        self.endpoint("zenlock-webhook", "https", addresses.https).await;
    }

    /// Folder of the age identities, as they are mounted.
    pub fn identities_of_zen_locks(&self) -> PathBuf {
        self.folder.path().join(if self.keys_in_files { "age" } else { "zenlock-webhook-0/keys" })
    }

    /// Admission and the unseal API.
    pub fn zen_lock(&self) -> zenlock_webhook::serve::Addresses {
        self.zen_lock.as_ref().expect("it runs").0
    }

    /// Runs what a pod's init container runs: it writes the pod's files below this folder.
    pub async fn fetch(&self, pod: &Pod, account: &str) -> PathBuf {
        let folder = self.folder.path().join("fetched");
        std::fs::create_dir_all(&folder).unwrap();
        let containers = pod.spec.as_ref().unwrap().init_containers.as_ref().expect("admitted");
        let mut arguments = fetch::Arguments::of_args(containers[0].args.as_ref().unwrap()).unwrap();
        let https = self.zen_lock().https;
        arguments.url = format!("https://zenlock-webhook.{NAMESPACE}.svc:{}", https.port());
        (arguments.token, arguments.dir) = (folder.join("token"), folder.clone());
        let (name, uid) = (pod.metadata.name.as_deref().unwrap(), pod.metadata.uid.as_deref().unwrap());
        let namespace = pod.metadata.namespace.as_deref().unwrap();
        let token = self.token_of(namespace, account, Some(zenlock_webhook::AUDIENCE), Some((name, uid))).await;
        std::fs::write(&arguments.token, token).unwrap();
        fetch::run(&arguments, Some(self.resolver())).await.unwrap();
        folder
    }

    /// Asks for a ZenLock on behalf of an object, as a plane does.
    pub async fn unseal_as(&self, account: &str, lock: &str, kind: &str, name: &str) -> String {
        let identity = self.identities[account].obtain().await;
        let asked = json!({
            "locks": [{"namespace": "team-a", "name": lock}],
            "subject": {"kind": kind, "namespace": "team-a", "name": name},
        });
        let host = format!("zenlock-webhook.{NAMESPACE}.svc");
        let url = format!("https://{host}:{}", self.zen_lock().https.port());
        let endpoint = Endpoint::with_resolver(&url, self.resolver()).unwrap();
        let body = http_body_util::Full::new(bytes::Bytes::from(asked.to_string()));
        let request = http::Request::post("/v1/unseal").header("host", host).body(body).unwrap();
        let roots = TrustRoots::from_pem(&self.bundle).unwrap();
        let tls = zen_pki::named_client(&roots, Some(&identity)).unwrap();
        let response = endpoint.send(&tls, &request, PATIENCE, 1 << 20).await.unwrap();
        String::from_utf8_lossy(response.body()).into_owned()
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

    pub fn ingester_admin(&self) -> SocketAddr {
        self.ingester().admin
    }

    pub fn egress_admin(&self) -> SocketAddr {
        self.egress().admin
    }

    pub fn ingester(&self) -> zen_ingester::pod::Addresses {
        self.ingester.as_ref().expect("it runs").0
    }

    pub fn egress(&self) -> zen_egress::pod::Addresses {
        self.egress.as_ref().expect("it runs").0
    }

    /// Health and metrics of the operator.
    pub fn operator_admin(&self) -> SocketAddr {
        self.operator_admin.expect("it was started")
    }

    /// The identity service.
    pub fn identity_service(&self) -> SocketAddr {
        self.identity.address()
    }

    /// Files of the operator's pod.
    pub fn operator_files(&self) -> PathBuf {
        self.folder.path().join("operator")
    }

    /// Says where the egress takes deliveries.
    pub async fn serve_link(&self) {
        let link = self.egress().link.expect("it listens");
        self.endpoint("zen-egress", "link", link).await;
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

    pub async fn stop_pods(&mut self) {
        self.shutdown.begin();
        let serving = [
            self.ingester.take().map(|it| it.1),
            self.egress.take().map(|it| it.1),
            self.zen_lock.take().map(|it| it.1),
            self.store.take(),
        ];
        for serving in serving.into_iter().flatten() {
            timeout(PATIENCE, serving).await.expect("ends in time").unwrap();
        }
    }

    /// Says where the aggregated API is.
    pub async fn serve_api(&self) {
        let address = self.ingester.as_ref().expect("it runs").0.api.expect("it is served");
        until("the Service is there", async || {
            self.control_plane.kubectl(&["get", "service", "zen-ingester-api", "-n", NAMESPACE]).await.is_ok()
        })
        .await;
        self.endpoint("zen-ingester-api", "api", address).await;
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

    /// What the kubelet gives a pod: its object, its tokens, and what it mounts.
    async fn pod(&self, account: &str, name: &str, control: &str) -> (Vec<String>, Platform) {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]},
        });
        let pods: Api<Pod> = Api::namespaced(self.admin(), NAMESPACE);
        let pod = serde_json::from_value(pod).unwrap();
        let uid = pods.create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap();
        let folder = self.folder.path().join(name);
        let keys = self.keys(account, &folder).await;

        let mut options = Options::new(format!("https://zen-operator.{NAMESPACE}.svc:{}", self.identity.port()));
        options.token = folder.join("token");
        options.roots = self.folder.path().join("ca.crt");
        options.folder = folder.join("run/identity");
        std::fs::write(&options.token, self.token(account, Some((name, &uid))).await).unwrap();
        let token = self.token_of(NAMESPACE, account, Some(zenlock_webhook::AUDIENCE), Some((name, &uid))).await;
        std::fs::write(folder.join("unseal-token"), token).unwrap();
        let remote = Remote::with_resolver(&options, self.resolver()).unwrap();
        let identity = Client::with_issuer(options, Arc::new(remote));
        let platform = Platform { client: self.client(account), identity, names: self.resolver() };
        let run = folder.join("run");
        let options = [
            ("--pod-name", name),
            ("--pod-namespace", NAMESPACE),
            ("--admin", ANY),
            ("--control", control),
            ("--keys", keys.to_str().unwrap()),
            ("--run", run.to_str().unwrap()),
        ];
        let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_owned()]);
        (std::iter::once(account.to_owned()).chain(options).collect(), platform)
    }

    async fn keys(&self, account: &str, folder: &Path) -> PathBuf {
        let keys = folder.join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        if account == "zenlock-webhook" && self.keys_in_files {
            return keys;
        }
        let secrets: Api<Secret> = Api::namespaced(self.admin(), NAMESPACE);
        let name = match account {
            // It mounts none.
            "zen-audit" => return keys,
            "zenlock-webhook" => "zen-mesh-age".to_owned(),
            plane => format!("{}-keys", plane.replace("zen-", "zen-mesh-")),
        };
        let secret = secrets.get(&name).await.unwrap();
        for (name, key) in secret.data.unwrap() {
            let path = keys.join(name);
            std::fs::write(&path, key.0).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        }
        keys
    }

    /// The names that are asked for, where they are here.
    fn resolver(&self) -> Arc<StaticResolver> {
        let mut names = HashMap::from([(format!("zen-operator.{NAMESPACE}.svc"), vec![self.identity.address().ip()])]);
        names.insert(format!("zenlock-webhook.{NAMESPACE}.svc"), vec![own_address()]);
        names.insert(API.to_owned(), vec![own_address()]);
        Arc::new(StaticResolver(names))
    }

    async fn token(&self, account: &str, pod: Option<(&str, &str)>) -> String {
        // Without an audience it is one for the API server.
        self.token_of(NAMESPACE, account, pod.map(|_| "zen-mesh-identity"), pod).await
    }

    async fn token_of(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<(&str, &str)>,
    ) -> String {
        let bound = pod.map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
        });
        let audiences = audience.map(|audience| vec![audience.to_owned()]);
        let spec = TokenRequestSpec { audiences, bound_object_ref: bound, expiration_seconds: Some(3600) };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), namespace);
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token.unwrap()
    }

    async fn endpoint(&self, service: &str, port: &str, address: SocketAddr) {
        let target = json!({"kind": "Pod", "namespace": NAMESPACE, "name": "zen-ingester-0", "uid": "uid-of-ingester"});
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{service}-1"), "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": service},
            },
            "ports": [{"name": port, "port": address.port()}],
            "endpoints": [{
                "addresses": [address.ip().to_string()], "conditions": {"ready": true, "serving": true}, "targetRef": target,
            }],
        });
        self.apply(&slice.to_string()).await;
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
