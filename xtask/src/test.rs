//! `cargo xtask test`: what CI runs, in the order in which a failure is cheapest to find.

use std::process::Command;
use std::time::SystemTime;

use anyhow::bail;

use crate::cluster::programs;
use crate::{compatibility, generate, node, oracles, run, tools};

/// A named step.
type Step = (&'static str, fn() -> anyhow::Result<()>);

const STEPS: [Step; 7] = [
    ("format", || run::done(&mut run::cargo(&["fmt", "--all", "--check"]))),
    ("clippy", clippy),
    ("deny", deny),
    ("generate", || generate::run(true)),
    ("compatibility", compatibility::check),
    ("test", tests),
    ("node", node::tests),
];

/// Runs every step, or those whose names begin with `only`, without those whose names begin with one of `skip`.
pub fn run(only: Option<&str>, skip: &[String]) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let wanted = |name: &str| {
        name.starts_with(only.unwrap_or_default()) && !skip.iter().any(|skipped| name.starts_with(skipped.as_str()))
    };
    // At once, and not after everything else.
    if wanted("node") && !run::is_root() {
        bail!("the step node makes namespaces and mounts and needs root: leave it out with --skip node");
    }
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        let step_began = SystemTime::now();
        eprintln!("xtask: ── {name}");
        step()?;
        eprintln!("xtask: ── {name} took {} s", seconds(step_began));
    }
    eprintln!("xtask: everything passed in {} s", seconds(began));
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    run::done(&mut run::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn deny() -> anyhow::Result<()> {
    let deny = tools::DENY.program()?;
    let arguments = ["--log-level", "error", "check", "bans", "licenses", "sources"];
    run::done(Command::new(deny).args(arguments).current_dir(run::root()))
}

fn tests() -> anyhow::Result<()> {
    let (programs, sdks, age) = (programs::built(programs::TESTS)?, oracles::sdks()?, oracles::age()?);
    // Pods have a step of their own.
    let mut test = run::cargo(&["test", "--workspace", "--exclude", node::PACKAGE, "--no-fail-fast"]);
    run::done(test.env("ZEN_CLUSTER_BIN", programs).env("ZEN_ORACLES", sdks).env("ZEN_AGE_ORACLE", age))
}

fn seconds(since: SystemTime) -> u64 {
    since.elapsed().unwrap_or_default().as_secs()
}
