//! The kubelet's part: what a pod mounts, and as whom it speaks.

use super::*;

impl Stage {
    pub(super) async fn platform(&self, component: Component, name: &str, run: &Path) -> Platform {
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
    pub(super) fn platform_of(&self, id: SpiffeId, issuer: Arc<Ca>, run: &Path) -> Platform {
        let mut options = Options::new("https://zen-operator.zen-mesh.svc");
        options.roots = self.folder.path().join("ca.crt");
        options.folder = run.join("identity");
        let issuer = PodIssuer { operator: self.operator.clone(), issuer, id };
        let identity = Client::with_issuer(options, Arc::new(issuer));
        Platform { client: self.client.clone(), identity, names: Arc::new(StaticResolver(HashMap::new())) }
    }

    /// The mounted Secret of a member's egress, as the member's operator writes it.
    pub(super) fn member_keys(&self, folder: &Path, relay: SocketAddr) -> PathBuf {
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
    pub(super) fn keys(&self, folder: &Path) -> PathBuf {
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
