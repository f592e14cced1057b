//! What both programs take from their command line or environment. The defaults are those of the pods; tests name others.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use zen_runtime::telemetry;

/// Who and where this pod is.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// Name of this pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: String,
    /// Namespace of this pod, and of the mesh.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "zen-mesh")]
    pub pod_namespace: String,
    /// Health and metrics, plain HTTP.
    #[arg(long, env = "ZEN_ADMIN", value_name = "ADDRESS:PORT", default_value = "[::]:9901")]
    pub admin: SocketAddr,
    /// The control API, mutual TLS.
    #[arg(long, env = "ZEN_CONTROL", value_name = "ADDRESS:PORT", default_value = "[::]:9902")]
    pub control: SocketAddr,
    /// The operator's identity service [default: <https://zen-operator.NAMESPACE.svc>].
    #[arg(long, env = "ZEN_IDENTITY_URL", value_name = "URL")]
    pub identity_url: Option<String>,
    /// The trust bundle.
    #[arg(long, env = "ZEN_TRUST", value_name = "FILE", default_value = "/etc/zen-mesh/trust/ca.crt")]
    pub trust: PathBuf,
    /// Folder of the mounted keys.
    #[arg(long, env = "ZEN_KEYS", value_name = "FOLDER", default_value = "/etc/zen-mesh/keys")]
    pub keys: PathBuf,
    /// The token for the identity service.
    #[arg(long, env = "ZEN_TOKEN", value_name = "FILE", default_value = "/var/run/secrets/zen-mesh/token")]
    pub token: PathBuf,
    /// A volume in memory: certificates, the last good objects and secrets.
    #[arg(long, env = "ZEN_RUN", value_name = "FOLDER", default_value = "/run/zen-mesh")]
    pub run: PathBuf,
    /// What is logged: a level, or TARGET=LEVEL,….
    #[arg(long, env = "ZEN_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

impl Arguments {
    /// The identity service of this mesh's operator.
    pub fn identity_url(&self) -> String {
        self.identity_url.clone().unwrap_or_else(|| format!("https://zen-operator.{}.svc", self.pod_namespace))
    }

    /// Folder of certificates and their keys.
    pub fn identity_folder(&self) -> PathBuf {
        self.run.join("identity")
    }

    /// The last good objects and secrets.
    pub fn objects(&self) -> PathBuf {
        self.run.join("objects.json")
    }

    /// The last known pods of a Service.
    pub fn endpoints(&self, service: &str) -> PathBuf {
        self.run.join(format!("endpoints-{service}.json"))
    }

    /// Starts logging, as JSON lines unless a terminal reads them.
    pub fn start_logging(&self) -> Result<(), telemetry::Error> {
        telemetry::init(telemetry::Format::Auto, &self.log)
    }
}
