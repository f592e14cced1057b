//! `zen-audit`: arguments, composition, run.

use anyhow::Context as _;
use clap::Parser as _;
use zen_audit_store::pod::{self, Cli, Task};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let arguments = match Cli::parse().task() {
        Task::Export(data) => return pod::export(&data).context("failed to export"),
        Task::Serve(arguments) => arguments,
    };
    arguments.pod.start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let ended = runtime.block_on(pod::run(*arguments));
    // What is left are tasks that nothing waits for any more.
    runtime.shutdown_background();
    Ok(ended?)
}
