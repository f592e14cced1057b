//! `cargo xtask cluster status`: what runs here and how it does.

use super::contained;
use super::install::{NAME, Tools};
use super::state::{Record, State};
use crate::run;

/// Prints it. An error when there is no cluster, or one that does not answer.
pub fn print(state: &State) -> anyhow::Result<()> {
    let Some(record) = state.record()? else { anyhow::bail!("there is no cluster: cargo xtask cluster up") };
    match &record {
        Record::Named { context } => println!("cluster     the one that KUBECONFIG named, context {context}"),
        Record::Kind { name } => println!("cluster     kind, {name}"),
        Record::SelfContained(cluster) => {
            if !contained::is_running(state, cluster) {
                anyhow::bail!("the cluster no longer runs: cargo xtask cluster up starts a new one");
            }
            println!("cluster     self-contained {}, number {}", cluster.mode.name(), cluster.number.0);
            println!("logs        {}", state.log().display());
        }
    }
    println!("kubeconfig  {}", state.kubeconfig().display());
    let tools = Tools::of(state, &record)?;
    let ask = |arguments: &[&str]| run::output(&mut tools.kubectl(arguments));
    println!("API server  {}", ask(&["get", "--raw", "/readyz"])?);
    for line in ask(&["get", "nodes", "--no-headers"])?.lines() {
        println!("node        {line}");
    }
    let pods = ask(&["get", "pods", "--namespace", NAME, "--no-headers", "--ignore-not-found"])?;
    if pods.is_empty() {
        println!("Zen Mesh    not installed: cargo xtask cluster install");
    }
    for line in pods.lines() {
        println!("Zen Mesh    {line}");
    }
    Ok(())
}
