//! Cargo tools, pinned and built once into the user's cache folder.

use std::path::PathBuf;
use std::process::Command;

use crate::{cache, run};

/// A tool of crates.io.
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Checks bans, licences and sources of dependencies.
pub const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
/// Drives the fuzzers.
pub const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };

impl Tool {
    /// Its program, installed when it is not there yet.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        let folder = cache::folder()?.join("cargo");
        let program = folder.join("bin").join(self.name);
        if program.exists() && self.is_installed(&program) {
            return Ok(program);
        }
        eprintln!("xtask: installing {} {}; once, a few minutes", self.name, self.version);
        let mut install = Command::new("cargo");
        install.args(["install", self.name, "--version", self.version, "--locked", "--no-default-features", "--root"]);
        run::done(install.arg(&folder))?;
        Ok(program)
    }

    fn is_installed(&self, program: &std::path::Path) -> bool {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(self.version))
    }
}

/// The check that needs the internet: apart from `cargo xtask test`, for users and a scheduled job.
pub fn advisories() -> anyhow::Result<()> {
    let deny = DENY.program()?;
    run::done(Command::new(deny).args(["check", "advisories"]).current_dir(run::root()))
}
