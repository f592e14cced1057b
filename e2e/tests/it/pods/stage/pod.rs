//! Ingester and egress: a pod's volumes, and its container while it runs.

use super::*;

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

impl Stage {
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
}
