//! A self-contained node that runs already.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::component::Component;
use crate::{audit, wait};

/// Where it is and how to reach it.
pub struct Cluster {
    folder: PathBuf,
    record: Record,
    /// With all rights. It belongs to the runtime that opened the cluster.
    pub client: kube::Client,
}

/// A container that ran. One that is started in its place is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container(String);

/// A component that stays down. When this is dropped it starts again.
#[derive(Debug)]
#[must_use = "the component starts again when this is dropped"]
pub struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What we need of `cluster.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    mode: String,
    init_pid: i32,
    node: String,
    host_ip: String,
    node_ip: String,
    bin: PathBuf,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.folder.display())
    }
}

impl Cluster {
    /// The one in the folder `ZEN_NODE`, or in `target/cluster`.
    pub async fn open() -> Result<Self> {
        let default = || crate::root().join("target/cluster");
        Self::at(std::env::var_os("ZEN_NODE").map_or_else(default, PathBuf::from)).await
    }

    /// Another one beside it, in the folder `ZEN_MEMBER`: without a mesh.
    pub async fn open_member() -> Result<Self> {
        let folder = std::env::var_os("ZEN_MEMBER");
        Self::at(
            folder
                .map(PathBuf::from)
                .context("ZEN_MEMBER names no second cluster; see `cargo xtask test --only node`")?,
        )
        .await
    }

    async fn at(folder: PathBuf) -> Result<Self> {
        let missing = || format!("no self-contained node in {}: `cargo xtask cluster up` starts one", folder.display());
        let text = std::fs::read(folder.join("cluster.json")).with_context(missing)?;
        let record: Record = serde_json::from_slice(&text).with_context(missing)?;
        if record.mode != "node" {
            bail!(missing());
        }
        let kubeconfig = Kubeconfig::read_from(folder.join("kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { folder, record, client: kube::Client::try_from(config)? })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The Node object's name.
    pub fn node(&self) -> &str {
        &self.record.node
    }

    /// What a pod calls to reach a server of the test; `host.test` is a name for it.
    pub fn host_ip(&self) -> &str {
        &self.record.host_ip
    }

    /// The node's own address, where the ports of Services of type `NodePort` answer. Pods and Services can be reached from here by their addresses.
    pub fn node_ip(&self) -> &str {
        &self.record.node_ip
    }

    /// A program of the cluster: `kubectl`, `helm`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.record.bin.join(name)
    }

    /// The log of a component, or `audit`, so far.
    pub fn log(&self, name: &str) -> Result<String> {
        let path = self.folder.join("log").join(format!("{name}.log"));
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// Every request that the API server has answered so far.
    pub fn audit(&self) -> Result<Vec<audit::Entry>> {
        audit::read(&self.folder.join("log/audit.log"))
    }

    /// Ends a component with SIGKILL. It is started again at once.
    pub async fn kill(&self, component: Component) -> Result<()> {
        self.signal(component, "KILL").await
    }

    /// Sends a component a signal: `STOP` and `CONT` suspend and resume it.
    pub async fn signal(&self, component: Component, signal: &str) -> Result<()> {
        let pid = self.pid(component)?;
        self.inside(&format!("kill -{signal} {pid}")).await.map(drop)
    }

    /// A container of a pod, as it runs now.
    pub async fn container(&self, namespace: &str, pod: &str, container: &str) -> Result<Container> {
        let template = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}");
        let id = self.kubectl(&["get", "pod", pod, "--namespace", namespace, "--output", &template]).await?;
        let id = id.strip_prefix("containerd://").with_context(|| format!("{container} of {pod} does not run"))?;
        Ok(Container(id.to_owned()))
    }

    /// Ends every process of a container with SIGKILL, as the kernel would when memory is short. The API server need not
    /// be there.
    pub async fn kill_container(&self, Container(id): &Container) -> Result<()> {
        // A cgroup has the container's id in its path.
        let kill = format!("grep -l {id} /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs --no-run-if-empty kill -KILL");
        self.inside(&kill).await.map(drop)
    }

    /// Ends the process that a pod's network belongs to: all of the pod is started anew, init containers too.
    pub async fn kill_sandbox(&self, namespace: &str, pod: &str) -> Result<()> {
        let uid = ["get", "pod", pod, "--namespace", namespace, "--output", "jsonpath={.metadata.uid}"];
        let uid = self.kubectl(&uid).await?;
        let kill = format!(
            "killed=; for process in $(grep -lE 'pod({uid}|{})' /proc/[0-9]*/cgroup | cut -d/ -f3); do \
             if grep -q 2000000000 /proc/$process/cmdline; then kill -KILL $process; killed=yes; fi; done; test $killed",
            uid.replace('-', "_")
        );
        self.inside(&kill).await.map(drop)
    }

    /// A line of shell in the cluster's pid and mount namespaces.
    async fn inside(&self, line: &str) -> Result<String> {
        let target = self.record.init_pid.to_string();
        self.run("nsenter", ["--target", &target, "--pid", "--mount", "--", "/bin/sh", "-c", line], None).await
    }

    /// Ends a component and keeps it down until the value is dropped.
    pub async fn hold(&self, component: Component) -> Result<Held> {
        let file = self.folder.join("run/held").join(component.name());
        std::fs::write(&file, "").context("failed to write a file")?;
        let held = Held(file);
        self.kill(component).await.map(|()| held)
    }

    /// The component's process now, as its own namespace counts.
    pub fn pid(&self, component: Component) -> Result<u32> {
        let path = self.folder.join("run/pids").join(component.name());
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} never ran", component.name()))?;
        text.trim().parse().context("a pid")
    }

    /// Waits until the API server answers and the node is ready.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        wait::until("the cluster is ready", limit, async || {
            let node = format!("node/{}", self.node());
            self.kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=1s"]).await.map(Some)
        })
        .await
        .map(drop)
    }

    /// `kubectl` as administrator; its standard output. Fails with its standard error.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(self.program("kubectl"), arguments, None).await
    }

    /// `helm` as administrator, in the repository's root.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run(self.program("helm"), arguments, None).await
    }

    /// `kubectl zen`: our program as kubectl's plugin.
    pub async fn zen(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let plugin = self.plugins().join("kubectl-zen");
        std::fs::create_dir_all(self.plugins()).context("failed to make a folder")?;
        match std::os::unix::fs::symlink(crate::images::binary("zen")?, &plugin) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        self.run(self.program("kubectl"), [&["zen"], arguments].concat(), input).await
    }

    fn plugins(&self) -> PathBuf {
        self.folder.join("run/plugins")
    }

    /// Whether any of these stands anywhere in what etcd has written: all keys, all revisions, raw bytes. Returns those that do.
    pub fn found_in_etcd<'a>(&self, needles: &[&'a [u8]]) -> Result<Vec<&'a [u8]>> {
        zen_e2e::etcd::found(&self.folder.join("run/etcd"), needles)
    }

    /// Applies manifests, server-side.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.run(self.program("kubectl"), ["apply", "--server-side", "-f", "-"], Some(yaml)).await
    }

    /// Runs a command in a container.
    pub async fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", "--namespace", namespace, pod, "--"], command].concat()).await
    }

    async fn run(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: Option<&str>,
    ) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).kill_on_drop(true);
        command.current_dir(crate::root());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.plugins()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path).context("PATH")?);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME", "KUBECACHEDIR"] {
            command.env(variable, self.folder.join("run/tools"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = format!("{:?}", command.as_std());
        let mut child = command.spawn().with_context(|| format!("failed to start {line}"))?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let text = input.unwrap_or_default().as_bytes();
        let (written, output) = tokio::join!(
            async move {
                // Whoever does not want input has closed the pipe: its exit says why.
                let _ = stdin.write_all(text).await;
                drop(stdin);
                Ok::<_, std::io::Error>(())
            },
            child.wait_with_output()
        );
        written?;
        let output = output?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
