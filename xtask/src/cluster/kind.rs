//! A cluster in Docker, for machines that have Docker and kind.

use std::path::Path;
use std::process::Command;

use super::state::State;
use crate::run;

/// Whether Docker answers and kind is there.
pub fn is_possible() -> bool {
    run::find("kind").is_some() && run::succeeds(Command::new("docker").arg("info"))
}

/// Makes it by `kind-config.yaml`.
pub fn up(state: &State, name: &str) -> anyhow::Result<()> {
    let mut create = Command::new("kind");
    create.args(["create", "cluster", "--name", name, "--wait", "180s", "--config"]);
    create.arg(run::root().join("kind-config.yaml")).arg("--kubeconfig").arg(state.kubeconfig());
    run::done(&mut create)
}

/// Deletes it.
pub fn down(state: &State, name: &str) -> anyhow::Result<()> {
    let mut delete = Command::new("kind");
    delete.args(["delete", "cluster", "--name", name, "--kubeconfig"]);
    run::done(delete.arg(state.kubeconfig()))?;
    state.forget()
}

/// Puts an image into its node.
pub fn load(name: &str, archive: &Path) -> anyhow::Result<()> {
    run::done(Command::new("kind").args(["load", "image-archive", "--name", name]).arg(archive))
}
