//! `zen-ingester`: arguments, composition, run.

use anyhow::Context as _;
use clap::Parser as _;
use zen_ingester::pod::{self, Arguments};
use zen_runtime::process;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.pod.start_logging()?;
    Ok(process::run(pod::run(arguments)).context("failed to start")??)
}
