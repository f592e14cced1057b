//! `zen-operator`: arguments, composition, run.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use zen_operator::run::{Arguments, Command, Listeners, Serve};
use zen_operator::{cleanup, wait};
use zen_runtime::telemetry::{self, Format};
use zen_runtime::{Shutdown, limits, listen, process};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let Arguments { serve, command } = Arguments::parse();
    if let Err(error) = telemetry::init(Format::Auto, &serve.log) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match run(serve, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: Serve, command: Option<Command>) -> anyhow::Result<()> {
    let work = async {
        match command {
            None => operate(serve).await,
            Some(command) => once(serve, command).await,
        }
    };
    process::run(work).context("failed to start")?
}

async fn operate(serve: Serve) -> anyhow::Result<()> {
    limits::raise_open_files();
    let shutdown = Shutdown::on_signals().context("failed to catch signals")?;
    let bind = |address| listen::bind(address).with_context(|| format!("failed to listen on {address}"));
    let listeners = Listeners { admin: bind(serve.admin)?, identity: bind(serve.identity)?, hub: bind(serve.hub)? };
    let client = client().await?;
    Ok(zen_operator::run::run(serve, client, listeners, &shutdown).await?)
}

async fn once(serve: Serve, command: Command) -> anyhow::Result<()> {
    let client = client().await?;
    match command {
        Command::Cleanup => {
            let deleted = cleanup::run(&client, &serve.pod_namespace, &serve.pod_name).await?;
            tracing::info!(deleted, "nothing of the operator is left in other namespaces");
        }
        Command::Wait { timeout } => {
            wait::run(&client, &serve.pod_namespace, timeout).await?;
            tracing::info!("everything is ready");
        }
    }
    Ok(())
}

async fn client() -> anyhow::Result<kube::Client> {
    zen_operator::run::client().await.map_err(|error| anyhow!(error)).context("failed to find the API server")
}
