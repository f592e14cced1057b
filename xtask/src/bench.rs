//! `cargo xtask bench`: builds the release programs and runs the measurements.

use crate::cluster::programs;
use crate::run;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// `path` (default), `fairness`, `backlog`, `relay`, `reload`, `operator`, `leader`, `admission` or `unseal`, and its options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the bench with the release build of what it measures.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(which @ ("admission" | "unseal")) = arguments.arguments.first().map(String::as_str) {
        // On a real API server, with the stage of the webhook's tests.
        let programs = programs::built(programs::API_SERVER)?;
        let mut bench = run::cargo(&["bench", "--package", "zenlock-webhook", "--bench", "zenlock", "--", which]);
        return run::done(bench.env("ZEN_CLUSTER_BIN", programs));
    }
    let measures = |name| arguments.arguments.iter().any(|argument| argument == name);
    if measures("relay") {
        // On the stage of the relay's tests: three ingesters and two egresses with real certificates.
        let mut relay = run::cargo(&["test", "--release", "--package", "zen-ingester", "--test", "it", "relay::"]);
        return run::done(relay.args(["--", "--ignored", "--nocapture", "--test-threads=1"]));
    }
    if measures("leader") {
        return leader();
    }
    if arguments.arguments.is_empty() || measures("path") {
        run::need("nginx", "nginx-light", "the reference of the bench")?;
    }
    let beside_api_server = measures("reload") || measures("operator");
    let programs = if beside_api_server { Some(programs::built(programs::API_SERVER)?) } else { None };
    let subject = if measures("operator") { "zen-operator" } else { "zen" };
    run::done(&mut run::cargo(&["build", "--release", "--package", subject, "--package", "zen-bench"]))?;
    let release = run::target()?.join("release");
    let mut bench = std::process::Command::new(release.join("zen-bench"));
    bench.current_dir(run::root()).arg("--zen").arg(release.join("zen"));
    bench.arg("--operator").arg(release.join("zen-operator"));
    if arguments.arguments.is_empty() {
        bench.arg("path");
    }
    if let Some(programs) = programs {
        bench.env("ZEN_CLUSTER_BIN", programs);
    }
    run::done(bench.args(&arguments.arguments))
}

/// Twenty leaders end one after another: a test that is run with three of them otherwise.
fn leader() -> anyhow::Result<()> {
    let mut test = run::cargo(&["test", "--package", "zen-operator", "--test", "it", "leader", "--", "--nocapture"]);
    run::done(test.env("ZEN_LEADER_KILLS", "20").env("ZEN_CLUSTER_BIN", programs::built(programs::API_SERVER)?))
}
