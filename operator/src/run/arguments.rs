//! The command line of `zen-operator`. Every value has an environment variable and the default of a pod.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Makes and keeps everything that the mesh runs on, and issues its certificates.
#[derive(Clone, Debug, Parser)]
#[command(name = "zen-operator", version, max_term_width = 120)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub serve: Serve,
    /// Once, instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Who and where this pod is.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "zen-operator")]
    pub pod_name: String,
    /// Namespace of this pod, and of the mesh.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "zen-mesh")]
    pub pod_namespace: String,
    /// Health and metrics, plain HTTP.
    #[arg(long, env = "ZEN_ADMIN", value_name = "ADDRESS:PORT", default_value = "[::]:9901")]
    pub admin: SocketAddr,
    /// The identity service, TLS.
    #[arg(long, env = "ZEN_IDENTITY", value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    pub identity: SocketAddr,
    /// What members ask of their hub, TLS.
    #[arg(long, env = "ZEN_HUB", value_name = "ADDRESS:PORT", default_value = "[::]:8445")]
    pub hub: SocketAddr,
    /// Port of the pods' control API.
    #[arg(long, env = "ZEN_CONTROL_PORT", value_name = "PORT", default_value_t = zen_identity::control::PORT)]
    pub control_port: u16,
    /// Folder of the root CA's certificate and key, instead of the Secret zen-mesh-ca.
    #[arg(long, env = "ZEN_CA_PATH", value_name = "FOLDER")]
    pub ca_path: Option<PathBuf>,
    /// Its audit log.
    #[command(flatten)]
    pub audit: zen_pod::audit::Arguments,
    /// What is logged: a level, or TARGET=LEVEL,….
    #[arg(long, env = "ZEN_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// What is done once.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Before an uninstall: delete what the operator made outside its own namespace, and keep it from being made again.
    Cleanup,
    /// Wait until everything that the operator makes is ready.
    Wait {
        /// Fail after this.
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
        timeout: Duration,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    zen_crds::parse_duration(text).ok_or_else(|| format!("{text:?} is no duration such as 300s or 5m"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["zen-operator", "wait", "--timeout", "300s"]);
        assert!(matches!(arguments.command, Some(Command::Wait { timeout }) if timeout == Duration::from_mins(5)));
        assert!(Arguments::parse_from(["zen-operator"]).command.is_none());
    }
}
