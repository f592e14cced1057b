//! `zen lock edit`: the values of a ZenLock in an editor. The plaintext lies in a private folder in memory meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use zen_lock::manifest::Located;
use zen_lock::{Keyring, Recipient, inspect};
use zen_model::Secret;
use zeroize::Zeroizing;

use super::decrypt::{SecretManifest, object, open, read};
use super::encrypt::{changes, count, keys};
use super::identity::Identities;
use super::recipients::Recipients;
use super::{file, input};
use crate::failure::{Context as _, Failure, Outcome};

/// Edit the values of a ZenLock manifest in place.
#[derive(Debug, Args)]
#[command(after_help = "\
The editor is that of KUBE_EDITOR, VISUAL or EDITOR. Keys whose values stay the same keep their ciphertext; a key that is
added or changed is sealed to the public keys of -r, else to the only key that the others are sealed to, else to those
of the cluster. The plaintext lies in a file that only you can read, in /dev/shm where there is one, until the editor
ends.")]
pub struct Edit {
    #[command(flatten)]
    identities: Identities,
    #[command(flatten)]
    recipients: Recipients,
    /// The ZenLock's name, where the file holds several.
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// The ZenLock manifest.
    #[arg(value_name = "ZENLOCK.yaml")]
    file: PathBuf,
}

impl Edit {
    pub async fn run(self) -> Outcome {
        let keyring = self.identities.required()?;
        let mut manifests = read(&self.file)?;
        let index = self.which(manifests.locks())?;
        let lock = &manifests.locks()[index];
        let (before, only) = opened(lock, &self.file, &keyring)?;
        let after = edited(lock, &before).await?;
        let object = object(lock);
        if after == before {
            eprintln!("zen: {}: ZenLock {object}: nothing changed", self.file.display());
            return Ok(());
        }
        let recipients = match only {
            Some(only) if !self.recipients.are_named() => vec![only],
            _ => self.recipients.resolve().await?,
        };
        let changed: BTreeMap<_, _> = after.iter().filter(|(key, value)| before.get(*key) != Some(*value)).collect();
        let changed = changed.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        // They differ from what is there, so that each is sealed.
        let mut edits = changes(&object, lock, &changed, &recipients, &Keyring::default())?;
        let sealed = edits.len();
        let gone: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        let removed = gone.len();
        edits.extend(gone.into_iter().map(|key| (key, None)));
        manifests.edit(index, &edits).map_err(|error| Failure::new(format!("{}: {error}", self.file.display())))?;
        file::replace(&self.file, manifests.text())?;
        eprintln!("zen: {}: ZenLock {object}: {} sealed, {removed} removed", self.file.display(), keys(sealed));
        Ok(())
    }

    fn which(&self, locks: &[Located]) -> Outcome<usize> {
        let found: Vec<_> = locks
            .iter()
            .enumerate()
            .filter(|(_, lock)| self.name.as_ref().is_none_or(|name| *name == lock.name))
            .collect();
        match found.as_slice() {
            [(index, _)] => Ok(*index),
            [] => Err(Failure::usage(format!("{} holds no ZenLock of that name", self.file.display()))),
            _ => {
                let names: Vec<_> = found.iter().map(|(_, lock)| lock.name.as_str()).collect();
                Err(Failure::usage(format!("{} holds several ZenLocks", self.file.display()))
                    .hint(format!("choose one with --name: {}", names.join(", "))))
            }
        }
    }
}

/// Every value, and the public key that all of them are sealed to, where it is one alone.
fn opened(lock: &Located, path: &Path, keyring: &Keyring) -> Outcome<(BTreeMap<String, Secret>, Option<Recipient>)> {
    let (mut values, mut recipients, mut alone) = (BTreeMap::new(), BTreeSet::new(), true);
    for entry in &lock.entries {
        let opened = open(lock, &entry.key, &entry.armored, path, keyring)?;
        alone &= inspect(&entry.armored).is_ok_and(|header| count(&header.stanzas) == 1);
        recipients.insert(opened.with);
        values.insert(entry.key.clone(), opened.plaintext);
    }
    let only = recipients.pop_first().filter(|_| alone && recipients.is_empty());
    Ok((values, only))
}

/// Lets the user edit until it can be read, or gives up.
async fn edited(lock: &Located, before: &BTreeMap<String, Secret>) -> Outcome<BTreeMap<String, Secret>> {
    let folder = file::private_folder()?;
    let path = folder.path().join(format!("{}.yaml", lock.name));
    let first = Zeroizing::new(SecretManifest::new(lock, before, true).text()?);
    file::create(&path, first.as_bytes(), 0o600)?;
    let mut refused: Option<Zeroizing<Vec<u8>>> = None;
    loop {
        let status = run_editor(&path).await?;
        if !status.success() {
            return Err(Failure::new(format!("the editor ended with {status}; nothing was changed")));
        }
        let text = Zeroizing::new(fs::read(&path).context("failed to read what was edited")?);
        match plain(&text, lock) {
            Ok(values) => return Ok(values),
            // The same again: the user gives up, or the editor is a script.
            Err(failure) if refused.as_ref() == Some(&text) => return Err(failure.code(1)),
            Err(failure) => {
                eprintln!("zen: {failure}\nzen: opening the editor again; leave the text as it is to give up");
                refused = Some(text);
            }
        }
    }
}

fn plain(text: &[u8], lock: &Located) -> Outcome<BTreeMap<String, Secret>> {
    let mut secrets = input::secrets_of(text, "the edited Secret")?;
    match (secrets.pop(), secrets.len()) {
        (Some(secret), 0) if secret.name.as_deref() == Some(&lock.name) => Ok(secret.data),
        (Some(_), 0) => Err(Failure::usage("the edited Secret has another name: a ZenLock is not renamed here")),
        _ => Err(Failure::usage("the edited text is several Secrets")),
    }
}

/// Waits for the editor. SIGINT is the editor's own; any other end removes the plaintext first.
async fn run_editor(path: &Path) -> Outcome<ExitStatus> {
    let named = ["KUBE_EDITOR", "VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = named.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let caught = "failed to catch signals";
    let _interrupt = signal(SignalKind::interrupt()).context(caught)?;
    let mut terminate = signal(SignalKind::terminate()).context(caught)?;
    let mut hangup = signal(SignalKind::hangup()).context(caught)?;
    // As kubectl and git do: the variable may hold arguments.
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec {editor} \"$@\"")).arg("sh").arg(path);
    let mut child = command.spawn().context("failed to start sh")?;
    let id = Pid::from_child(&child);
    let mut waited = tokio::task::spawn_blocking(move || child.wait());
    let why = tokio::select! {
        status = &mut waited => {
            return status.context("failed to wait for the editor")?.context("failed to wait for the editor");
        }
        _ = terminate.recv() => "ended by SIGTERM",
        _ = hangup.recv() => "the terminal went away",
    };
    // It is not waited for: the plaintext goes at once.
    let _ = kill_process(id, Signal::TERM);
    Err(Failure::new(format!("{why}; nothing was changed")))
}
