//! Starts etcd and kube-apiserver in a temporary folder, and ends them with the test, however that ends.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{audit, pki};

/// How long a start may take on a loaded machine. It takes about four seconds on a quiet one.
const START: Duration = Duration::from_secs(90);

/// Runs both programs until standard input ends. The kernel closes that pipe when the test's process is gone, whether
/// it returned, panicked or was killed: so nothing is left behind, without a signal handler.
const SCRIPT: &str = r#"
cd "$1" || exit 1
folder=$1 bin=$2 port=$3
shift 3
"$bin/etcd" --name default --data-dir etcd --unsafe-no-fsync --logger zap --log-level warn \
  --listen-client-urls unix://etcd:1 --advertise-client-urls unix://etcd:1 \
  --listen-peer-urls unix://etcd:2 --initial-advertise-peer-urls unix://etcd:2 \
  --initial-cluster default=unix://etcd:2 >etcd.log 2>&1 </dev/null &
etcd=$!
"$bin/kube-apiserver" --etcd-servers=unix://etcd:1 --bind-address=127.0.0.1 --secure-port="$port" \
  --advertise-address=192.0.2.1 --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/24 \
  --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount \
  --client-ca-file=ca.crt --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key "$@" >kube-apiserver.log 2>&1 </dev/null &
apiserver=$!
read -r _
kill -9 $apiserver $etcd
wait
rm -rf "$folder"
"#;

/// Every request once it is answered, and whom the API server forwards requests as: for tests that need either.
const OBSERVED: [&str; 11] = [
    "--audit-policy-file=audit.yaml",
    "--audit-log-path=audit.log",
    "--audit-log-maxsize=100000",
    "--enable-aggregator-routing=true",
    "--requestheader-client-ca-file=front-proxy-ca.crt",
    "--requestheader-allowed-names=front-proxy-client",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    "--proxy-client-cert-file=front-proxy-client.crt",
    "--proxy-client-key-file=front-proxy-client.key",
];

/// The same as of a node.
const AUDIT: &str = include_str!("../cluster/config/audit.yaml");

/// A running control plane. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct ControlPlane {
    folder: TempDir,
    binaries: PathBuf,
    guard: Child,
}

impl ControlPlane {
    /// Starts one on a free port of the loopback and waits until it is ready.
    ///
    /// The programs come from the folder `ZEN_CLUSTER_BIN`, else from where `cargo xtask` puts them:
    /// `zen-mesh/bin` in `XDG_CACHE_HOME`, or in `~/.cache`.
    pub async fn start() -> Result<Self> {
        Self::start_from(&binaries()).await
    }

    /// As [`ControlPlane::start`], with the programs of this folder.
    pub async fn start_from(binaries: &Path) -> Result<Self> {
        Self::start_with(binaries, &[], AUDIT).await
    }

    /// As [`ControlPlane::start`], with an audit log ([`ControlPlane::audit`]) and aggregated APIs, which it finds by the
    /// `EndpointSlice`s of their Services.
    pub async fn start_observed() -> Result<Self> {
        Self::start_with(&binaries(), &OBSERVED, AUDIT).await
    }

    /// As [`ControlPlane::start_observed`]; what was asked and answered stands in the audit log word for word
    /// ([`ControlPlane::recorded`]).
    pub async fn start_recorded() -> Result<Self> {
        let audit = AUDIT.replace("level: Metadata", "level: RequestResponse");
        Self::start_with(&binaries(), &OBSERVED, &audit).await
    }

    async fn start_with(binaries: &Path, arguments: &[&str], audit: &str) -> Result<Self> {
        for program in ["etcd", "kube-apiserver", "kubectl"] {
            if !binaries.join(program).is_file() {
                bail!("{program} is missing in {}: `cargo xtask test` builds it", binaries.display());
            }
        }
        let folder = tempfile::Builder::new().prefix("zen-e2e-").tempdir().context("failed to make a folder")?;
        pki::write(folder.path())?;
        let port = free_port()?;
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig(port))?;
        std::fs::write(folder.path().join("audit.yaml"), audit)?;
        let guard = Command::new("sh")
            .args(["-c", SCRIPT, "control-plane"])
            .args([folder.path(), binaries])
            .arg(port.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal must not end the shell before what it runs.
            .process_group(0)
            .spawn()
            .context("failed to start a shell")?;
        let control_plane = Self { folder, binaries: binaries.to_owned(), guard };
        control_plane.ready().await?;
        Ok(control_plane)
    }

    /// Those of `needles` that stand anywhere in what etcd has written.
    pub fn found_in_etcd<'a>(&self, needles: &[&'a [u8]]) -> Result<Vec<&'a [u8]>> {
        crate::etcd::found(&self.folder.path().join("etcd"), needles)
    }

    async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        let client = self.client().await?;
        loop {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the API server was not ready within {START:?}:\n{}", self.last_log_lines());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A client with all rights. It belongs to the runtime that uses it first.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.config().await?)?)
    }

    /// What such a client is made of.
    pub async fn config(&self) -> Result<kube::Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }

    /// What a client is made of that has the rights of a token's owner.
    pub async fn config_of(&self, token: String) -> Result<kube::Config> {
        let mut config = self.config().await?;
        config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
        Ok(config)
    }

    /// Every request so far of one that [`ControlPlane::start_observed`] started.
    pub fn audit(&self) -> Result<Vec<audit::Entry>> {
        audit::read(&self.folder.path().join("audit.log"))
    }

    /// The audit log as it was written.
    pub fn recorded(&self) -> Result<Vec<u8>> {
        let path = self.folder.path().join("audit.log");
        std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// `kubectl` as administrator; its standard output. Fails with its standard error.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(self.binaries.join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command.arg("--cache-dir").arg(self.folder.path().join("kubectl-cache"));
        let output = command.stdin(Stdio::null()).output().await.context("failed to run kubectl")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn last_log_lines(&self) -> String {
        let tail = |name: &str| {
            let log = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            format!("== {name}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        tail("etcd.log") + &tail("kube-apiserver.log")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Below the range of which connections get theirs: these tests open hundreds, and one of those would take it before the API
/// server does.
fn free_port() -> Result<u16> {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(1000);
    ports.find(is_free).context("no port from 20000 to 29999 is free")
}

/// Where the programs of a cluster are.
pub fn binaries() -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|base| base.is_absolute());
    let cache = || named.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"));
    let programs = std::env::var_os("ZEN_CLUSTER_BIN").map(PathBuf::from);
    programs.unwrap_or_else(|| cache().join("zen-mesh/bin"))
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]
clusters: [{{name: test, cluster: {{server: \"https://127.0.0.1:{port}\", certificate-authority: ca.crt}}}}]
users: [{{name: admin, user: {{client-certificate: admin.crt, client-key: admin.key}}}}]
"
    )
}
