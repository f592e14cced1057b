//! Running programs, with the command line in every error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    // Asked when it runs: a build that two clones share was compiled for one of them.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target` of the repository. Absolute.
pub fn target() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(&target).with_context(|| format!("failed to make {} absolute", target.display()))
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

/// Its standard output; an error with its standard error unless it succeeds.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start {line}"))?;
    if !output.status.success() {
        bail!("{line} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether it can be run and succeeds; what it prints is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Where a program lies on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes sure that `program` is there, by its Debian package when this is root on Debian.
pub fn need(program: &str, package: &str, what_for: &str) -> anyhow::Result<()> {
    need_all(&[(program, package)], what_for)
}

/// As [`need`], for several programs and their packages at once.
pub fn need_all(programs: &[(&str, &str)], what_for: &str) -> anyhow::Result<()> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if !(is_root() && is_there("apt-get")) {
        bail!("missing for {what_for}: {names}; install it (Debian: apt-get install {})", packages.join(" "));
    }
    eprintln!("xtask: installing Debian packages for {what_for}: {}", packages.join(" "));
    done(Command::new("apt-get").args(["-qq", "update"]))?;
    done(Command::new("apt-get").args(["-qq", "-y", "install", "--no-install-recommends"]).args(packages))
}

/// A program on PATH, or a file by its whole path.
fn is_there(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).is_file() } else { find(program).is_some() }
}

/// Polls until `condition` gives a value; `None` when it gave none within `limit`.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "other processes give no event; no paused time here"
)]
pub fn poll<T>(limit: Duration, mut condition: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
    let began = std::time::Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(Some(value));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
