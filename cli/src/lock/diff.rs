//! `zen lock diff`: which keys differ between two ZenLocks or Secrets. Values are not printed unless asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use zen_lock::Keyring;
use zen_lock::manifest::Manifests;
use zen_model::Secret;

use super::decrypt::{object, open};
use super::identity::Identities;
use super::{file, input};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Style, Table, plain_text};

/// Compare ZenLocks and Secrets by key, without showing values.
#[derive(Debug, Args)]
#[command(after_help = "\
Each file holds ZenLocks, or Secrets. Without a private key two ciphertexts can only be said to be the same text or not:
one that was sealed anew shows as unknown.

Exit codes: 0 they are the same, 1 they differ (or it cannot be told), 2 they could not be compared.")]
pub struct Diff {
    #[command(flatten)]
    identities: Identities,
    /// Print the values as well.
    #[arg(long)]
    show_values: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The older one.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The newer one.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

/// A value of either side.
enum Value {
    Plain(Secret),
    /// Without a private key.
    Sealed(String),
}

type Values = BTreeMap<String, Value>;
type Objects = BTreeMap<String, Values>;

/// How a key changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Same,
    Changed,
    Added,
    Removed,
    /// Other ciphertext; what is in it takes a private key.
    Unknown,
}

#[derive(Serialize)]
struct Row {
    object: String,
    key: String,
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

impl Diff {
    pub fn run(self) -> Outcome {
        let keyring = self.identities.keyring()?;
        let old = objects(&self.old, &keyring).map_err(|failure| failure.code(2))?;
        let new = objects(&self.new, &keyring).map_err(|failure| failure.code(2))?;
        let rows = self.rows(old, new);
        self.output.print(&rows, |rows| table(rows))?;
        match rows.iter().filter(|row| row.change != Change::Same).count() {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} of {} keys differ", rows.len()))),
        }
    }

    fn rows(&self, old: Objects, new: Objects) -> Vec<Row> {
        // One each: they are compared whatever they are called.
        let pairs: Vec<(String, Values, Values)> = if old.len() == 1 && new.len() == 1 {
            old.into_values().zip(new).map(|(old, (name, new))| (name, old, new)).collect()
        } else {
            let (mut old, mut new) = (old, new);
            let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
            let mut pair = |name: String| {
                let (old, new) = (old.remove(&name).unwrap_or_default(), new.remove(&name).unwrap_or_default());
                (name, old, new)
            };
            names.into_iter().map(&mut pair).collect()
        };
        let mut rows = Vec::new();
        for (object, old, new) in pairs {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let (old, new) = (old.get(key), new.get(key));
                let shown = |value: Option<&Value>| value.filter(|_| self.show_values).map(shown);
                let change = change(old, new);
                rows.push(Row { object: object.clone(), key: key.clone(), change, old: shown(old), new: shown(new) });
            }
        }
        rows
    }
}

fn change(old: Option<&Value>, new: Option<&Value>) -> Change {
    match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(Value::Plain(old)), Some(Value::Plain(new))) => {
            if old == new {
                Change::Same
            } else {
                Change::Changed
            }
        }
        (Some(Value::Sealed(old)), Some(Value::Sealed(new))) if old.trim_end() == new.trim_end() => Change::Same,
        _ => Change::Unknown,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Plain(secret) => plain_text(&String::from_utf8_lossy(secret.expose()), 200),
        Value::Sealed(_) => "(sealed)".to_owned(),
    }
}

fn table(rows: &[Row]) -> String {
    let style = Style::stdout();
    let mut table = Table::new(["OBJECT", "KEY", "CHANGE", ""]);
    for row in rows {
        let change = match row.change {
            Change::Same => style.faint("same"),
            Change::Changed => style.warn("changed"),
            Change::Added => style.good("added"),
            Change::Removed => style.bad("removed"),
            Change::Unknown => style.warn("unknown: give the private key with -i"),
        };
        let values = [row.old.as_deref(), row.new.as_deref()].iter().flatten().copied().collect::<Vec<_>>().join(" → ");
        table.row([plain_text(&row.object, 120), plain_text(&row.key, 80), change.into_owned(), values]);
    }
    table.render()
}

/// What a file holds: ZenLocks where there are any, else Secrets.
fn objects(path: &Path, keyring: &Keyring) -> Outcome<Objects> {
    let text = file::read_text(path)?;
    let manifests =
        Manifests::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", file::name(path))))?;
    if manifests.locks().is_empty() {
        let secrets = input::secrets_of(text.as_bytes(), &file::name(path))?;
        let name = |namespace: Option<String>, name: Option<String>| {
            let name = name.unwrap_or_default();
            namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
        };
        let plain = secrets.into_iter().map(|secret| {
            let data = secret.data.into_iter().map(|(key, value)| (key, Value::Plain(value)));
            (name(secret.namespace, secret.name), data.collect())
        });
        return Ok(plain.collect());
    }
    let mut found = Objects::new();
    for lock in manifests.locks() {
        let mut values = BTreeMap::new();
        for entry in &lock.entries {
            let value = if keyring.is_empty() {
                Value::Sealed(entry.armored.clone())
            } else {
                Value::Plain(open(lock, &entry.key, &entry.armored, path, keyring)?.plaintext)
            };
            values.insert(entry.key.clone(), value);
        }
        found.insert(object(lock), values);
    }
    Ok(found)
}
