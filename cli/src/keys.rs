//! The keys that events are signed with (W-12, T-06), all derived from the root key; and `zen keys`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zen_model::ObjectKey;
use zen_seal::RootKey;
use zen_verify::SigningKeys;
use zen_verify::signing_keys::BRANCH;

use crate::client::{Client, segment};
use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Output, Table, plain_text};
use crate::state::Place;

/// The signing keys of the mesh whose root key this is.
pub fn signing_keys(root: &RootKey) -> SigningKeys {
    SigningKeys::new(root.branch(BRANCH).secret())
}

/// Show the keys that targets verify with.
#[derive(Debug, Args)]
pub struct KeysCommand {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// The key with which the target of a Destination verifies X-Zen-Signature.
    #[command(after_help = "\
The key is secret: hand it to the target, for example
  zen keys destination team-a/ci --dir examples/quickstart > ci.key

While keys are exchanged (`kubectl zen rotate signing`) several count, and every event is signed
with each: --all shows them with their ids, and until when. A target that takes one of them takes
every event.

X-Zen-Signature is `v=1,t=<unix seconds>,n=<nonce>,k=<key id>,s=<base64url HMAC-SHA256>`
over `1.<t>.<n>.<k>.<event id>.<SHA-256 of the body, hex>`; the HMAC key is the decoded value.
Several are separated by a space, the newest first.")]
    Destination {
        /// The Destination.
        #[arg(value_name = "NS/NAME")]
        key: ObjectKey,
        /// The manifests' folder, whose .zen holds the state.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The state folder [default: DIR/.zen, else `ZEN_STATE`, else ./.zen].
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
        /// Every key that counts now, with its id and its end.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        cluster: InCluster,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

impl KeysCommand {
    /// Prints the key.
    pub async fn run(self) -> Outcome {
        let Which::Destination { key, dir, state, all, cluster, output } = self.which;
        if cluster.is_meant(dir.is_some() || state.is_some()) {
            let mut cluster = cluster.connect().await?;
            cluster.namespace = key.namespace.to_string();
            let path = format!("/api/v1/signing-keys/{}", segment(key.name.as_str()));
            let shown: Value = Client::Cluster(cluster).get(&path, &()).await?;
            return print(&shown, all, output);
        }
        let root = root_key(&Place::find(state.as_deref(), dir.as_deref()).mesh_key_file())?;
        let (signing, version) = (signing_keys(&root), signing_keys(&root).versions().current);
        let derived = signing.destination_key(&key, version);
        let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, derived.expose());
        let id = version.to_string();
        let own = json!({"key_id": id, "key": text, "until": null});
        print(&json!({"destination": key, "key_id": id, "key": text, "keys": [own]}), all, output)
    }
}

/// The key is what was asked for, so it is printed.
fn print(shown: &Value, all: bool, output: Output) -> Outcome {
    let text = |value: &Value| value.as_str().map(|text| plain_text(text, 200)).unwrap_or_default();
    // Of a release that knows of one, there are none.
    let keys = shown["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    output.print(shown, |shown| {
        if !all || keys.is_empty() {
            return format!("{}\n", text(&shown["key"]));
        }
        let mut table = Table::new(["ID", "KEY", "UNTIL"]);
        for key in keys {
            let is_current = key["key_id"] == shown["key_id"];
            let until = match (&key["until"], is_current) {
                (Value::String(until), _) => plain_text(until, 40),
                (_, true) => "-".to_owned(),
                (_, false) => "it comes next".to_owned(),
            };
            table.row([text(&key["key_id"]), text(&key["key"]), until]);
        }
        table.render()
    })?;
    if !all && keys.len() > 1 {
        eprintln!("zen: {} keys count while they are exchanged: --all shows them", keys.len());
    }
    Ok(())
}

/// Read, never made: a key that no mesh uses verifies nothing.
fn root_key(file: &Path) -> Outcome<RootKey> {
    if !file.exists() {
        return Err(Failure::new(format!("there is no {}", file.display()))
            .hint("name the folder of the mesh with --dir DIR or --state DIR/.zen"));
    }
    RootKey::load_or_create(file).context("failed to read the root key")
}
