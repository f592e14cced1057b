//! `zen lock rotate`: every ZenLock of a Git folder sealed anew.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use zen_lock::manifest::{Edits, Located, Manifests};
use zen_lock::{Keyring, Recipient, inspect};

use super::decrypt::{object, open};
use super::encrypt::{count, keys, sealed};
use super::file;
use super::identity::Identities;
use super::recipients::Recipients;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::Output;

/// Seal every ZenLock of files and folders to other public keys.
#[derive(Debug, Args)]
#[command(after_help = "\
To replace a key: make the new one, give it to the mesh beside the old one, rotate with -i NEW -i OLD and -r NEW's
public key, commit, wait until no ZenLock's status names the old key (needsReencryption), remove the old key.

A value that the first private key opens already, and that is sealed to as many public keys as are given, is left as
it is, so that a second run changes nothing; --all seals these anew too. Comments and other documents stay byte for
byte. Exit code 1: some could not be opened; they are named, and left as they are.")]
pub struct Rotate {
    #[command(flatten)]
    identities: Identities,
    #[command(flatten)]
    recipients: Recipients,
    /// Also values that need it not.
    #[arg(long)]
    all: bool,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Files, and folders with all *.yaml, *.yml and *.json below them; what begins with a dot is left out.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// What became of one ZenLock.
#[derive(Debug, Serialize)]
struct Done {
    file: String,
    object: String,
    sealed: Vec<String>,
    kept: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Rotate {
    pub async fn run(self) -> Outcome {
        let keyring = self.identities.required()?;
        let mut files = Vec::new();
        for path in &self.paths {
            find(path, &mut files)
                .context(format_args!("failed to read {}", path.display()))
                .map_err(|failure| failure.code(2))?;
        }
        let recipients = self.recipients.resolve().await?;
        let (mut done, mut unreadable) = (Vec::new(), 0);
        for path in &files {
            if let Err(failure) = self.file(path, &recipients, &keyring, &mut done) {
                eprintln!("zen: {failure}");
                unreadable += 1;
            }
        }
        if done.is_empty() && unreadable == 0 {
            return Err(Failure::usage("there is no ZenLock in what was named"));
        }
        let dry = self.dry_run;
        self.output.print(&done, |done| done.iter().map(|done| line(done, dry)).collect())?;
        let failed = done.iter().filter(|done| done.problem.is_some()).count() + unreadable;
        if failed > 0 {
            return Err(Failure::new(format!("{failed} could not be rotated and stay as they are"))
                .hint("give the private keys that open them with -i"));
        }
        Ok(())
    }

    fn file(&self, path: &Path, recipients: &[Recipient], keyring: &Keyring, done: &mut Vec<Done>) -> Outcome {
        let text = file::read_text(path)?;
        // Most files of a folder hold none, and may be templates that are no YAML.
        if !text.contains("ZenLock") {
            return Ok(());
        }
        let parsed = Manifests::parse(&text);
        let mut manifests = parsed.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        for index in 0..manifests.locks().len() {
            let lock = manifests.locks()[index].clone();
            let report = |edits: &Edits, problem| {
                let (sealed, kept): (Vec<_>, Vec<_>) =
                    lock.entries.iter().map(|entry| entry.key.clone()).partition(|key| edits.contains_key(key));
                Done { file: path.display().to_string(), object: object(&lock), sealed, kept, problem }
            };
            let rotated = self.edits(&lock, path, recipients, keyring).and_then(|edits| {
                manifests.edit(index, &edits).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
                Ok(edits)
            });
            done.push(match rotated {
                Ok(edits) => report(&edits, None),
                Err(failure) => report(&Edits::new(), Some(failure.to_string())),
            });
        }
        if manifests.text() != text.as_str() && !self.dry_run {
            file::replace(path, manifests.text())?;
        }
        Ok(())
    }

    fn edits(&self, lock: &Located, path: &Path, recipients: &[Recipient], keyring: &Keyring) -> Outcome<Edits> {
        let mut edits = Edits::new();
        for entry in &lock.entries {
            let opened = open(lock, &entry.key, &entry.armored, path, keyring)?;
            let stanzas = inspect(&entry.armored).map_or(0, |header| count(&header.stanzas));
            let is_done = opened.newest && recipients.contains(&opened.with) && stanzas == recipients.len();
            if self.all || !is_done {
                let armored = sealed(&object(lock), &entry.key, &opened.plaintext, recipients)?;
                edits.insert(entry.key.clone(), Some(armored));
            }
        }
        Ok(edits)
    }
}

fn line(done: &Done, dry: bool) -> String {
    let Done { file, object, sealed, kept, problem } = done;
    match problem {
        Some(problem) => format!("{file}  {object}  not rotated: {}\n", problem.replace('\n', " ")),
        None if sealed.is_empty() => format!("{file}  {object}  up to date\n"),
        None => {
            let word = if dry { "to seal" } else { "sealed" };
            format!("{file}  {object}  {} {word}, {} kept\n", keys(sealed.len()), kept.len())
        }
    }
}

/// Manifest files in the order of their names; links are not followed.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        fs::metadata(path)?;
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let ending =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        if kind.is_dir() && !hidden {
            find(&path, files)?;
        } else if kind.is_file() && ending && !hidden {
            files.push(path);
        }
    }
    Ok(())
}
