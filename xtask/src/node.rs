//! The tests on real pods: a node of their own, the mesh installed, `zen-e2e-node` against it.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::cluster::state::{Contained, Mode, State};
use crate::cluster::{contained, install};
use crate::{images, run};

/// The package of these tests.
pub const PACKAGE: &str = "zen-e2e-node";

/// The tests of two clusters.
const CLUSTERS: &str = "clusters::";
/// Of the mesh's pods; hooks included.
const SELECTOR: &str = "app.kubernetes.io/name=zen-mesh";
/// Of each container.
const TAIL: &str = "--tail=200";

/// Ends the cluster when this process is gone, however it went: the kernel then closes the pipe that is its input. A
/// word on it says that the tests passed and the logs may go too.
const GUARD: &str = r#"
read -r verdict
[ ! -e "$2/cluster/cluster.json" ] || "$1" cluster down --state "$2/cluster"
[ "$verdict" != passed ] || rm -rf "$2"
"#;

/// Runs them. The cluster is gone afterwards; its logs stay where something failed.
pub fn tests() -> anyhow::Result<()> {
    let cluster = Temporary::new()?;
    let result = cluster.test();
    if result.is_err() {
        eprintln!("xtask: the logs of the cluster are in {}", cluster.folder.join("cluster/log").display());
    }
    cluster.end(result.is_ok())?;
    result
}

/// Keeps what Kubernetes knows beside the logs.
fn note(state: &State) -> anyhow::Result<()> {
    let Some(record) = state.record()? else { return Ok(()) };
    let tools = install::Tools::of(state, &record)?;
    for (file, arguments) in [
        ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"][..]),
        ("pods.txt", &["get", "pods,jobs", "--all-namespaces", "--output", "wide"]),
        (
            "mesh.txt",
            &["logs", "--namespace", install::NAME, "--selector", SELECTOR, "--all-containers", "--prefix", TAIL],
        ),
    ] {
        let text = run::output(&mut tools.kubectl(arguments)).unwrap_or_else(|error| format!("{error:#}"));
        fs::write(state.log().join(file), text).with_context(|| format!("failed to write {file}"))?;
    }
    Ok(())
}

/// A cluster that does not outlive this process.
struct Temporary {
    folder: PathBuf,
    guard: Child,
}

impl Temporary {
    fn new() -> anyhow::Result<Self> {
        // On the disk: /tmp may be memory.
        let target = run::target()?;
        fs::create_dir_all(&target).with_context(|| format!("failed to make {}", target.display()))?;
        let folder =
            tempfile::Builder::new().prefix("node-test-").tempdir_in(target).context("failed to make a folder")?;
        let folder = folder.keep();
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .arg(std::env::current_exe().context("this program is somewhere")?)
            .arg(&folder);
        // An interrupt from the terminal must not end the guard before what it guards.
        guard.process_group(0).stdin(Stdio::piped());
        let guard = guard.spawn().context("failed to start sh")?;
        Ok(Self { folder, guard })
    }

    fn test(&self) -> anyhow::Result<()> {
        let folder = self.folder.join("cluster");
        let state = State::open(Some(&folder))?;
        let cluster = contained::up(&state, Mode::Node)?;
        // One at a time: some of them kill what the others stand on. What they measured is shown.
        let mut test =
            run::cargo(&["test", "--package", PACKAGE, "--no-fail-fast", "--", "--test-threads=1", "--show-output"]);
        test.env("ZEN_NODE", &folder).env("ZEN_CLUSTER_BIN", &cluster.bin).env("ZEN_IMAGES", images::folder());
        // Of two clusters: after all others, so that the second one takes nothing from them.
        test.args(["--skip", CLUSTERS]);
        let result = install::install(&state, &install::Options::TESTS)
            .and_then(|()| run::done(&mut test))
            .and_then(|()| self.with_a_member(&cluster));
        if result.is_err()
            && let Err(error) = note(&state)
        {
            eprintln!("xtask: {error:#}");
        }
        result
    }

    /// The tests of a hub and its member: this cluster and another one, which has images and no mesh yet.
    fn with_a_member(&self, hub: &Contained) -> anyhow::Result<()> {
        let member = Self::new()?;
        let folder = member.folder.join("cluster");
        let result = State::open(Some(&folder)).and_then(|state| {
            let cluster = contained::up(&state, Mode::Node)?;
            for image in images::build(images::Options::TESTS)? {
                contained::load(&cluster, &image.archive)?;
            }
            let mut test =
                run::cargo(&["test", "--package", PACKAGE, CLUSTERS, "--", "--test-threads=1", "--show-output"]);
            test.env("ZEN_NODE", self.folder.join("cluster")).env("ZEN_MEMBER", &folder);
            test.env("ZEN_CLUSTER_BIN", &hub.bin).env("ZEN_IMAGES", images::folder());
            let result = run::done(&mut test);
            if result.is_err()
                && let Err(error) = note(&state)
            {
                eprintln!("xtask: {error:#}");
            }
            result
        });
        if result.is_err() {
            eprintln!("xtask: the logs of the member are in {}", folder.join("log").display());
        }
        member.end(result.is_ok())?;
        result
    }

    fn end(mut self, passed: bool) -> anyhow::Result<()> {
        if let Some(mut input) = self.guard.stdin.take() {
            let verdict: &[u8] = if passed { b"passed\n" } else { b"failed\n" };
            input.write_all(verdict).context("failed to speak to the guard")?;
        }
        self.guard.wait().context("failed to wait for the guard")?;
        anyhow::ensure!(!passed || !fs::exists(&self.folder)?, "{} is left behind", self.folder.display());
        Ok(())
    }
}
