//! `cargo xtask`: everything that builds, checks and measures the project, on any machine with cargo.

mod bench;
mod cache;
mod cluster;
mod compatibility;
mod fuzz;
mod generate;
mod go;
mod images;
mod node;
mod oracles;
mod run;
mod test;
mod tools;

use clap::{Parser, Subcommand};

/// Build, check and measure Zen Mesh.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, dependencies, generated files and every test; gets what is missing first.
    Test {
        /// Only the step whose name begins so (format, clippy, deny, generate, compatibility, test, node).
        #[arg(long)]
        only: Option<String>,
        /// Without the steps whose names begin so, e.g. node on a machine where you are not root.
        #[arg(long)]
        skip: Vec<String>,
    },
    /// A real cluster to try and test on; its kubeconfig is target/cluster/kubeconfig.
    Cluster(cluster::Arguments),
    /// Build the images from static programs, without Docker, into target/images.
    Images(images::Options),
    /// Write the CRDs and the reference in docs/ from the code, and `deploy/` from the chart.
    Generate {
        /// Fail when a file differs, write nothing.
        #[arg(long)]
        check: bool,
    },
    /// Check the dependencies for published advisories (needs the advisory database from the internet).
    Advisories,
    /// Search for crashes in every parser of outside bytes.
    Fuzz {
        /// Target; default: each in turn.
        target: Option<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Measure against references in the same run and print ratios.
    Bench(bench::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Test { only, skip } => test::run(only.as_deref(), &skip),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Images(options) => images::print(options),
        Command::Generate { check } => generate::run(check),
        Command::Advisories => tools::advisories(),
        Command::Fuzz { target, seconds } => fuzz::search(target.as_deref(), seconds),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
