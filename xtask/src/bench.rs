//! `cargo xtask bench`: builds the release programs and runs the measurements.

use crate::cluster::programs;
use crate::run;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// `path` (default), `fairness`, `reload` or `backlog`, and its options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the bench with the release build of `zen`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let measures = |name| arguments.arguments.iter().any(|argument| argument == name);
    if arguments.arguments.is_empty() || measures("path") {
        run::need("nginx", "nginx-light", "the reference of the bench")?;
    }
    let programs = if measures("reload") { Some(programs::built(programs::API_SERVER)?) } else { None };
    run::done(&mut run::cargo(&["build", "--release", "--package", "zen", "--package", "zen-bench"]))?;
    let target = run::target()?;
    let mut bench = std::process::Command::new(target.join("release/zen-bench"));
    bench.current_dir(run::root()).arg("--zen").arg(target.join("release/zen"));
    if arguments.arguments.is_empty() {
        bench.arg("path");
    }
    if let Some(programs) = programs {
        bench.env("ZEN_CLUSTER_BIN", programs);
    }
    run::done(bench.args(&arguments.arguments))
}
