//! `cargo xtask cluster install`: images, chart, and waiting for what the operator makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::state::{Mode, Record, State};
use super::{contained, kind, programs};
use crate::images::{self, Image};
use crate::run;

/// The namespace and the release.
pub const NAME: &str = "zen-mesh";
/// What the operator makes, and the operator: all must be rolled out.
const WORKLOADS: [&str; 5] = [
    "deployment/zen-operator",
    "statefulset/zen-ingester",
    "statefulset/zen-audit",
    "deployment/zen-egress",
    "deployment/zenlock-webhook",
];

/// How to install.
#[derive(clap::Args)]
pub struct Options {
    /// Take images from this registry instead of building them; needed for a cluster that KUBECONFIG named.
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,
    /// A value of the chart, as `helm --set`.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    images: images::Options,
}

impl Options {
    /// Default values, images for tests.
    pub const TESTS: Self = Self { registry: None, set: Vec::new(), images: images::Options::TESTS };
}

/// `kubectl` and `helm` for a cluster.
pub struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Tools {
    /// Those that the cluster runs with, or the user's own.
    pub fn of(state: &State, record: &Record) -> anyhow::Result<Self> {
        let find = |name| match record {
            Record::SelfContained(cluster) => Ok(cluster.bin.join(name)),
            Record::Kind { .. } | Record::Named { .. } => programs::found_or_built(name),
        };
        let helm = match record {
            Record::SelfContained(cluster) if cluster.mode == Mode::ControlPlane => PathBuf::new(),
            _ => find("helm")?,
        };
        Ok(Self { kubectl: find("kubectl")?, helm, kubeconfig: state.kubeconfig(), home: state.file("helm") })
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECACHEDIR", &self.home).arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    fn helm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments).current_dir(run::root());
        // Nothing in the user's home. What it learns of the API it keeps where kubectl does.
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"] {
            command.env(variable, &self.home);
        }
        command
    }
}

/// Builds the images, loads them and installs the chart; returns when all that the operator makes is ready.
pub fn install(state: &State, options: &Options) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let record = state.record()?.context("there is no cluster: cargo xtask cluster up")?;
    if let (Record::Named { context }, None) = (&record, &options.registry) {
        bail!("images cannot be put into {context}: push those of `cargo xtask images` and say --registry REGISTRY");
    }
    if let Record::SelfContained(cluster) = &record {
        if cluster.mode == Mode::ControlPlane {
            bail!("a control plane runs no pods: cargo xtask cluster down, then up without --control-plane-only");
        }
        if !contained::is_running(state, cluster) {
            bail!("the cluster no longer runs: cargo xtask cluster up");
        }
    }
    let tools = Tools::of(state, &record)?;
    let images = if options.registry.is_none() { images::build(options.images)? } else { Vec::new() };
    for image in &images {
        eprintln!("xtask: loading {}", image.reference);
        match &record {
            Record::SelfContained(cluster) => contained::load(cluster, &image.archive)?,
            Record::Kind { name } => kind::load(name, &image.archive)?,
            Record::Named { .. } => {}
        }
    }

    eprintln!("xtask: installing the chart");
    let registry = format!("image.registry={}", options.registry.as_deref().unwrap_or(images::REGISTRY));
    let mut helm = tools.helm(&["upgrade", "--install", NAME, "charts/zen-mesh", "--namespace", NAME]);
    helm.args(["--create-namespace", "--wait", "--timeout", "180s", "--set", &registry]);
    for value in &options.set {
        helm.args(["--set", value]);
    }
    run::done(&mut helm)?;
    restart_if_rebuilt(state, &tools, &images)?;
    wait(&tools)?;
    eprintln!("xtask: Zen Mesh is ready in namespace {NAME} after {} s", began.elapsed().unwrap_or_default().as_secs());
    Ok(())
}

/// A tag that means another image by now does not make Kubernetes start new pods.
fn restart_if_rebuilt(state: &State, tools: &Tools, images: &[Image]) -> anyhow::Result<()> {
    let path = state.file("installed.json");
    let now: BTreeMap<&str, &str> = images.iter().map(|image| (image.program, image.digest.as_str())).collect();
    let before = fs::read(&path).unwrap_or_default();
    let before: BTreeMap<&str, &str> = serde_json::from_slice(&before).unwrap_or_default();
    for workload in WORKLOADS {
        let program = workload.split('/').next_back().unwrap_or(workload);
        if before.get(program).is_some_and(|digest| now.get(program).is_some_and(|new| new != digest)) {
            run::output(&mut tools.kubectl(&["--namespace", NAME, "rollout", "restart", workload]))?;
        }
    }
    fs::write(&path, serde_json::to_vec(&now)?).context("failed to write installed.json")
}

fn wait(tools: &Tools) -> anyhow::Result<()> {
    for workload in WORKLOADS {
        eprintln!("xtask: waiting for {workload}");
        let in_namespace = ["--namespace", NAME];
        let create = ["wait", "--for=create", workload, "--timeout=120s"];
        let rollout = ["rollout", "status", workload, "--timeout=300s"];
        for arguments in [&create[..], &rollout[..]] {
            if let Err(error) = run::output(&mut tools.kubectl(&[&in_namespace[..], arguments].concat())) {
                let _ = run::done(&mut tools.kubectl(&["--namespace", NAME, "get", "pods", "--output", "wide"]));
                let _ =
                    run::done(&mut tools.kubectl(&["--namespace", NAME, "get", "events", "--sort-by=.lastTimestamp"]));
                return Err(error);
            }
        }
    }
    // The aggregated API: one of the ingesters answers for it.
    let api = "apiservice/v1alpha1.data.zen-mesh.io";
    if run::succeeds(&mut tools.kubectl(&["get", api])) {
        run::output(&mut tools.kubectl(&["wait", "--for=condition=Available", api, "--timeout=120s"]))?;
    }
    Ok(())
}
