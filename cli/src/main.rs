//! `zen`: everything that people type (API.md). Each command is a module; this file knows only their names.

mod audit;
mod certs;
mod check;
mod client;
mod cluster;
mod dead_letters;
mod enroll;
mod events;
mod failure;
mod keys;
mod listen;
mod lock;
mod manifests;
mod net;
mod output;
mod parse;
mod rotate;
mod send;
mod state;
mod status;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::Outcome;
use zen_runtime::{process, telemetry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXAMPLES: &str = "\
Examples:
  zen up examples/quickstart --demo            the whole mesh here, with a demonstration
  zen check examples/quickstart                are these manifests right?
  zen send github --dir examples/quickstart --webhook team-a/github
  zen events --dir examples/quickstart         what became of the events
  zen dead-letters replay --all --dir DIR      deliver again what could not be delivered
  zen lock encrypt -r age1… secret.yaml        a Secret as ciphertext, for Git

Commands that speak to a running mesh find it by --dir DIR (the folder of its manifests),
--state FOLDER, the environment's ZEN_STATE, or ./.zen. With --context, -n or -A, or installed as
kubectl-zen (`kubectl zen status`), they ask the mesh in the cluster, as the kubeconfig's user.
Exit codes: 0 done, 1 it did not work, 2 it could not be tried.";

/// Webhooks in, verified and safe on disk, delivered to private services.
#[derive(Debug, Parser)]
#[command(name = "zen", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 120)]
struct Cli {
    /// What to log on standard error: a level (error, warn, info, debug, trace) or TARGET=LEVEL,…
    #[arg(long, global = true, env = "ZEN_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Check(check::Check),
    Send(send::Send),
    Listen(listen::Listen),
    Status(status::StatusCommand),
    Events(events::Events),
    DeadLetters(dead_letters::DeadLetters),
    Replay(dead_letters::Replay),
    Keys(keys::KeysCommand),
    Audit(audit::AuditCommand),
    Lock(lock::LockCommand),
    Certs(certs::Certs),
    Rotate(rotate::Rotate),
    Enroll(enroll::Enroll),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(telemetry::Format::Auto, &cli.log) {
        eprintln!("zen: {error}");
        return ExitCode::from(2);
    }
    match process::run(run(cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zen: failed to start: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(failure)) => {
            eprintln!("zen: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Up(up) => up.run().await,
        Command::Check(check) => check.run().await,
        Command::Send(send) => send.run().await,
        Command::Listen(listen) => listen.run().await,
        Command::Status(status) => status.run().await,
        Command::Events(events) => events.run().await,
        Command::DeadLetters(dead_letters) => dead_letters.run().await,
        Command::Replay(replay) => replay.run().await,
        Command::Keys(keys) => keys.run().await,
        Command::Audit(audit) => audit.run(),
        Command::Lock(lock) => lock.run().await,
        Command::Certs(certs) => certs.run().await,
        Command::Rotate(rotate) => rotate.run().await,
        Command::Enroll(enroll) => enroll.run().await,
    }
}
