//! One pod of each plane, of ZenLocks and of the audit store, and where others find them.

use super::*;

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

impl Stage {
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

    /// The audit store's volume.
    pub fn entries(&self) -> PathBuf {
        self.folder.path().join("entries")
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

    /// Says where the egress takes deliveries.
    pub async fn serve_link(&self) {
        let link = self.egress().link.expect("it listens");
        self.endpoint("zen-egress", "link", link).await;
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
}
