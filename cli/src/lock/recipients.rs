//! Public keys to seal to: given, of a file, or the cluster's own.

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use zen_lock::Recipient;

use super::file;
use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};

/// Where `zenlock-webhook` publishes its public keys, for every authenticated user.
const CONFIG_MAP: &str = "zen-mesh-recipients";
/// The key of that `ConfigMap`: a recipients file, newest key first.
const KEY: &str = "recipients.txt";
/// The word for the cluster's keys.
const CLUSTER: &str = "cluster";

/// The public keys to seal to.
#[derive(Debug, Args)]
pub struct Recipients {
    /// A public key (age1…), or the word cluster for those of the kubeconfig's cluster; repeat it for several
    /// [default: cluster].
    #[arg(short, long = "recipient", value_name = "RECIPIENT", value_delimiter = ',')]
    recipient: Vec<String>,
    /// A file of public keys, one a line.
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The kubeconfig's context [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that the mesh is installed in.
    #[arg(long, value_name = "NS", env = "ZEN_MESH_NAMESPACE", default_value = "zen-mesh")]
    mesh_namespace: String,
}

impl Recipients {
    /// Whether any were named on the command line.
    pub fn are_named(&self) -> bool {
        !self.recipient.is_empty() || !self.files.is_empty() || self.context.is_some()
    }

    /// Each once, in the order given.
    pub async fn resolve(&self) -> Outcome<Vec<Recipient>> {
        let mut found = Vec::new();
        for text in &self.recipient {
            if text == CLUSTER {
                found.extend(self.of_cluster().await?);
            } else {
                let parsed = text.parse().map_err(|error| Failure::usage(format!("-r {text}: {error}")).hint(EACH))?;
                found.push(parsed);
            }
        }
        for path in &self.files {
            found.extend(parse(&file::read_text(path)?, &file::name(path))?);
        }
        if self.recipient.is_empty() && self.files.is_empty() {
            found = self.of_cluster().await.map_err(|failure| {
                failure
                    .code(2)
                    .hint("name the public keys to seal to: -r age1…, or -R FILE; or a cluster with --context")
            })?;
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|recipient| seen.insert(recipient.clone()));
        Ok(found)
    }

    /// What the mesh of the cluster publishes, as this user may read it.
    async fn of_cluster(&self) -> Outcome<Vec<Recipient>> {
        let cluster = InCluster::of_context(self.context.clone()).connect().await?;
        let api: Api<ConfigMap> = Api::namespaced(cluster.client, &self.mesh_namespace);
        let what = format!("ConfigMap {}/{CONFIG_MAP}", self.mesh_namespace);
        let found = api.get_opt(CONFIG_MAP).await.context(format_args!("failed to read {what}"))?;
        let hint = "is the mesh installed there? name its namespace with --mesh-namespace, or the keys with -r age1…";
        let map = found.ok_or_else(|| Failure::new(format!("there is no {what} in the cluster")).hint(hint))?;
        let text = map.data.unwrap_or_default().remove(KEY);
        let text = text.ok_or_else(|| Failure::new(format!("{what} has no key {KEY}")).hint(hint))?;
        let found = parse(&text, &what)?;
        // Whoever may write that ConfigMap could have secrets sealed to himself: people see what they trust.
        for recipient in &found {
            eprintln!("zen: sealing to {recipient} of {what}");
        }
        Ok(found)
    }
}

const EACH: &str = "give each public key its own -r, and the manifest last";

/// A recipients file as age has it: comments, empty lines, one key a line.
fn parse(text: &str, name: &str) -> Outcome<Vec<Recipient>> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<Recipient> = keys
        .map(|(line, text)| text.parse().map_err(|error| Failure::usage(format!("{name}: line {line}: {error}"))))
        .collect::<Outcome<_>>()?;
    if keys.is_empty() { Err(Failure::usage(format!("{name} holds no public key"))) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipients_file_is_read_by_line() {
        let key = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
        let found = parse(&format!("# newest\n{key}\n\n"), "x").expect("reads");
        assert_eq!(found.iter().map(Recipient::as_str).collect::<Vec<_>>(), [key]);
        let refused = parse(&format!("{key}\nssh-ed25519 AAAA\n"), "x").expect_err("of another kind").to_string();
        assert!(refused.starts_with("x: line 2: it is a public key of another kind"), "{refused}");
        assert!(parse("# none\n", "x").is_err());
    }
}
