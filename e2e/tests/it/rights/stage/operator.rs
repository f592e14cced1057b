//! The operator's whole process, on this one's threads.

use super::*;

impl Stage {
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

    /// How the operator ended by itself.
    pub async fn operator_ends(&mut self) -> String {
        let ended = timeout(PATIENCE, self.operator.take().expect("it runs")).await.expect("in time");
        ended.unwrap().expect_err("a failure").to_string()
    }

    /// Health and metrics of the operator.
    pub fn operator_admin(&self) -> SocketAddr {
        self.operator_admin.expect("it was started")
    }

    /// Files of the operator's pod.
    pub fn operator_files(&self) -> PathBuf {
        self.folder.path().join("operator")
    }

    /// The identity service.
    pub fn identity_service(&self) -> SocketAddr {
        self.identity.address()
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
}
