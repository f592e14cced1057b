//! `zenlock-webhook`: `serve` in the mesh, `fetch` in the pods that use ZenLocks.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zen_runtime::{process, telemetry};
use zenlock_webhook::{fetch, protect, serve};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// ZenLocks for pods.
#[derive(Parser)]
#[command(name = "zenlock-webhook", version, max_term_width = 120)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Admission of pods and ZenLocks, and the unseal API.
    Serve(Box<serve::Arguments>),
    /// Writes plaintext into a volume in memory.
    Fetch(fetch::Arguments),
}

fn main() -> ExitCode {
    let mut line: Vec<OsString> = std::env::args_os().collect();
    if line.len() < 2 {
        // The operator's pods get everything from their environment.
        line.push("serve".into());
    }
    let ended = match Program::parse_from(line).command {
        Command::Serve(arguments) => serve(*arguments),
        Command::Fetch(arguments) => fetch(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line of a container that failed is what kubectl describe shows.
            eprintln!("zenlock-webhook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: serve::Arguments) -> anyhow::Result<()> {
    arguments.pod.start_logging()?;
    protect::protect();
    Ok(process::run(serve::run(arguments))??)
}

fn fetch(arguments: &fetch::Arguments) -> anyhow::Result<()> {
    telemetry::init(telemetry::Format::Auto, "info")?;
    protect::protect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = fetch::run(arguments, None) => Ok(ended?),
            _ = terminated.recv() => Ok(()),
        }
    })
}
