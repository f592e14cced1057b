//! Running programs, with the command line in every error.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    // Asked when it runs: a build that two clones share was compiled for one of them.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A cargo command in the repository's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs it to its end; an error unless it succeeds.
pub fn done(command: &mut Command) -> anyhow::Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("failed to start {line}"))?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}

/// Whether a program can be started at all.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether this process may install Debian packages.
fn may_install() -> bool {
    let uid = Command::new("id").arg("-u").output();
    is_there("apt-get") && uid.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// Makes sure that `program` is there, by its Debian package when this is root on Debian.
pub fn need(program: &str, package: &str, what_for: &str) -> anyhow::Result<()> {
    if is_there(program) {
        return Ok(());
    }
    if !may_install() {
        bail!("{program} is missing, which {what_for} needs: install it (Debian: apt-get install {package})");
    }
    eprintln!("xtask: installing the Debian package {package} for {what_for}");
    done(Command::new("apt-get").args(["-qq", "update"]))?;
    done(Command::new("apt-get").args(["-qq", "-y", "install", "--no-install-recommends", package]))
}
