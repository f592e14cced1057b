//! Plaintext on its way in: Secret manifests, `.env` files, plain files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zen_live::manifest::{self, Object};
use zen_live::yaml::Node;
use zen_lock::dotenv;
use zen_model::Secret;

use super::file;
use crate::failure::{Failure, Outcome};

/// What is to become one ZenLock.
#[derive(Debug, Default)]
pub struct Plain {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub labels: Vec<(String, String)>,
    pub data: BTreeMap<String, Secret>,
}

/// The Secrets of a manifest file or standard input.
pub fn secrets(path: &Path) -> Outcome<Vec<Plain>> {
    let bytes = file::read(path)?;
    let name = file::name(path);
    secrets_of(&bytes, &name)
}

/// The Secrets of a text; `name` is for messages.
pub fn secrets_of(bytes: &[u8], name: &str) -> Outcome<Vec<Plain>> {
    let read = manifest::read(Path::new(name), bytes);
    if let Some(finding) = read.findings.iter().find(|finding| !finding.warning) {
        let what = format!("{name}: line {}: {}", finding.line, finding.message);
        return Err(
            Failure::usage(what).hint("the input is a Secret manifest, an .env file (--from-env-file) or --from-file")
        );
    }
    let mut found = Vec::new();
    for manifest in read.manifests {
        let Object::Secret(secret) = &manifest.object else {
            return Err(Failure::usage(format!("{name}: line {}: it holds a {}", manifest.node.line, manifest.kind))
                .hint("give Secrets only; other objects need no encryption"));
        };
        let metadata = manifest.node.get("metadata");
        let text = |field| metadata.and_then(|metadata| metadata.get(field)).and_then(Node::as_str).map(str::to_owned);
        let labels = metadata.and_then(|metadata| metadata.get("labels")).map(Node::entries).unwrap_or_default();
        let labels = labels.iter().filter_map(|(key, value)| Some((key.text.clone(), value.as_str()?.to_owned())));
        if secret.r#type() != "Opaque" {
            eprintln!("zen: a ZenLock has no type: {} is left out of {name}", secret.r#type());
        }
        found.push(Plain {
            name: text("name"),
            namespace: text("namespace"),
            labels: labels.collect(),
            data: secret.entries().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        });
    }
    if found.is_empty() {
        let hint =
            "the input is a Secret manifest (kubectl create secret generic … --dry-run=client -o yaml makes one)";
        return Err(Failure::usage(format!("{name} holds no Secret")).hint(hint));
    }
    Ok(found)
}

/// `--from-env-file` and `--from-file` together: one set of keys.
pub fn files(env: &[PathBuf], plain: &[String]) -> Outcome<Plain> {
    let mut found = Plain::default();
    let mut add = |key: String, value: Secret| match found.data.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("the key {key} is given twice"))),
    };
    for path in env {
        let text = file::read_text(path)?;
        let entries = dotenv(&text).map_err(|error| Failure::usage(format!("{}: {error}", file::name(path))))?;
        for (key, value) in entries {
            add(key, value)?;
        }
    }
    for text in plain {
        // As kubectl: KEY=FILE, or FILE whose name is the key.
        let (key, path) = if let Some((key, path)) = text.split_once('=') {
            (key.to_owned(), Path::new(path))
        } else {
            let path = Path::new(text);
            let key = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            (key, path)
        };
        let bytes = file::read(path)?;
        add(key, Secret::new(bytes.to_vec()))?;
    }
    Ok(found)
}
