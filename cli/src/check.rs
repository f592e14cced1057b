//! `zen check`: are these manifests right? The same reader and compiler as the data plane, offline.

mod in_cluster;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zen_live::{Finding, Overrides};

use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::lock;
use crate::output::Output;
use crate::state::Place;

/// Check the manifests of a folder, or what a cluster says of its objects.
#[derive(Debug, Args)]
#[command(after_help = "\
One line per problem: FILE:LINE  Kind NS/NAME  field  Reason  message  (hint: …)
In a cluster (-n, -A, --context, or `kubectl zen check`): Kind NS/NAME  condition  Reason  message

Exit codes: 0 nothing is wrong (there may be warnings), 1 there are problems,
2 the check could not run.")]
pub struct Check {
    /// The folder; files *.yaml, *.yml and *.json in it and below it.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The address of a Service, where no EndpointSlice in the folder tells it.
    #[arg(long, value_name = "NS/NAME=HOST:PORT")]
    service: Vec<String>,
    /// A file of private keys, to look into ZenLocks as well [default: identity.txt in DIR/.zen, where there is one].
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    #[command(flatten)]
    cluster: InCluster,
    /// How to print what is found.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A finding for machines.
#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    line: u32,
    object: &'a str,
    field: &'a str,
    reason: &'static str,
    warning: bool,
    message: &'a str,
    hint: &'a str,
}

impl Check {
    /// Prints what is wrong; fails with 1 when something is, with 2 when it cannot tell.
    pub async fn run(self) -> Outcome {
        let Some(dir) = &self.dir else {
            if !self.cluster.is_meant(false) {
                return Err(Failure::usage("name the folder to check: zen check DIR")
                    .hint("or a cluster's namespace with -n NS, all of them with -A"));
            }
            let problems = in_cluster::problems(&self.cluster.connect().await?).await?;
            self.output.print(&problems, |problems| in_cluster::lines(problems))?;
            return in_cluster::outcome(&problems);
        };
        let overrides = overrides(&self.service)?;
        let keyring = lock::keyring(&self.identity, &Place::find(None, Some(dir)))?;
        let found = zen_live::check_with(dir, &overrides, keyring);
        let found = found.context("the check could not run").map_err(|failure| failure.code(2))?;
        let shown: Vec<_> = found.iter().map(shown).collect();
        self.output.print(&shown, |_| lines(&found))?;
        match found.iter().filter(|finding| !finding.warning).count() {
            0 => Ok(()),
            1 => Err(Failure::new("1 problem")),
            number => Err(Failure::new(format!("{number} problems"))),
        }
    }
}

/// What `--service` says, each address under its Service.
pub fn overrides(texts: &[String]) -> Outcome<Overrides> {
    let mut overrides = Overrides::new();
    for text in texts {
        let (service, addresses) =
            zen_live::service_override(text).map_err(|error| Failure::usage(error.to_string()))?;
        overrides.entry(service).or_default().extend(addresses);
    }
    Ok(overrides)
}

fn lines(found: &[Finding]) -> String {
    if found.is_empty() {
        return "no problems\n".to_owned();
    }
    let mut text = String::new();
    for finding in found {
        let _ = writeln!(text, "{}{finding}", if finding.warning { "warning: " } else { "" });
    }
    text
}

fn shown(finding: &Finding) -> Shown<'_> {
    Shown {
        file: finding.file.display().to_string(),
        line: finding.line,
        object: &finding.object,
        field: &finding.field,
        reason: finding.reason.code(),
        warning: finding.warning,
        message: &finding.message,
        hint: &finding.hint,
    }
}
