//! A control plane with a namespace for the mesh, an operator that only signs, and pods on loopback with their volumes.

use std::collections::HashMap;
use std::fs::Permissions;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::RootCertStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zen_e2e::ControlPlane;
use zen_identity::client::{Answering, Error, Issuer, Options, Remote, StaticResolver};
use zen_identity::wire::{Certificate, CertificateRequest, Refused, Usage, Who};
use zen_identity::{Client, Component};
use zen_model::reason::TrustRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Ca, Identity, Names, Scope, SigningRequest, SpiffeId, TrustDomain};
use zen_pod::Platform;
use zen_pod::keys::Member;
use zen_runtime::Shutdown;
use zen_seal::RootKey;
use zen_seal::cluster::ClusterKey;
use zen_testkit::Reserved;
use zen_verify::SigningKeys;

use crate::api_server::install;

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The release namespace.
pub const NAMESPACE: &str = "zen-mesh";
/// A name that the intake's certificate carries.
pub const INTAKE: &str = "zen-ingester.zen-mesh.svc";

const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: zen-mesh, namespace: zen-mesh}
data:
  mesh.yaml: |
    grants: [{namespace: team-a, cidrs: [127.0.0.0/8]}]
    drainDelay: 1s
";

/// Everything around the pods.
pub struct Stage {
    control_plane: Option<ControlPlane>,
    /// The pods' own.
    client: kube::Client,
    operator: Operator,
    root: RootKey,
    folder: TempDir,
    /// The identity service of a whole operator, which pods then ask.
    identity: Option<SocketAddr>,
}

/// Signs what pods are due, as the identity service does.
#[derive(Clone)]
struct Operator {
    issuer: Arc<Ca>,
    /// Of the member cluster [`cluster`].
    member: Arc<Ca>,
    bundle: String,
    away: Arc<AtomicBool>,
    /// Of what it signs.
    lifetime: Duration,
}

impl Stage {
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        install(&control_plane.client().await.unwrap()).await;
        for namespace in [NAMESPACE, "team-a"] {
            control_plane.kubectl(&["create", "namespace", namespace]).await.unwrap();
        }
        let root = Ca::new_root(&domain(), Timestamp::now()).unwrap();
        let issuer = Arc::new(root.issue_intermediate(Timestamp::now()).unwrap());
        let member = Arc::new(root.issue_issuer(&Scope::Cluster(cluster()), Timestamp::now()).unwrap());
        let bundle = root.certificate_pem().to_owned();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &bundle).unwrap();
        let (kubeconfig, options) = (Kubeconfig::read_from(control_plane.kubeconfig()), KubeConfigOptions::default());
        let config = kube::Config::from_custom_kubeconfig(kubeconfig.unwrap(), &options).await.unwrap();
        let client = zen_live::cluster::client(config).unwrap();
        let lifetime = Duration::from_hours(1);
        let operator = Operator { issuer, member, bundle, away: Arc::default(), lifetime };
        let stage = Self {
            control_plane: Some(control_plane),
            client,
            operator,
            root: RootKey::random(),
            folder,
            identity: None,
        };
        stage.apply(&[MESH]).await;
        stage
    }

    /// From now on pods have their certificates from this identity service, whose trust bundle this is.
    pub async fn issued_by(&mut self, service: &zen_operator::identity::Service) {
        let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
        self.identity = Some(listener.local_addr().unwrap());
        let serving = service.clone();
        tokio::spawn(async move { serving.serve(listener, tokio_util::sync::CancellationToken::new()).await });
        tokio::time::timeout(PATIENCE, service.identity()).await.expect("a CA in time");
        service.bundle().unwrap().as_ref().clone_into(&mut self.operator.bundle);
        std::fs::write(self.folder.path().join("ca.crt"), &self.operator.bundle).unwrap();
    }

    /// From now on pods have the trust bundle that the API server has, as a kubelet brings it: a while later, and whole.
    pub fn bring_trust(&self) -> tokio::task::AbortHandle {
        let config_maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::namespaced(self.client(), NAMESPACE);
        let (file, fresh) = (self.trust(), self.folder.path().join("ca.crt.new"));
        let bring = async move {
            let mut brought = String::new();
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let bundle = config_maps.get_opt("zen-mesh-trust").await.ok().flatten();
                let Some(bundle) = bundle.and_then(|bundle| bundle.data?.remove("ca.crt")) else { continue };
                if bundle != brought {
                    std::fs::write(&fresh, &bundle).unwrap();
                    std::fs::rename(&fresh, &file).unwrap();
                    brought = bundle;
                }
            }
        };
        tokio::spawn(bring).abort_handle()
    }

    /// The file that is mounted into every pod.
    pub fn trust(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The pods' client of the API server.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// What pods that start from now on are given lasts so long.
    pub fn certificates_last(&mut self, lifetime: Duration) {
        self.operator.lifetime = lifetime;
    }

    /// API server and operator are gone from now on.
    pub fn leave(&mut self) {
        self.control_plane = None;
        self.operator.away.store(true, Ordering::Relaxed);
    }

    /// The operator is back, the API server is not.
    pub fn operator_returns(&self) {
        self.operator.away.store(false, Ordering::Relaxed);
    }

    pub async fn apply(&self, manifests: &[&str]) {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifests.join("\n---\n")).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]).await;
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.control_plane.as_ref().expect("the API server is there").kubectl(arguments).await.unwrap()
    }

    /// What clients of the intake trust.
    pub fn roots(&self) -> RootCertStore {
        roots(&self.operator.bundle)
    }

    /// An identity of the mesh.
    pub fn identity(&self, component: Component) -> Identity {
        let lifetime = Duration::from_hours(1);
        let issued = self.operator.issuer.issue_workload(&id(component), lifetime).unwrap();
        Identity::new(&issued, &zen_pki::TrustRoots::from_pem(&self.operator.bundle).unwrap()).unwrap()
    }

    /// Says which egresses are ready.
    pub async fn egresses(&self, egresses: &[&Egress]) {
        let slices: Vec<_> = egresses
            .iter()
            .map(|egress| slice("zen-egress", &egress.name, egress.link.address().ip(), &egress.ports()))
            .collect();
        self.apply(&slices.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Says that this ingester is ready.
    pub async fn peer(&self, ingester: &Ingester) {
        let addresses = ingester.addresses();
        let mut ports = vec![("control", addresses.control.port()), ("admin", addresses.admin.port())];
        ports.extend(addresses.intake.map(|intake| ("intake", intake.port())));
        self.apply(&[&slice("zen-ingester-peers", &ingester.name, addresses.control.ip(), &ports)]).await;
    }

    async fn platform(&self, component: Component, name: &str, run: &Path) -> Platform {
        let mut options = Options::new("https://zen-operator.zen-mesh.svc");
        options.roots = self.folder.path().join("ca.crt");
        options.folder = run.join("identity");
        let identity = if let Some(address) = self.identity {
            options.url = format!("{}:{}", options.url, address.port());
            // More often than a pod may ask for long.
            options.look = Duration::from_secs(5);
            options.token = run.join("token");
            std::fs::create_dir_all(run).unwrap();
            std::fs::write(&options.token, self.token(component.account(), name).await).unwrap();
            let names = HashMap::from([("zen-operator.zen-mesh.svc".to_owned(), vec![address.ip()])]);
            let remote = Remote::with_resolver(&options, Arc::new(StaticResolver(names))).unwrap();
            Client::with_issuer(options, Arc::new(remote))
        } else {
            let issuer = Arc::clone(&self.operator.issuer);
            let issuer = PodIssuer { operator: self.operator.clone(), issuer, id: id(component) };
            Client::with_issuer(options, Arc::new(issuer))
        };
        Platform { client: self.client.clone(), identity, names: Arc::new(StaticResolver(HashMap::new())) }
    }

    /// A token as the kubelet projects it, of a pod that is made for it.
    async fn token(&self, account: &str, pod: &str) -> String {
        let objects = format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {account}, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {NAMESPACE}}}
spec: {{serviceAccountName: {account}, containers: [{{name: main, image: none}}]}}
"
        );
        self.apply(&[&objects]).await;
        let bound = ["--bound-object-kind=Pod", "--bound-object-name", pod];
        let create = ["create", "token", account, "-n", NAMESPACE, "--audience=zen-mesh-identity"];
        self.kubectl(&[&create[..], &bound].concat()).await.trim().to_owned()
    }

    /// As [`Stage::platform`], with another issuer than the hub's.
    fn platform_of(&self, id: SpiffeId, issuer: Arc<Ca>, run: &Path) -> Platform {
        let mut options = Options::new("https://zen-operator.zen-mesh.svc");
        options.roots = self.folder.path().join("ca.crt");
        options.folder = run.join("identity");
        let issuer = PodIssuer { operator: self.operator.clone(), issuer, id };
        let identity = Client::with_issuer(options, Arc::new(issuer));
        Platform { client: self.client.clone(), identity, names: Arc::new(StaticResolver(HashMap::new())) }
    }

    /// The mounted Secret of a member's egress, as the member's operator writes it.
    fn member_keys(&self, folder: &Path, relay: SocketAddr) -> PathBuf {
        let keys = folder.join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        let key = ClusterKey::derive(&self.root.branch(zen_verify::signing_keys::BRANCH), &cluster(), 1);
        let member = Member { cluster: cluster(), relay: Some(relay.to_string()), keys: vec![key] };
        std::fs::write(keys.join(zen_pod::keys::MEMBER), &*member.to_json()).unwrap();
        keys
    }

    /// As it stands in `zen-mesh-root`.
    pub fn root_key(&self) -> String {
        self.root.text().as_str().to_owned()
    }

    /// Of this mesh.
    pub fn signing(&self) -> SigningKeys {
        SigningKeys::new(self.root.branch(zen_verify::signing_keys::BRANCH).secret())
    }

    /// The mounted Secret of a component.
    fn keys(&self, folder: &Path) -> PathBuf {
        let keys = folder.join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        for (name, branch) in [("signing.key", zen_verify::signing_keys::BRANCH), ("data.key", "zen/data")] {
            let path = keys.join(name);
            std::fs::write(&path, self.root.branch(branch).text().as_bytes()).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        }
        keys
    }
}

/// One pod behind a Service of the mesh.
fn slice(service: &str, pod: &str, address: IpAddr, ports: &[(&str, u16)]) -> String {
    let ports: Vec<_> = ports.iter().map(|(name, port)| format!("{{name: {name}, port: {port}}}")).collect();
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {pod}, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{}]
endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {pod}}}}}]
",
        ports.join(", "),
    )
}

pub fn roots(pem: &str) -> RootCertStore {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

fn domain() -> TrustDomain {
    "zen-mesh.local".parse().unwrap()
}

/// A member of this hub.
pub fn cluster() -> ClusterId {
    "team-a/eu".parse().unwrap()
}

fn id(component: Component) -> SpiffeId {
    SpiffeId::workload(&domain(), NAMESPACE, component.account()).unwrap()
}

/// As one pod sees the operator.
struct PodIssuer {
    operator: Operator,
    issuer: Arc<Ca>,
    id: SpiffeId,
}

impl std::fmt::Debug for PodIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PodIssuer")
    }
}

impl PodIssuer {
    fn there(&self) -> Result<(), Error> {
        if self.operator.away.load(Ordering::Relaxed) {
            return Err(Error::Refused(Refused::new(TrustRefusal::IssuerUnavailable, "r")));
        }
        Ok(())
    }

    fn sign(&self, request: &CertificateRequest) -> Result<Certificate, Error> {
        self.there()?;
        let due = match request.usage {
            Usage::Workload => Names::Workload(self.id.clone()),
            Usage::Serving => Names::Server([INTAKE.to_owned()].into()),
        };
        let csr = SigningRequest::from_pem(&request.csr).expect("a request");
        csr.check(&due).expect("the names are due");
        let signed = self.issuer.sign_csr(&csr, &due, Timestamp::now(), self.operator.lifetime).expect("signed");
        let roots = self.operator.bundle.clone();
        Ok(Certificate { chain: signed.chain_pem, roots, not_after: signed.validity.until })
    }
}

impl Issuer for PodIssuer {
    fn who<'a>(&'a self, _: Option<&'a Identity>) -> Answering<'a, Who> {
        let who = Who {
            spiffe_id: self.id.to_string(),
            serving_names: vec![INTAKE.to_owned()],
            lifetime_seconds: self.operator.lifetime.as_secs(),
            issuer: None,
            serving_since: None,
        };
        Box::pin(std::future::ready(self.there().map(|()| who)))
    }

    fn certificate<'a>(
        &'a self,
        _: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(std::future::ready(self.sign(request)))
    }
}

/// The volumes of a pod, and the container while it runs.
pub struct Ingester {
    name: String,
    volumes: TempDir,
    running: Option<(Shutdown, JoinHandle<()>)>,
    addresses: Option<zen_ingester::pod::Addresses>,
}

impl Ingester {
    pub fn new(ordinal: u32) -> Self {
        let name = format!("zen-ingester-{ordinal}");
        Self { name, volumes: tempfile::tempdir().unwrap(), running: None, addresses: None }
    }

    /// Starts the container; returns when it knows who it is and what it has to do.
    pub async fn start(&mut self, stage: &Stage, more: &[&str]) {
        let pod = self.pod(stage, &self.name, "run", more).await;
        self.addresses = Some(pod.addresses());
        let shutdown = Shutdown::manual();
        let begun = shutdown.clone();
        self.running = Some((shutdown, tokio::spawn(async move { Box::pin(pod.serve(&begun)).await.unwrap() })));
    }

    /// Another pod on the volume of this one, which is gone: it empties the queue and ends by itself.
    pub async fn empty(self, stage: &Stage) {
        assert!(self.running.is_none());
        let pod = self.pod(stage, &format!("{}-drain", self.name), "run-of-drain", &["--drain"]).await;
        let ended = tokio::time::timeout(PATIENCE, Box::pin(pod.serve(&Shutdown::manual()))).await;
        ended.expect("ends by itself").unwrap();
    }

    async fn pod(&self, stage: &Stage, name: &str, run: &str, more: &[&str]) -> zen_ingester::pod::Pod {
        let folder = self.volumes.path();
        let (keys, run, queue) = (stage.keys(folder), folder.join(run), folder.join("state"));
        let mut arguments = common("zen-ingester", name, &keys, &run);
        let intake = format!("{}:0", own_address());
        for (option, value) in [("--state", queue.to_str().unwrap()), ("--intake", &intake), ("--api", ANY)] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        let arguments = zen_ingester::pod::Arguments::parse_from(arguments);
        let platform = stage.platform(Component::Ingester, name, &run).await;
        let starting = Box::pin(zen_ingester::pod::Pod::start(arguments, platform));
        tokio::time::timeout(PATIENCE, starting).await.expect("starts in time").unwrap()
    }

    pub fn addresses(&self) -> zen_ingester::pod::Addresses {
        self.addresses.expect("it was started")
    }

    /// Where its keys are mounted.
    pub fn keys(&self) -> PathBuf {
        self.volumes.path().join("keys")
    }

    /// SIGTERM, and the wait for the end.
    pub async fn stop(&mut self) {
        stop(self.running.take()).await;
    }
}

/// An egress pod.
pub struct Egress {
    name: String,
    volumes: TempDir,
    /// The pod's IP and port, which stay when the container starts anew.
    link: Reserved,
    running: Option<(Shutdown, JoinHandle<()>)>,
    addresses: Option<zen_egress::pod::Addresses>,
}

impl Egress {
    pub fn new(number: u32) -> Self {
        // The API server takes no loopback address into an EndpointSlice.
        let link = Reserved::at(own_address());
        let name = format!("zen-egress-{number}");
        Self { name, volumes: tempfile::tempdir().unwrap(), link, running: None, addresses: None }
    }

    /// Where its keys are mounted.
    pub fn keys(&self) -> PathBuf {
        self.volumes.path().join("keys")
    }

    /// As its slice names them.
    fn ports(&self) -> Vec<(&'static str, u16)> {
        let mut ports = vec![("link", self.link.port())];
        if let Some(addresses) = self.addresses {
            ports.extend([("control", addresses.control.port()), ("admin", addresses.admin.port())]);
        }
        ports
    }

    pub async fn start(&mut self, stage: &Stage) {
        let folder = self.volumes.path();
        let (keys, run) = (stage.keys(folder), folder.join("run"));
        let platform = stage.platform(Component::Egress, &self.name, &run).await;
        self.run(platform, &keys, &run).await;
    }

    /// As the egress of the member [`cluster`], on the same API server.
    pub async fn start_in_member(&mut self, stage: &Stage, relay: SocketAddr) {
        let folder = self.volumes.path();
        let (keys, run) = (stage.member_keys(folder, relay), folder.join("run"));
        let id = SpiffeId::member(&domain(), &cluster(), NAMESPACE, Component::Egress.account()).unwrap();
        let platform = stage.platform_of(id, Arc::clone(&stage.operator.member), &run);
        self.run(platform, &keys, &run).await;
    }

    async fn run(&mut self, platform: Platform, keys: &Path, run: &Path) {
        let mut arguments = common("zen-egress", &self.name, keys, run);
        arguments.extend(["--link".to_owned(), self.link.address().to_string()]);
        let arguments = zen_egress::pod::Arguments::parse_from(arguments);
        let starting = Box::pin(zen_egress::pod::Pod::start(arguments, platform));
        let pod = tokio::time::timeout(PATIENCE, starting).await.expect("starts in time").unwrap();
        self.addresses = Some(pod.addresses());
        let shutdown = Shutdown::manual();
        let begun = shutdown.clone();
        self.running = Some((shutdown, tokio::spawn(async move { Box::pin(pod.serve(&begun)).await.unwrap() })));
    }

    pub fn addresses(&self) -> zen_egress::pod::Addresses {
        self.addresses.expect("it was started")
    }

    pub async fn stop(&mut self) {
        stop(self.running.take()).await;
    }
}

/// A free port of the loopback.
pub const ANY: &str = "127.0.0.1:0";

fn common(program: &str, name: &str, keys: &Path, run: &Path) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let options = [
        ("--pod-name", name.to_owned()),
        ("--pod-namespace", NAMESPACE.to_owned()),
        ("--admin", format!("{}:0", own_address())),
        ("--control", format!("{}:0", own_address())),
        ("--keys", path(keys)),
        ("--run", path(run)),
    ];
    let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    std::iter::once(program.to_owned()).chain(options).collect()
}

async fn stop(running: Option<(Shutdown, JoinHandle<()>)>) {
    let (shutdown, ended) = running.expect("it runs");
    shutdown.begin();
    tokio::time::timeout(PATIENCE, ended).await.expect("ends in time").unwrap();
}

/// An address of this machine that is not its loopback. No packet is sent.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("203.0.113.1:9").expect("a route, for an address that is not the loopback");
    socket.local_addr().unwrap().ip()
}

/// What `/readyz` says.
pub async fn ready(admin: SocketAddr) -> (u16, String) {
    get(admin, "/readyz").await
}

/// Of the admin server: status and the whole answer.
pub async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

/// Of the admin server: the sum of a metric's samples that have these labels; none where there is no such metric.
pub async fn metric(admin: SocketAddr, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (_, answer) = get(admin, "/metrics").await;
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    zen_runtime::metrics::value(text, name, labels)
}

/// Waits for what others bring about.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
