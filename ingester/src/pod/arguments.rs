//! The command line of `zen-ingester`. Every value has an environment variable and the default of a pod.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Takes webhooks in: verifies them, keeps them safe on disk, hands them to the egress.
#[derive(Clone, Debug, Parser)]
#[command(name = "zen-ingester", version, max_term_width = 120)]
pub struct Arguments {
    /// What both programs take.
    #[command(flatten)]
    pub pod: zen_pod::Arguments,
    /// Who opens `ZenLock`s.
    #[command(flatten)]
    pub unseal: zen_pod::unseal::Arguments,
    /// Its audit log.
    #[command(flatten)]
    pub audit: zen_pod::audit::Place,
    /// Where webhooks arrive, over TLS.
    #[arg(long, env = "ZEN_INTAKE", value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    pub intake: SocketAddr,
    /// The kubernetes.io/tls Secret of the intake's certificate, in the pod's namespace; empty: one of the built-in CA.
    #[arg(long, env = "ZEN_INTAKE_SECRET", value_name = "NAME", default_value = "")]
    pub intake_secret: String,
    /// Where the aggregated API listens, over TLS.
    #[arg(long, env = "ZEN_API", value_name = "ADDRESS:PORT", default_value = "[::]:9443")]
    pub api: SocketAddr,
    /// Whether the aggregated API is served.
    #[arg(long, env = "ZEN_API_ENABLED", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub api_enabled: bool,
    /// Where egresses of member clusters connect to, mutual TLS; without it members cannot lease here.
    #[arg(long, env = "ZEN_RELAY", value_name = "ADDRESS:PORT")]
    pub relay: Option<SocketAddr>,
    /// The volume of the queue.
    #[arg(long, env = "ZEN_STATE", value_name = "FOLDER", default_value = "/var/lib/zen-mesh")]
    pub state: PathBuf,
    /// Take nothing in: deliver what the volume holds, hand the rest to a peer, and exit 0.
    #[arg(long)]
    pub drain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the operator gives a pod is enough; the rest are the defaults that its Services and volumes go by.
    #[test]
    fn a_pod_needs_no_argument_but_its_name() {
        let arguments = Arguments::try_parse_from(["zen-ingester", "--pod-name", "zen-ingester-0"]).expect("parses");
        assert_eq!((arguments.intake.port(), arguments.api.port()), (8443, 9443));
        assert_eq!((arguments.pod.admin.port(), arguments.pod.control.port()), (9901, 9902));
        assert_eq!(arguments.state.to_str(), Some("/var/lib/zen-mesh"));
        assert_eq!(arguments.pod.identity_url(), "https://zen-operator.zen-mesh.svc");
        assert!(arguments.relay.is_none(), "nothing is open to members unless the operator says where");
        assert!(arguments.api_enabled && !arguments.drain && arguments.intake_secret.is_empty());
        assert!(Arguments::try_parse_from(["zen-ingester", "--pod-name", "p", "--drain"]).expect("parses").drain);
    }
}
