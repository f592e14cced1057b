//! A control plane with the chart on it, and operators as processes, each with a token of its own.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use zen_e2e::{ControlPlane, audit};

use crate::leader::is_leaders;

const NAMESPACE: &str = "zen-mesh";
/// Something that every leader makes when it is missing.
const MADE: &str = "zen-egress";
const PATIENCE: Duration = Duration::from_mins(1);

/// The API server, and how things stand there.
pub struct Stage {
    control_plane: ControlPlane,
    client: kube::Client,
    folder: TempDir,
    started: AtomicU32,
}

impl Stage {
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start_observed().await.unwrap();
        let manifests = zen_charts::root().join("deploy/kustomize");
        let apply = ["apply", "--server-side", "-k", manifests.to_str().unwrap()];
        control_plane.kubectl(&apply).await.unwrap();
        let client = control_plane.client().await.unwrap();
        Self { control_plane, client, folder: tempfile::tempdir().unwrap(), started: AtomicU32::new(0) }
    }

    /// One more process.
    pub async fn replica(&self) -> Replica {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let name = format!("zen-operator-{number}");
        let kubeconfig = self.kubeconfig(&name).await;
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let any = "127.0.0.1:0";
        let child = Command::new(env!("CARGO_BIN_EXE_zen-operator"))
            .env("KUBECONFIG", kubeconfig)
            .args(["--pod-name", &name, "--admin", any, "--identity", any, "--hub", any])
            .arg("--audit")
            .arg(self.folder.path().join(format!("{name}-audit")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Replica { name, child }
    }

    /// Each token has an id, which stands in the audit log.
    async fn kubeconfig(&self, name: &str) -> PathBuf {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let answer = accounts.create_token_request("zen-operator", &PostParams::default(), &request).await.unwrap();
        let token = answer.status.unwrap().token.unwrap();
        let text = std::fs::read_to_string(self.control_plane.kubeconfig()).unwrap();
        let folder = self.control_plane.kubeconfig().parent().unwrap().display().to_string();
        let users = text.find("users:").unwrap();
        let text = text[..users].replace("certificate-authority: ", &format!("certificate-authority: {folder}/"));
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, format!("{text}users: [{{name: admin, user: {{token: {token}}}}}]\n")).unwrap();
        path
    }

    /// Who holds the lease, by the name of its pod.
    pub async fn leader(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let holder = leases.get("zen-operator").await.unwrap().spec.unwrap().holder_identity.unwrap();
        holder.split_once('_').unwrap().0.to_owned()
    }

    /// Deletes what a leader makes; its UID.
    pub async fn take_away(&self) -> String {
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let uid = services.get(MADE).await.unwrap().metadata.uid.unwrap();
        services.delete(MADE, &DeleteParams::default()).await.unwrap();
        uid
    }

    /// Waits until it is there, and not the one of this UID.
    pub async fn until_made_again(&self, before: Option<String>) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = services.get_opt(MADE).await.unwrap();
            if there.is_some_and(|service| service.metadata.uid != before) {
                return;
            }
            assert!(Instant::now() < deadline, "nobody leads:\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nobody has written for a second.
    pub async fn until_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        let writes = || self.audit().iter().filter(|entry| is_leaders(entry)).count();
        let (mut seen, mut since) = (writes(), Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            assert!(Instant::now() < deadline, "it writes on and on:\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = writes();
            if std::mem::replace(&mut seen, now) != now {
                since = Instant::now();
            }
        }
    }

    pub fn audit(&self) -> Vec<audit::Entry> {
        self.control_plane.audit().unwrap()
    }

    fn logs(&self) -> String {
        let numbers = 0..self.started.load(Ordering::Relaxed);
        let log = |number: u32| {
            let log = std::fs::read_to_string(self.folder.path().join(format!("zen-operator-{number}.log")));
            format!("== {number}\n{}", log.unwrap_or_default())
        };
        numbers.map(log).collect::<Vec<_>>().join("\n")
    }
}

/// An operator that runs.
pub struct Replica {
    /// Of its pod.
    pub name: String,
    child: Child,
}

impl Replica {
    pub async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap();
        assert!(sent.success(), "{sent}");
    }

    /// How it ended, by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("ends in time").unwrap()
    }

    /// SIGTERM, and the wait for its end.
    pub async fn end(mut self) {
        self.signal("TERM").await;
        self.ended().await;
    }
}
