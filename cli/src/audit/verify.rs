//! `zen audit verify`.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::Args;
use zen_audit::Head;
use zen_audit::verify::{Finding, Lenience, Report, files};

use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Output, count, plain_text};

/// Heads that are named one by one are shown up to so many.
const SHOWN: usize = 20;

/// Verify that entries are as they were written, and that none is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Finds an edit, a deletion, a reorder, an insertion; a cut end, and a log that was written anew as a
whole, by anchored heads: lines CHAIN@NUMBER:HASH that were kept elsewhere, e.g.
  kubectl get configmap zen-mesh-audit-heads -n zen-mesh -o jsonpath='{.data.heads}' > heads
  zen audit verify audit/ --anchor heads

Prints one line for the first bad entry of each chain: FILE:LINE  CHAIN@NUMBER  fault  message

Exit codes: 0 intact, 1 something was done to the log, 2 it could not be verified.")]
pub struct Verify {
    /// Files of JSON lines, or folders with chains; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A head, or a file with heads.
    #[arg(long, value_name = "FILE|HEAD")]
    anchor: Vec<String>,
    /// Chains may begin in their middle: not all files are given.
    #[arg(long)]
    partial: bool,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Verify {
    /// Prints what is wrong; fails with 1 when something is, with 2 when it cannot tell.
    pub fn run(self) -> Outcome {
        let report = self.report().map_err(|failure| failure.code(2))?;
        self.output.print(&report, table)?;
        match report.findings.as_slice() {
            [] => Ok(()),
            [_] => Err(Failure::new("the log is not as it was written")),
            more => Err(Failure::new(format!("{} chains are not as they were written", more.len()))),
        }
    }

    fn report(&self) -> Outcome<Report> {
        let mut anchors = Vec::new();
        for anchor in &self.anchor {
            anchors.extend(heads(anchor)?);
        }
        // Standard input is read twice, as files are.
        let mut copy = None;
        let mut paths = self.files.clone();
        for path in &mut paths {
            if path.as_os_str() == "-" {
                let mut kept = tempfile::NamedTempFile::new().context("failed to keep standard input")?;
                io::copy(&mut io::stdin().lock(), &mut kept).context("failed to read standard input")?;
                kept.path().clone_into(path);
                copy = Some(kept);
            }
        }
        // Somebody who names single files need not have the other chains that an anchor knows.
        let absent = !paths.iter().any(|path| path.is_dir()) && copy.is_none();
        let lenience = Lenience { partial: self.partial, absent };
        let files = files::expand(&paths).context("it could not be verified")?;
        let mut report = files::verify(&files, &anchors, lenience).context("it could not be verified")?;
        if let Some(copy) = copy {
            for finding in &mut report.findings {
                if finding.file.as_deref() == Some(copy.path()) {
                    finding.file = Some(PathBuf::from("-"));
                }
            }
        }
        Ok(report)
    }
}

/// A head as it stands, or the heads of a file: one a line; empty lines and those that begin with # say nothing.
fn heads(text: &str) -> Outcome<Vec<Head>> {
    if let Ok(head) = text.parse() {
        return Ok(vec![head]);
    }
    let mut content = String::new();
    let opened = std::fs::File::open(text).and_then(|mut file| file.read_to_string(&mut content));
    opened.context(format_args!("failed to read the anchor {text}"))?;
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let heads: Vec<Head> = lines
        .map(|line| line.parse().context(format_args!("failed to read the anchor {text}: {}", plain_text(line, 80))))
        .collect::<Outcome<_>>()?;
    if heads.is_empty() {
        return Err(Failure::usage(format!("the anchor {text} names no head")));
    }
    Ok(heads)
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{}", line(finding));
    }
    if report.findings.is_empty() {
        let (entries, chains) = (count(report.entries), report.heads.len());
        let _ =
            writeln!(text, "intact: {entries} entries of {chains} chains, {} anchored heads compared", report.compared);
    }
    if report.degraded > 0 {
        let (degraded, lost) = (count(report.degraded), count(report.lost));
        let _ = writeln!(text, "{degraded} entries were written while something did not work; {lost} were lost then");
    }
    for head in report.not_given.iter().take(SHOWN) {
        let _ = writeln!(text, "not given: {}/{} up to entry {}", head.writer, head.chain, head.seq);
    }
    if report.not_given.len() > SHOWN {
        let _ = writeln!(text, "not given: {} more chains", report.not_given.len() - SHOWN);
    }
    text
}

fn line(finding: &Finding) -> String {
    let mut text = match &finding.file {
        Some(file) => format!("{}:{}", file.display(), finding.line),
        None => "(no file)".to_owned(),
    };
    if let (Some(writer), Some(chain)) = (&finding.writer, &finding.chain) {
        let _ = write!(text, "  {writer}/{chain}");
        if let Some(seq) = finding.seq {
            let _ = write!(text, "@{seq}");
        }
    }
    let _ = write!(text, "  {}  {}", finding.fault, plain_text(&finding.message, 200));
    text
}
