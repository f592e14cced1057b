//! `cargo xtask cluster`: a real cluster. The user's own, or one of kind, or a self-contained one.

mod addresses;
mod config;
pub mod contained;
pub mod install;
mod kind;
mod pki;
mod process;
pub mod programs;
pub mod state;
mod status;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use state::{Mode, Record, State};

use crate::run;

/// A cluster for trying and testing.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the cluster's kubeconfig and logs: another folder is another cluster [default: target/cluster].
    #[arg(long, global = true, value_name = "FOLDER")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Start one: the cluster that KUBECONFIG names, else kind if Docker runs, else one in namespaces of this machine.
    Up {
        /// API server, etcd and controllers, without a node: enough for most tests.
        #[arg(long)]
        control_plane_only: bool,
        /// Neither KUBECONFIG nor kind.
        #[arg(long)]
        self_contained: bool,
    },
    /// Build the images, load them, install the chart, wait for all that the operator makes.
    Install(install::Options),
    /// End it and remove everything but the logs. Of a cluster that KUBECONFIG named only our note of it.
    Down,
    /// What runs and how it does.
    Status,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let state = State::open(arguments.state.as_deref())?;
    match &arguments.action {
        Action::Up { control_plane_only, self_contained } => {
            let mode = if *control_plane_only { Mode::ControlPlane } else { Mode::Node };
            up(&state, mode, *self_contained)
        }
        Action::Install(options) => install::install(&state, options).map(|()| next_steps(&state)),
        Action::Down => down(&state),
        Action::Status => status::print(&state),
    }
}

fn up(state: &State, mode: Mode, self_contained: bool) -> anyhow::Result<()> {
    match state.record()? {
        Some(Record::SelfContained(cluster)) if !contained::is_running(state, &cluster) => {
            contained::down(state, &cluster)?;
        }
        Some(Record::SelfContained(cluster)) if cluster.mode != mode => {
            bail!("a {} runs here: cargo xtask cluster down", cluster.mode.name().replace('-', " "))
        }
        Some(_) => {
            eprintln!("xtask: there is a cluster already");
            return status::print(state);
        }
        None => {}
    }
    if let Some(user) = named(state).filter(|_| !self_contained) {
        let context = take(state, &user)?;
        eprintln!(
            "xtask: using the cluster that KUBECONFIG names, context {context}: everything that follows acts on it"
        );
    } else if !self_contained && mode == Mode::Node && kind::is_possible() {
        state.clear()?;
        state.write(&Record::Kind { name: install::NAME.to_owned() })?;
        kind::up(state, install::NAME)?;
    } else {
        contained::up(state, mode)?;
    }
    next_steps(state);
    Ok(())
}

/// The user's KUBECONFIG, unless it is the one that an earlier `up` made and told the user to export.
fn named(state: &State) -> Option<std::ffi::OsString> {
    let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty())?;
    let path = std::path::absolute(&named).unwrap_or_default();
    let ours = path == state.kubeconfig() || path == run::root().join("target/cluster/kubeconfig");
    (!ours).then_some(named)
}

/// Copies what KUBECONFIG says into our kubeconfig, if that cluster answers; its context.
fn take(state: &State, kubeconfig: &std::ffi::OsStr) -> anyhow::Result<String> {
    let kubectl = programs::found_or_built("kubectl")?;
    let ask = |arguments: &[&str]| run::output(Command::new(&kubectl).env("KUBECONFIG", kubeconfig).args(arguments));
    let context = ask(&["config", "current-context"])?;
    ask(&["get", "--raw", "/readyz"]).with_context(|| format!("the cluster of context {context} does not answer"))?;
    let flat = ask(&["config", "view", "--flatten", "--minify", "--raw"])?;
    state.clear()?;
    state.write_kubeconfig(&flat)?;
    state.write(&Record::Named { context: context.clone() })?;
    Ok(context)
}

fn down(state: &State) -> anyhow::Result<()> {
    match state.record()? {
        Some(Record::SelfContained(cluster)) => contained::down(state, &cluster)?,
        Some(Record::Kind { name }) => kind::down(state, &name)?,
        Some(Record::Named { context }) => {
            state.forget()?;
            eprintln!("xtask: {context} itself is as it was; what was installed there stays");
        }
        None => eprintln!("xtask: there is no cluster"),
    }
    Ok(())
}

fn next_steps(state: &State) {
    let Ok(Some(record)) = state.record() else { return };
    let installed = state.file("installed.json").exists();
    eprintln!("\nNext:\n  export KUBECONFIG={}", state.kubeconfig().display());
    if let Record::SelfContained(cluster) = &record
        && run::find("kubectl").is_none()
    {
        eprintln!("  export PATH={}:$PATH           # kubectl", cluster.bin.display());
    }
    match record {
        Record::SelfContained(cluster) if cluster.mode == Mode::ControlPlane => {
            eprintln!("  kubectl apply --server-side -f crds/yaml     # the API types");
        }
        _ if installed => eprintln!("  kubectl get pods --namespace {}", install::NAME),
        _ => eprintln!("  cargo xtask cluster install                  # images, chart"),
    }
    eprintln!("  cargo xtask cluster down                     # removes it");
}
