//! Measures Zen Mesh against references in the same run, alternating, and prints ratios. `cargo xtask bench` runs it.

mod backlog;
mod certificates;
mod disk;
mod fairness;
mod histogram;
mod http;
mod load;
mod nginx;
mod objects;
mod operator;
mod process;
mod reload;
mod sink;
mod suite;
mod zen;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measure the path from source to target.
#[derive(Parser)]
struct Arguments {
    /// The release binary of `zen`.
    #[arg(long)]
    zen: PathBuf,
    /// The release binary of `zen-operator`.
    #[arg(long)]
    operator: PathBuf,
    /// Folder for queues and logs: decides which disk is measured.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Alternating rounds; the median is printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Accepting and delivering, beside nginx and the disk.
    Path {
        /// Connections.
        #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
        connections: Vec<usize>,
        /// Body sizes in bytes.
        #[arg(long, value_delimiter = ',', default_value = "1024,65536")]
        bodies: Vec<usize>,
    },
    /// A target that hangs beside one that does not.
    Fairness,
    /// A change of one object until it is in effect at two replicas, among many, on a real API server.
    Reload {
        /// Webhooks.
        #[arg(long, default_value_t = 10_000)]
        webhooks: usize,
        /// Secrets that they name.
        #[arg(long, default_value_t = 100)]
        secrets: usize,
        /// Services that nobody names, beside which the egress plane is looked at.
        #[arg(long, default_value_t = 5_000)]
        services: usize,
        /// Changes that are timed, of each kind.
        #[arg(long, default_value_t = 200)]
        changes: usize,
    },
    /// The operator among many Webhooks, on a real API server, with a data plane that only reports.
    Operator {
        /// Webhooks.
        #[arg(long, default_value_t = 10_000)]
        webhooks: usize,
        /// Secrets that they name.
        #[arg(long, default_value_t = 100)]
        secrets: usize,
        /// Objects that are changed.
        #[arg(long, default_value_t = 100)]
        changes: usize,
    },
    /// So many events waiting: memory, accept rate, restart, disk space given back.
    Backlog {
        /// Events of 1 KiB.
        #[arg(long, default_value_t = 1_000_000)]
        events: usize,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.folder)?;
    let scratch = tempfile::tempdir_in(&arguments.folder)?;
    let time = Duration::from_secs(arguments.seconds);
    match arguments.bench {
        Bench::Path { connections, bodies } => {
            suite::run(&arguments.zen, scratch.path(), time, arguments.rounds, &connections, &bodies).await
        }
        Bench::Fairness => fairness::run(&arguments.zen, scratch.path(), time, arguments.rounds).await,
        Bench::Reload { webhooks, secrets, services, changes } => {
            reload::run(webhooks, secrets, services, changes).await
        }
        Bench::Operator { webhooks, secrets, changes } => {
            operator::run(&arguments.operator, scratch.path(), webhooks, secrets, changes).await
        }
        Bench::Backlog { events } => backlog::run(&arguments.zen, scratch.path(), events).await,
    }
}
