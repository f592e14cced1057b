//! Names and addresses of a self-contained node. Its number keeps clusters that run side by side apart.

use serde::{Deserialize, Serialize};

/// The number of a cluster on this machine, 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number(pub u8);

impl Number {
    /// The host's end of the pair of interfaces. That it can be made only once is what makes a number free or taken.
    pub fn host_link(self) -> String {
        format!("cluster{}", self.0)
    }

    /// The node's end until it is moved into the node's network namespace, where it is `eth0`.
    pub fn node_link(self) -> String {
        format!("cluster{}-node", self.0)
    }

    /// What a pod calls to reach a server on the machine itself; cluster DNS knows it as `host.test`.
    pub fn host_ip(self) -> String {
        format!("10.89.{}.1", self.0)
    }

    /// The node, and so the API server.
    pub fn node_ip(self) -> String {
        format!("10.89.{}.2", self.0)
    }

    /// Addresses of pods.
    pub fn pod_cidr(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// Addresses of Services.
    pub fn service_cidr(self) -> String {
        format!("10.96.{}.0/24", self.0)
    }

    /// Service `kubernetes` in `default`: always the first of the range.
    pub fn api_service_ip(self) -> String {
        format!("10.96.{}.1", self.0)
    }

    /// Cluster DNS.
    pub fn dns_ip(self) -> String {
        format!("10.96.{}.10", self.0)
    }

    /// The Node object.
    pub fn node(self) -> String {
        format!("node-{}", self.0)
    }

    /// The folder of the cgroup tree that holds every pod.
    pub fn cgroup(self) -> String {
        format!("cluster-{}", self.0)
    }
}
