//! `zen audit`: is a log what was written?

mod export;
mod verify;

use clap::{Args, Subcommand};

use crate::failure::Outcome;

/// Verify or export audit logs.
#[derive(Debug, Args)]
pub struct AuditCommand {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    Verify(verify::Verify),
    Export(export::Export),
}

impl AuditCommand {
    /// Runs what was asked for.
    pub fn run(self) -> Outcome {
        match self.which {
            Which::Verify(verify) => verify.run(),
            Which::Export(export) => export.run(),
        }
    }
}
