//! The command line of `zen-audit`. Every value has an environment variable and the default of a pod.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::store;

/// Keeps the audit logs of the mesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "zen-audit", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Serve writers until SIGTERM.
    Serve(Box<Arguments>),
    /// Write every entry to standard output, as the JSON lines that they are, for `zen audit verify`.
    Export(Export),
}

/// What to do.
pub enum Task {
    /// Serve.
    Serve(Box<Arguments>),
    /// Write the chains below this folder to standard output.
    Export(PathBuf),
}

impl Cli {
    /// What the command line asks for.
    pub fn task(self) -> Task {
        match self.command {
            Command::Serve(arguments) => Task::Serve(arguments),
            Command::Export(Export { data }) => Task::Export(data),
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
struct Export {
    /// The volume.
    #[arg(long, env = "ZEN_AUDIT_DATA", value_name = "FOLDER", default_value = "/var/lib/zen-mesh/audit")]
    data: PathBuf,
}

/// How to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What all programs take.
    #[command(flatten)]
    pub pod: zen_pod::Arguments,
    /// Where writers connect to, mutual TLS.
    #[arg(long, env = "ZEN_AUDIT", value_name = "ADDRESS:PORT", default_value = "[::]:9445")]
    pub audit: SocketAddr,
    /// The volume.
    #[arg(long, env = "ZEN_AUDIT_DATA", value_name = "FOLDER", default_value = "/var/lib/zen-mesh/audit")]
    pub data: PathBuf,
    /// Entries are kept for so many days.
    #[arg(long, env = "ZEN_AUDIT_KEEP_DAYS", value_name = "DAYS", default_value_t = 90)]
    pub keep_days: u64,
    /// The most MiB of all entries; the oldest go.
    #[arg(long, env = "ZEN_AUDIT_KEEP_MIB", value_name = "MIB", default_value_t = 8192)]
    pub keep_mib: u64,
    /// Heads are anchored at most once in so many seconds.
    #[arg(long, env = "ZEN_AUDIT_ANCHOR_SECONDS", value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub anchor_seconds: u64,
}

impl Arguments {
    /// How much is kept.
    pub fn store(&self) -> store::Options {
        store::Options {
            keep_bytes: self.keep_mib << 20,
            keep_age: Duration::from_secs(self.keep_days.saturating_mul(24 * 3600)),
            ..store::Options::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the operator gives a pod is enough; the rest are the defaults that its Service goes by.
    #[test]
    fn a_pod_needs_no_argument_but_its_name() {
        let cli = Cli::try_parse_from(["zen-audit", "serve", "--pod-name", "zen-audit-0"]).expect("parses");
        let Task::Serve(arguments) = cli.task() else { panic!("another task") };
        assert_eq!((arguments.audit.port(), arguments.pod.admin.port()), (zen_audit::wire::PORT, 9901));
        let kept = arguments.store();
        assert_eq!((kept.keep_bytes, kept.keep_age), (8 << 30, Duration::from_hours(2160)));
        Cli::try_parse_from(["zen-audit", "serve", "--pod-name", "a", "--anchor-seconds", "0"]).expect_err("too often");
    }
}
