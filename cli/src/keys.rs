//! The keys that events are signed with (W-12, T-06), all derived from the root key; and `zen keys`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use zen_model::ObjectKey;
use zen_seal::RootKey;
use zen_verify::SigningKeys;
use zen_verify::signing_keys::{BRANCH, VERSION};

use crate::client::{Client, segment};
use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::Output;
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

X-Zen-Signature is `v=1,t=<unix seconds>,n=<nonce>,k=<key id>,s=<base64url HMAC-SHA256>`
over `1.<t>.<n>.<k>.<event id>.<SHA-256 of the body, hex>`; the HMAC key is the decoded value.")]
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
        #[command(flatten)]
        cluster: InCluster,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// What `-o json` shows. The key is what was asked for, so it is printed.
#[derive(Serialize)]
struct Shown<'a> {
    destination: &'a ObjectKey,
    key_id: &'static str,
    /// base64url without padding.
    key: String,
}

impl KeysCommand {
    /// Prints the key.
    pub async fn run(self) -> Outcome {
        let Which::Destination { key, dir, state, cluster, output } = self.which;
        if cluster.is_meant(dir.is_some() || state.is_some()) {
            let mut cluster = cluster.connect().await?;
            cluster.namespace = key.namespace.to_string();
            let path = format!("/api/v1/signing-keys/{}", segment(key.name.as_str()));
            let shown: Value = Client::Cluster(cluster).get(&path, &()).await?;
            return output.print(&shown, |shown| format!("{}\n", shown["key"].as_str().unwrap_or_default()));
        }
        let root = root_key(&Place::find(state.as_deref(), dir.as_deref()).mesh_key_file())?;
        let derived = signing_keys(&root).destination_key(&key);
        let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, derived.expose());
        let shown = Shown { destination: &key, key_id: VERSION, key: text };
        output.print(&shown, |shown| format!("{}\n", shown.key))
    }
}

/// Read, never made: a key that no mesh uses verifies nothing.
fn root_key(file: &Path) -> Outcome<RootKey> {
    if !file.exists() {
        return Err(Failure::new(format!("there is no {}", file.display()))
            .hint("name the folder of the mesh with --dir DIR or --state DIR/.zen"));
    }
    RootKey::load_or_create(file).context("failed to read the root key")
}
