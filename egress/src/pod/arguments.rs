//! The command line of `zen-egress`. Every value has an environment variable and the default of a pod.

use std::net::SocketAddr;

use clap::Parser;

/// Delivers what ingesters keep, to the services of the cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "zen-egress", version, max_term_width = 120)]
pub struct Arguments {
    /// What both programs take.
    #[command(flatten)]
    pub pod: zen_pod::Arguments,
    /// Where ingesters connect to, mutual TLS.
    #[arg(long, env = "ZEN_LINK", value_name = "ADDRESS:PORT", default_value = "[::]:9444")]
    pub link: SocketAddr,
}
