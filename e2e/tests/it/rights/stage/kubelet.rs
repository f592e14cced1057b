//! The kubelet's part: a pod's object, its tokens and what it mounts; and the slices of Services.

use super::*;

impl Stage {
    /// What a pod of this account gets from the identity service.
    pub async fn identity_of(&self, account: &'static str) -> zen_pki::Identity {
        let (_, platform) = self.pod(account, &format!("{account}-0"), ANY).await;
        timeout(PATIENCE, platform.identity.obtain()).await.expect("a certificate in time")
    }

    /// What the kubelet gives a pod: its object, its tokens, and what it mounts.
    pub(super) async fn pod(&self, account: &str, name: &str, control: &str) -> (Vec<String>, Platform) {
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
    pub(super) fn resolver(&self) -> Arc<StaticResolver> {
        let mut names = HashMap::from([(format!("zen-operator.{NAMESPACE}.svc"), vec![self.identity.address().ip()])]);
        names.insert(format!("zenlock-webhook.{NAMESPACE}.svc"), vec![own_address()]);
        names.insert(API.to_owned(), vec![own_address()]);
        Arc::new(StaticResolver(names))
    }

    pub(super) async fn token(&self, account: &str, pod: Option<(&str, &str)>) -> String {
        // Without an audience it is one for the API server.
        self.token_of(NAMESPACE, account, pod.map(|_| "zen-mesh-identity"), pod).await
    }

    pub(super) async fn token_of(
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

    pub(super) async fn endpoint(&self, service: &str, port: &str, address: SocketAddr) {
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
