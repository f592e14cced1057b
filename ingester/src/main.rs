//! `zen-ingester`: arguments, composition, run.

use anyhow::Context as _;
use clap::Parser as _;
use zen_ingester::pod::{self, Arguments};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.pod.start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let ended = runtime.block_on(pod::run(arguments));
    // What is left are tasks that nothing waits for any more.
    runtime.shutdown_background();
    Ok(ended?)
}
