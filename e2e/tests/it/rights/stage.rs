//! A control plane with the chart's roles, the operator as its ServiceAccount, and one pod of each plane as theirs. Only the
//! kubelet's and the controllers' parts are stood in for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zen_charts::Helm;
use zen_e2e::{ControlPlane, audit};
use zen_identity::Client;
use zen_identity::client::{Options, Remote, StaticResolver};
use zen_operator::run::{Arguments, Listeners, run};
use zen_pod::Platform;
use zen_runtime::Shutdown;

use crate::api_server::install;
use crate::pods::stage::{ANY, own_address, until};

pub const NAMESPACE: &str = "zen-mesh";
/// Those that the chart gives rights.
pub const ACCOUNTS: [&str; 3] = ["zen-operator", "zen-ingester", "zen-egress"];
/// With everything on that needs a right of its own.
const VALUES: [&str; 2] = ["--set", "intake.tlsSecret=intake-tls"];
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Stage {
    control_plane: ControlPlane,
    admin: kube::Client,
    rendered: Vec<Value>,
    /// By account: with the API server's own audience.
    configs: HashMap<&'static str, kube::Config>,
    folder: TempDir,
    identity: SocketAddr,
    /// Where the operator looks for the ingester's control API.
    control: SocketAddr,
    bundle: String,
    shutdown: Shutdown,
    operator: Option<JoinHandle<Result<(), zen_operator::run::Error>>>,
    ingester: Option<(zen_ingester::pod::Addresses, JoinHandle<()>)>,
    egress: Option<(zen_egress::pod::Addresses, JoinHandle<()>)>,
}

impl Stage {
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start_observed().await.unwrap();
        let admin = control_plane.client().await.unwrap();
        install(&admin).await;
        for namespace in [NAMESPACE, "team-a"] {
            control_plane.kubectl(&["create", "namespace", namespace]).await.unwrap();
        }
        let rendered = Helm::find().unwrap().render(&VALUES).unwrap().objects;
        let folder = tempfile::tempdir().unwrap();
        let free = |address: std::net::IpAddr| std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
        let mut stage = Self {
            control_plane,
            admin,
            rendered,
            configs: HashMap::new(),
            folder,
            identity: free([127, 0, 0, 1].into()),
            control: free(own_address()),
            bundle: String::new(),
            shutdown: Shutdown::manual(),
            operator: None,
            ingester: None,
            egress: None,
        };
        let kinds = ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
        for object in stage.rendered.iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)) {
            stage.apply(&object.to_string()).await;
        }
        stage.apply(&tls_secret("intake-tls")).await;
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

    /// What Kubernetes brings along and the chart binds, with those bindings.
    pub async fn built_in_roles(&self) -> Vec<Value> {
        let name = "extension-apiserver-authentication-reader";
        let text = self.kubectl(&["get", "role", name, "-n", "kube-system", "-o", "json"]).await;
        let bindings = self.rendered.iter().filter(|object| object["kind"] == "RoleBinding").cloned();
        std::iter::once(serde_json::from_str(&text).unwrap()).chain(bindings).collect()
    }

    pub fn audit(&self) -> Vec<audit::Entry> {
        self.control_plane.audit().unwrap()
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.control_plane.kubectl(arguments).await.unwrap()
    }

    pub async fn apply(&self, manifest: &str) {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]).await;
    }

    pub async fn until_condition(&self, kind: &str, name: &str, condition: &str) {
        let condition = format!("--for=condition={condition}");
        self.kubectl(&["wait", "-n", "team-a", kind, name, &condition, "--timeout=60s"]).await;
    }

    /// The operator's whole process, on this one's threads.
    pub async fn start_operator(&mut self) {
        let (port, identity) = (self.control.port().to_string(), self.identity.to_string());
        let arguments = ["zen-operator", "--pod-name", "zen-operator-0", "--control-port", &port, "--admin", ANY];
        let serve = Arguments::parse_from(arguments.into_iter().chain(["--identity", &identity])).serve;
        let listeners = Listeners {
            admin: TcpListener::bind(serve.admin).await.unwrap(),
            identity: TcpListener::bind(serve.identity).await.unwrap(),
        };
        let (client, shutdown) = (self.client("zen-operator"), self.shutdown.clone());
        self.operator = Some(tokio::spawn(async move { Box::pin(run(serve, client, listeners, &shutdown)).await }));
        let secrets: Api<Secret> = Api::namespaced(self.admin(), NAMESPACE);
        let trust: Api<ConfigMap> = Api::namespaced(self.admin(), NAMESPACE);
        until("the operator has made what pods mount", async || {
            let keys = secrets.get_opt("zen-mesh-egress-keys").await.unwrap().is_some();
            keys && trust.get_opt("zen-mesh-trust").await.unwrap().is_some()
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

    /// How the operator ended by itself.
    pub async fn operator_ends(&mut self) -> String {
        let ended = timeout(PATIENCE, self.operator.take().expect("it runs")).await.expect("in time");
        ended.unwrap().expect_err("a failure").to_string()
    }

    /// One ingester and one egress.
    pub async fn start_pods(&mut self) {
        let control = self.control.to_string();
        let (arguments, platform) = self.pod("zen-ingester", "zen-ingester-0", &control).await;
        let state = self.folder.path().join("state").to_string_lossy().into_owned();
        let api = format!("{}:0", own_address());
        let more = ["--state", &state, "--intake", ANY, "--intake-secret", "intake-tls", "--api", &api];
        let arguments = arguments.into_iter().chain(more.map(str::to_owned));
        let arguments = zen_ingester::pod::Arguments::parse_from(arguments);
        let pod = timeout(PATIENCE, Box::pin(zen_ingester::pod::Pod::start(arguments, platform))).await;
        let pod = pod.expect("starts in time").unwrap();
        let (addresses, shutdown) = (pod.addresses(), self.shutdown.clone());
        let serving = tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() });
        self.ingester = Some((addresses, serving));
        self.endpoint("zen-ingester-peers", "control", addresses.control).await;

        let (mut arguments, platform) = self.pod("zen-egress", "zen-egress-0", ANY).await;
        arguments.extend(["--link".to_owned(), ANY.to_owned()]);
        let arguments = zen_egress::pod::Arguments::parse_from(arguments);
        let pod = timeout(PATIENCE, Box::pin(zen_egress::pod::Pod::start(arguments, platform))).await;
        let pod = pod.expect("starts in time").unwrap();
        let (addresses, shutdown) = (pod.addresses(), self.shutdown.clone());
        let serving = tokio::spawn(async move { Box::pin(pod.serve(&shutdown)).await.unwrap() });
        self.egress = Some((addresses, serving));
    }

    pub fn ingester_admin(&self) -> SocketAddr {
        self.ingester.as_ref().expect("it runs").0.admin
    }

    pub fn egress_admin(&self) -> SocketAddr {
        self.egress.as_ref().expect("it runs").0.admin
    }

    pub async fn stop_pods(&mut self) {
        self.shutdown.begin();
        for serving in [self.ingester.take().map(|it| it.1), self.egress.take().map(|it| it.1)].into_iter().flatten() {
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
        let names = HashMap::from([(format!("zen-operator.{NAMESPACE}.svc"), vec![self.identity.ip()])]);
        let remote = Remote::with_resolver(&options, Arc::new(StaticResolver(names))).unwrap();
        let identity = Client::with_issuer(options, Arc::new(remote));
        let platform = Platform { client: self.client(account), identity };
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
        let secrets: Api<Secret> = Api::namespaced(self.admin(), NAMESPACE);
        let secret = secrets.get(&format!("{}-keys", account.replace("zen-", "zen-mesh-"))).await.unwrap();
        for (name, key) in secret.data.unwrap() {
            let path = keys.join(name);
            std::fs::write(&path, key.0).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        }
        keys
    }

    async fn token(&self, account: &str, pod: Option<(&str, &str)>) -> String {
        let bound = pod.map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
        });
        // Without an audience it is one for the API server.
        let audiences = pod.map(|_| vec!["zen-mesh-identity".to_owned()]);
        let spec = TokenRequestSpec { audiences, bound_object_ref: bound, expiration_seconds: Some(3600) };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), NAMESPACE);
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
