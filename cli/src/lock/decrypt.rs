//! `zen lock decrypt`: ZenLock manifest → Secret manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use zen_lock::manifest::{Located, Manifests};
use zen_lock::{Keyring, OpenError, Opened};
use zen_model::Secret;

use super::file;
use super::identity::Identities;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::write_stdout;

/// Decrypt a ZenLock manifest into a Secret manifest (`data`, base64).
#[derive(Debug, Args)]
pub struct Decrypt {
    #[command(flatten)]
    identities: Identities,
    /// Only the value of this key, as it is.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A new file, 0600 [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The ZenLock manifest [default: standard input].
    #[arg(value_name = "ZENLOCK.yaml")]
    input: Option<PathBuf>,
}

/// A Secret, in the order in which people write it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretManifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    string_data: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

impl<'a> SecretManifest<'a> {
    /// With every value in `data`; or, for people, those that are text in `stringData`.
    pub fn new(lock: &'a Located, data: &'a BTreeMap<String, Secret>, for_people: bool) -> Self {
        let text = |value: &'a Secret| std::str::from_utf8(value.expose()).ok().filter(|_| for_people);
        let encoded = |value: &Secret| STANDARD.encode(value.expose());
        Self {
            api_version: "v1",
            kind: "Secret",
            metadata: Metadata { name: &lock.name, namespace: lock.namespace.as_deref() },
            r#type: "Opaque",
            data: data
                .iter()
                .filter(|(_, value)| text(value).is_none())
                .map(|(key, value)| (key.as_str(), encoded(value)))
                .collect(),
            string_data: data.iter().filter_map(|(key, value)| Some((key.as_str(), text(value)?))).collect(),
        }
    }

    pub fn text(&self) -> Outcome<String> {
        serde_saphyr::to_string(self).context("failed to write YAML")
    }
}

impl Decrypt {
    pub fn run(self) -> Outcome {
        let keyring = self.identities.required()?;
        let path = self.input.as_deref().unwrap_or(Path::new("-"));
        let manifests = read(path)?;
        let bytes = if let Some(key) = &self.key {
            one(&manifests, key, path, &keyring)?
        } else {
            let mut texts = Vec::new();
            for lock in manifests.locks() {
                texts.push(SecretManifest::new(lock, &opened(lock, path, &keyring)?, false).text()?);
            }
            Secret::new(texts.join("---\n"))
        };
        match &self.output {
            Some(output) => file::create(output, bytes.expose(), 0o600),
            None if self.key.is_some() => {
                use std::io::Write as _;
                let _ = std::io::stdout().lock().write_all(bytes.expose());
                Ok(())
            }
            None => {
                write_stdout(&String::from_utf8_lossy(bytes.expose()));
                Ok(())
            }
        }
    }
}

fn one(manifests: &Manifests, key: &str, path: &Path, keyring: &Keyring) -> Outcome<Secret> {
    let holding = |lock: &&Located| lock.entries.iter().any(|entry| entry.key == key);
    let locks: Vec<_> = manifests.locks().iter().filter(holding).collect();
    match locks.as_slice() {
        [lock] => {
            let entry = lock.entries.iter().find(|entry| entry.key == key);
            let entry = entry.ok_or_else(|| Failure::new(format!("{} has no key {key}", file::name(path))))?;
            Ok(open(lock, key, &entry.armored, path, keyring)?.plaintext)
        }
        [] => Err(Failure::new(format!("{} has no key {key}", file::name(path)))),
        _ => Err(Failure::usage(format!("several ZenLocks of {} have the key {key}", file::name(path)))),
    }
}

/// The `ZenLock`s of a file; at least one.
pub fn read(path: &Path) -> Outcome<Manifests> {
    let text = file::read_text(path)?;
    let manifests =
        Manifests::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", file::name(path))))?;
    if manifests.locks().is_empty() {
        return Err(Failure::usage(format!("{} holds no ZenLock", file::name(path))));
    }
    Ok(manifests)
}

/// How messages name it.
pub fn object(lock: &Located) -> String {
    lock.namespace.as_ref().map_or_else(|| lock.name.clone(), |namespace| format!("{namespace}/{}", lock.name))
}

/// Every value.
pub fn opened(lock: &Located, path: &Path, keyring: &Keyring) -> Outcome<BTreeMap<String, Secret>> {
    let entries = lock.entries.iter();
    entries
        .map(|entry| Ok((entry.key.clone(), open(lock, &entry.key, &entry.armored, path, keyring)?.plaintext)))
        .collect()
}

/// One value; a failure names file, object, key and what to do.
pub fn open(lock: &Located, key: &str, armored: &str, path: &Path, keyring: &Keyring) -> Outcome<Opened> {
    keyring.open(armored).map_err(|error| {
        let what = format!("{}: ZenLock {}, key {key}: {error}", file::name(path), object(lock));
        Failure::new(what).hint(match error {
            OpenError::UnknownKey => {
                "give the private key that it is sealed to with -i; have its owner seal it to yours"
            }
            OpenError::NotArmored => "encrypt it with zen lock encrypt, or with age --armor",
            OpenError::NoX25519Recipient => "encrypt it again to an age1… public key",
            OpenError::TooLarge => "split the value",
            OpenError::Malformed | OpenError::Corrupt => "restore it from Git, or encrypt the value again",
        })
    })
}
