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
    /// Who opens `ZenLock`s.
    #[command(flatten)]
    pub unseal: zen_pod::unseal::Arguments,
    /// Its audit log.
    #[command(flatten)]
    pub audit: zen_pod::audit::Place,
    /// Where ingesters connect to, mutual TLS.
    #[arg(long, env = "ZEN_LINK", value_name = "ADDRESS:PORT", default_value = "[::]:9444")]
    pub link: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the operator gives a pod is enough; the rest are the defaults that its Service goes by.
    #[test]
    fn a_pod_needs_no_argument_but_its_name() {
        let arguments = Arguments::try_parse_from(["zen-egress", "--pod-name", "zen-egress-x"]).expect("parses");
        let Arguments { pod, link, unseal, audit } = arguments;
        assert!(audit.store.is_empty(), "entries stay in the pod unless the operator says where else");
        assert!(unseal.unseal_url.is_none(), "nothing opens ZenLocks unless the operator says what");
        assert_eq!((link.port(), pod.admin.port(), pod.control.port()), (9444, 9901, 9902));
        assert_eq!(pod.objects().to_str(), Some("/run/zen-mesh/objects.json"));
    }
}
