//! `zen audit export`.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use clap::Args;
use zen_audit::Entry;
use zen_audit::verify::files;
use zen_model::Timestamp;

use crate::failure::{Context as _, Failure, Outcome};

/// Write entries as JSON lines, as they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Lines are written byte for byte, chain by chain. A selection still shows an edit of what is in it, and
nothing else: what is missing only a whole log tells.")]
pub struct Export {
    /// Files of JSON lines, or folders with chains.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only entries of this time or later (RFC 3339), or not older than e.g. 10m.
    #[arg(long, value_name = "TIME|AGE", value_parser = crate::parse::time)]
    since: Option<Timestamp>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME|AGE", value_parser = crate::parse::time)]
    until: Option<Timestamp>,
    /// Only those of a component (zen-egress), or of one of its pods (zen-egress/POD).
    #[arg(long, value_name = "NAME")]
    writer: Option<String>,
    /// Only this action, e.g. secret.access.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was refused.
    #[arg(long)]
    refused: bool,
}

impl Export {
    /// Writes to standard output; fails with 1 when a line is no entry, and writes the others.
    pub fn run(self) -> Outcome {
        let mut out = BufWriter::new(io::stdout().lock());
        let mut bad = 0_u64;
        let mut gone = false;
        let paths = files::expand(&self.files).context("failed to export").map_err(|failure| failure.code(2))?;
        for path in paths {
            let read = files::lines(&path, |_, line, _| match Entry::parse(line) {
                Ok(entry) if self.wants(&entry) && !gone => {
                    // A reader that went away (`| head`) is not an error.
                    gone = out.write_all(line).and_then(|()| out.write_all(b"\n")).is_err();
                }
                Ok(_) => {}
                Err(_) => bad += 1,
            });
            read.context("failed to export").map_err(|failure| failure.code(2))?;
        }
        let _ = out.flush();
        match bad {
            0 => Ok(()),
            bad => {
                Err(Failure::new(format!("{bad} lines are no entries")).hint("run zen audit verify on the same files"))
            }
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        let is_writer = |name: &String| *name == entry.writer.to_string() || name == entry.writer.component();
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && self.writer.as_ref().is_none_or(is_writer)
            && self.action.as_ref().is_none_or(|action| *action == entry.action)
            && !(self.refused && entry.allowed)
    }
}
