//! `zen enroll`: the bundle that lets a cluster into the mesh, as a manifest for that cluster (T-01).

mod look;

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Value, json};
use zen_crds::ClusterEnrollment;
use zen_enroll::Bundle;
use zen_enroll::bundle::{CLEAR, SEALED, SECRET, SECRET_TYPE};

use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Output, write_stdout};
use look::{Look, Ready, look};

/// Where a member's operator publishes its public key.
const MEMBER: &str = "zen-mesh-member";
const RECIPIENT: &str = "recipient";
/// Annotation of the printed Secret, for who does not read comments.
const FINGERPRINTS: &str = "zen-mesh.io/hub-fingerprints";
/// Between two looks at the enrollment.
const LOOK: Duration = Duration::from_millis(500);
const SELF_HELP: &str = "bundles are made by the hub, in its cluster: name the hub's kubeconfig in KUBECONFIG and its context with --context";

/// Let a cluster into the mesh: print the bundle of a `ClusterEnrollment` as a manifest for that cluster.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
A cluster joins in four steps:
  kubectl zen enroll recipient --context member     its public key, once its operator runs
  kubectl apply --context hub -f enrollment.yaml    a ClusterEnrollment with that key
  kubectl zen enroll prod-eu -n team-a --context hub > bundle.yaml
  kubectl apply --context member -f bundle.yaml     before the bundle ends

The bundle is worth nothing without the member's private key, and can be used once."
)]
pub struct Enroll {
    #[command(subcommand)]
    which: Option<Which>,
    /// The `ClusterEnrollment`.
    #[arg(value_name = "NAME", required = true)]
    name: Option<String>,
    /// The kubeconfig's context of the hub [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The tenant: the namespace of the `ClusterEnrollment` [default: the context's].
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// The namespace that the mesh is installed in at the member.
    #[arg(long, value_name = "NS", default_value = "zen-mesh")]
    member_namespace: String,
    /// How long to wait for the hub to make the bundle.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// How to print it: a commented manifest, or the Secret alone.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Print the public key that this cluster's bundles are sealed to, for spec.recipient at the hub.
    Recipient {
        /// The kubeconfig's context of the member [default: the current one].
        #[arg(long, value_name = "NAME")]
        context: Option<String>,
        /// The namespace that the mesh is installed in.
        #[arg(long, value_name = "NS", env = "ZEN_MESH_NAMESPACE", default_value = "zen-mesh")]
        mesh_namespace: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    zen_crds::parse_duration(text).ok_or_else(|| format!("{text:?} is no duration such as 60s or 5m"))
}

impl Enroll {
    /// Prints a bundle, or a public key.
    pub async fn run(self) -> Outcome {
        if let Some(Which::Recipient { context, mesh_namespace }) = self.which {
            return recipient(context, &mesh_namespace).await;
        }
        // clap asks for it.
        let name = self.name.ok_or_else(|| Failure::usage("no ClusterEnrollment was named"))?;
        let cluster = InCluster::of_context(self.context).connect().await.map_err(|failure| failure.hint(SELF_HELP))?;
        let namespace = self.namespace.unwrap_or(cluster.namespace);
        let api: Api<ClusterEnrollment> = Api::namespaced(cluster.client, &namespace);
        let ready = wait(&api, &namespace, &name, self.timeout).await?;
        print(&ready, &self.member_namespace, self.output)
    }
}

/// The bundle, when the hub has made it.
async fn wait(api: &Api<ClusterEnrollment>, namespace: &str, name: &str, timeout: Duration) -> Outcome<Ready> {
    let end = tokio::time::Instant::now() + timeout;
    let mut said = String::new();
    loop {
        let found =
            api.get_opt(name).await.context(format_args!("failed to read ClusterEnrollment {namespace}/{name}"))?;
        let found = found.ok_or_else(|| {
            Failure::new(format!("there is no ClusterEnrollment {namespace}/{name}"))
                .hint("is this the hub, and the tenant's namespace? name them with --context and -n")
        })?;
        let waits = match look(&found) {
            Look::Ready(ready) => return Ok(*ready),
            Look::Never { what, hint } => return Err(Failure::new(what).hint(hint)),
            Look::Wait(why) => why,
        };
        if said != waits {
            eprintln!("zen: waiting: {waits}");
            said.clone_from(&waits);
        }
        if tokio::time::Instant::now() + LOOK > end {
            return Err(Failure::new(format!("there is no bundle after {} s: {waits}", timeout.as_secs()))
                .hint("look at the log of the hub's operator: kubectl logs -n zen-mesh deployment/zen-operator"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn print(ready: &Ready, namespace: &str, output: Output) -> Outcome {
    let bundle = Bundle::from_data(&ready.clear, &ready.sealed).context("the hub's bundle cannot be read")?;
    match output {
        Output::Table => {
            write_stdout(&(steps(ready, &bundle, namespace) + &bundle.manifest(namespace)));
            Ok(())
        }
        Output::Json | Output::Yaml => output.print(&secret(ready, namespace), |_| String::new()),
    }
}

/// What people do with it, as comments above the manifest.
fn steps(ready: &Ready, bundle: &Bundle, namespace: &str) -> String {
    let clear = bundle.clear();
    let mut text = String::from(
        "# The member takes a bundle of no other hub when it is told the fingerprint of this one's root:\n",
    );
    for fingerprint in &ready.fingerprints {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#   {fingerprint}");
    }
    let pins = json!(ready.fingerprints);
    let _ = write!(
        text,
        "# In the member cluster, if it is not installed yet (and spec.recipient is this one's key):\n\
         #   helm install zen-mesh charts/zen-mesh -n {namespace} --create-namespace --set member.enabled=true \\\n\
         #     --set mesh.trustDomain={} --set-json 'member.rootFingerprints={pins}'\n",
        clear.trust_domain
    );
    text
}

/// The Secret alone.
fn secret(ready: &Ready, namespace: &str) -> Value {
    let mut metadata = json!({"name": SECRET, "namespace": namespace});
    if !ready.fingerprints.is_empty() {
        metadata["annotations"] = json!({FINGERPRINTS: ready.fingerprints.join(",")});
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": SECRET_TYPE,
        "stringData": {CLEAR: ready.clear, SEALED: ready.sealed},
    })
}

async fn recipient(context: Option<String>, namespace: &str) -> Outcome {
    let cluster = InCluster::of_context(context).connect().await.map_err(|failure| {
        failure.hint("the key is the member's: name its kubeconfig in KUBECONFIG and its context with --context")
    })?;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client, namespace);
    let what = format!("ConfigMap {namespace}/{MEMBER}");
    let found = api.get_opt(MEMBER).await.context(format_args!("failed to read {what}"))?;
    let key = found.and_then(|map| map.data?.remove(RECIPIENT)).ok_or_else(|| {
        Failure::new(format!("there is no {what} with a key {RECIPIENT}"))
            .hint("is the mesh installed there with member.enabled, and its operator running? name its namespace with --mesh-namespace")
    })?;
    write_stdout(&format!("{}\n", key.trim()));
    Ok(())
}

#[cfg(test)]
mod tests;
