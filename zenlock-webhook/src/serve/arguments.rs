//! The command line of `zenlock-webhook serve`. Every value has an environment variable; the defaults are those of a pod.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::settings::Fixed;

/// Admission of pods and ZenLocks, and the unseal API.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// What every pod of the mesh takes.
    #[command(flatten)]
    pub pod: zen_pod::Arguments,
    /// Admission and unseal API, TLS.
    #[arg(long, env = "ZEN_LISTEN", value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Folder of the age identities.
    #[arg(long, env = "ZEN_AGE", value_name = "FOLDER", default_value = "/etc/zen-mesh/age")]
    pub age: PathBuf,
    /// Image of the containers that are added to pods: this program's own.
    #[arg(long, env = "ZEN_IMAGE", value_name = "IMAGE")]
    pub image: String,
    /// Its pull policy.
    #[arg(long, env = "ZEN_IMAGE_PULL_POLICY", value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// The unseal API as pods reach it [default: <https://zenlock-webhook.NAMESPACE.svc>].
    #[arg(long, env = "ZEN_UNSEAL_URL", value_name = "URL")]
    pub unseal_url: Option<String>,
    /// Whether pods may ask for a Secret in place of files in memory.
    #[arg(long, env = "ZEN_SECRET_DELIVERY", action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub secret_delivery: bool,
    /// Its audit log.
    #[command(flatten)]
    pub audit: zen_pod::audit::Arguments,
    /// Whether the cluster has environment variables from files [default: the cluster is asked].
    #[arg(long, env = "ZEN_ENV_FILES", action = ArgAction::Set, value_name = "BOOL")]
    pub env_files: Option<bool>,
}

impl Arguments {
    /// What admission writes into pods, as far as it does not change.
    pub fn fixed(&self) -> Fixed {
        let namespace = self.pod.pod_namespace.clone();
        let url = self.unseal_url.clone().unwrap_or_else(|| format!("https://zenlock-webhook.{namespace}.svc"));
        Fixed {
            image: self.image.clone(),
            pull_policy: self.image_pull_policy.clone().filter(|policy| !policy.is_empty()),
            url,
            trust: self.pod.trust.clone(),
            namespace,
            env_files: self.env_files,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn what_the_operator_gives_a_pod_is_enough() {
        let line = ["x", "--pod-name", "z-1", "--pod-namespace", "mesh", "--image", "z:1", "--secret-delivery", "true"];
        let Program { arguments } = Program::try_parse_from(line).expect("parses");
        let fixed = arguments.fixed();
        assert_eq!((fixed.url.as_str(), arguments.listen.port()), ("https://zenlock-webhook.mesh.svc", 8443));
        assert_eq!((arguments.age.to_str(), arguments.secret_delivery), (Some("/etc/zen-mesh/age"), true));
        assert_eq!((arguments.audit.folder.to_str(), arguments.audit.strict), (Some("/run/zen-mesh/audit"), false));
    }
}
