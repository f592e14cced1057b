//! `workloads.yaml`: how the operator shapes the data plane. Read strictly: a misspelt setting is a problem, not a default.

mod hub;

use std::collections::BTreeMap;

pub use hub::Hub;
use serde::Deserialize;
use serde_json::Value;

/// More replicas than anybody needs; a number with a digit too many is refused.
const MOST_REPLICAS: u32 = 100;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workloads {
    /// What runs.
    pub images: Images,
    /// Takes webhooks in.
    pub ingester: Ingester,
    /// Delivers them.
    pub egress: Egress,
    /// ZenLocks: admission and unsealing; none: switched off.
    #[serde(default)]
    pub zen_lock: Option<ZenLock>,
    /// The audit store; none: switched off, and each part keeps a log of its own as long as its pod lives.
    #[serde(default)]
    pub audit: Option<Audit>,
    /// Member clusters may be enrolled; none: they may not.
    #[serde(default)]
    pub hub: Option<Hub>,
    /// A member of another cluster's mesh: no ingester runs here, and no root is made. None: a mesh of its own.
    #[serde(default)]
    pub member: Option<Member>,
    /// The certificate of the intake.
    #[serde(default)]
    pub intake: Intake,
    /// The aggregated API.
    #[serde(default)]
    pub api: Switch,
    /// How what is exchanged is probed.
    #[serde(default)]
    pub rotation: Rotation,
    /// Who may reach what.
    #[serde(default)]
    pub network_policies: NetworkPolicies,
    /// How much may be evicted at one time.
    #[serde(default)]
    pub pod_disruption_budgets: Switch,
    /// Replicas on different nodes and zones as far as possible.
    #[serde(default = "yes")]
    pub spread: bool,
}

/// Image references.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Of the ingester.
    pub ingester: String,
    /// Of the egress.
    pub egress: String,
    /// Of the ZenLock webhook, which also runs in the pods that use ZenLocks.
    #[serde(default)]
    pub zenlock_webhook: String,
    /// Of the audit store.
    #[serde(default)]
    pub audit: String,
    /// `IfNotPresent`, `Always`, `Never`.
    #[serde(default = "if_not_present")]
    pub pull_policy: String,
    /// Names of Secrets with registry credentials.
    #[serde(default)]
    pub pull_secrets: Vec<String>,
}

/// The ingester's `StatefulSet` and Service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ingester {
    /// How many.
    pub replicas: u32,
    /// The queue's volume.
    pub storage: Storage,
    /// How the intake is reached.
    #[serde(default)]
    pub service: Service,
    /// Where it may run, and with how much.
    #[serde(default)]
    pub pod: Pod,
    /// What is logged.
    #[serde(default = "info")]
    pub log: String,
}

/// The egress's Deployment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// How many.
    pub replicas: u32,
    /// Where it may run, and with how much.
    #[serde(default)]
    pub pod: Pod,
    /// What is logged.
    #[serde(default = "info")]
    pub log: String,
}

/// The ZenLock webhook's Deployment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZenLock {
    /// How many.
    pub replicas: u32,
    /// Where the age identities come from.
    #[serde(default)]
    pub custody: Custody,
    /// Whether pods may ask for a Secret in place of files in memory.
    #[serde(default)]
    pub secret_delivery: bool,
    /// Where it may run, and with how much.
    #[serde(default)]
    pub pod: Pod,
    /// What is logged.
    #[serde(default = "info")]
    pub log: String,
}

/// Where the age identities come from. At most one of the two; neither: the Secret `zen-mesh-age`, which is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Custody {
    /// A Secret of the release namespace that somebody else keeps.
    pub secret_name: String,
    /// A volume source of the pod specification, such as a CSI volume.
    pub volume: Value,
}

impl Custody {
    /// Whether the operator makes the first identity.
    pub fn is_ours(&self) -> bool {
        self.secret_name.is_empty() && !self.has_volume()
    }

    /// Whether it is a volume that somebody described.
    pub fn has_volume(&self) -> bool {
        self.volume.as_object().is_some_and(|volume| !volume.is_empty())
    }
}

/// The audit store's `StatefulSet`, and how its writers keep to it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// The volume of the entries.
    pub storage: Storage,
    /// Entries are kept for so many days.
    #[serde(default = "keep_days")]
    pub keep_days: u32,
    /// The most MiB of all entries; the oldest go.
    #[serde(default = "keep_mib")]
    pub keep_mib: u64,
    /// Whether what cannot be audited is refused.
    #[serde(default)]
    pub strict: bool,
    /// Where it may run, and with how much.
    #[serde(default)]
    pub pod: Pod,
    /// What is logged.
    #[serde(default = "info")]
    pub log: String,
}

/// How certificates and keys are exchanged (docs/rotation.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rotation {
    /// Whether a signed event from end to end is part of each round of probes.
    pub synthetic_event: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { synthetic_event: true }
    }
}

/// The part of a member in its hub's mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Member {
    /// SHA-256 of the hub's root certificates in DER, hex, as `kubectl zen enroll` prints it; colons do not count. Empty: whoever
    /// may put the bundle's Secret into the release namespace is believed.
    pub root_fingerprints: Vec<String>,
}

impl Member {
    /// The fingerprints in one spelling.
    pub fn pins(&self) -> Vec<String> {
        self.root_fingerprints.iter().map(|text| text.replace(':', "").to_ascii_lowercase()).collect()
    }
}

/// A volume for each replica.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// A quantity such as `10Gi`.
    pub size: String,
    /// `StorageClass`; empty: the cluster's default.
    #[serde(default)]
    pub class_name: String,
}

/// The Service of the intake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// How it is exposed.
    #[serde(default)]
    pub r#type: ServiceType,
    /// Its port.
    #[serde(default = "https")]
    pub port: u16,
    /// A port of every node, for the types that have one; none: the cluster chooses.
    #[serde(default)]
    pub node_port: Option<u16>,
    /// For load balancers.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// How a Service is exposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// By a load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What the owner of the cluster decides about pods. The API server checks what stands in it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pod {
    /// Requests and limits.
    pub resources: Value,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it bears.
    pub tolerations: Vec<Value>,
    /// Affinity.
    pub affinity: Value,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pod; ours come on top.
    pub labels: BTreeMap<String, String>,
    /// Priority class; empty: none.
    pub priority_class_name: String,
}

/// The certificate that sources see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Intake {
    /// A `kubernetes.io/tls` Secret of the release namespace; empty: a certificate of the built-in CA.
    pub tls_secret: String,
    /// Further names of that certificate.
    pub names: Vec<String>,
}

/// Something that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// On unless it says no.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Who may reach what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicies {
    /// On unless it says no.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// `NetworkPolicyPeer`s that may reach the intake; empty: anywhere.
    #[serde(default)]
    pub intake_from: Vec<Value>,
    /// `NetworkPolicyPeer`s that may reach the ports for member clusters; empty: anywhere.
    #[serde(default)]
    pub hub_from: Vec<Value>,
    /// Where the API server listens, seen from pods: of its Service, and of what stands behind it.
    #[serde(default = "api_server")]
    pub api_server_ports: Vec<u16>,
}

/// The file cannot be used; the message names line and field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Workloads {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error`] for YAML that does not parse, an unknown field, and a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let workloads: Self = serde_saphyr::from_str(text).map_err(|error| Error(error.to_string()))?;
        workloads.check().map(|()| workloads)
    }

    fn check(&self) -> Result<(), Error> {
        let zen_lock = self.zen_lock.as_ref().map(|zen_lock| ("zenLock", zen_lock.replicas));
        let planes = [("ingester", self.ingester.replicas), ("egress", self.egress.replicas)];
        for (name, replicas) in planes.into_iter().chain(zen_lock) {
            if !(1..=MOST_REPLICAS).contains(&replicas) {
                return Err(Error(format!("{name}.replicas is {replicas}: it must be from 1 to {MOST_REPLICAS}")));
            }
        }
        if zen_crds::parse_quantity(&self.ingester.storage.size).is_none() {
            return Err(Error("ingester.storage.size must be a size such as 10Gi".to_owned()));
        }
        let zen_lock = self.zen_lock.is_some().then_some(("zenlockWebhook", &self.images.zenlock_webhook));
        let images = [("ingester", &self.images.ingester), ("egress", &self.images.egress)];
        for (name, image) in images.into_iter().chain(zen_lock) {
            if image.is_empty() {
                return Err(Error(format!("images.{name} is empty")));
            }
        }
        if self.zen_lock.as_ref().is_some_and(|it| !it.custody.secret_name.is_empty() && it.custody.has_volume()) {
            return Err(Error("zenLock.custody has both secretName and volume: choose one".to_owned()));
        }
        if let Some(audit) = &self.audit {
            self.check_audit(audit)?;
        }
        if let Some(hub) = &self.hub {
            hub.check()?;
        }
        if self.hub.is_some() && self.member.is_some() {
            return Err(Error("hub and member are both set: a cluster is a hub, or a member of one".to_owned()));
        }
        let is_sha256 = |pin: &String| pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(wrong) = self.member.iter().flat_map(Member::pins).find(|pin| !is_sha256(pin)) {
            return Err(Error(format!("member.rootFingerprints: {wrong:?} is no SHA-256 of 64 hexadecimal digits")));
        }
        let policy = &*self.images.pull_policy;
        if !["IfNotPresent", "Always", "Never"].contains(&policy) {
            return Err(Error(format!("images.pullPolicy is {policy:?}: it must be IfNotPresent, Always or Never")));
        }
        let ports = &self.network_policies.api_server_ports;
        if ports.is_empty() || ports.contains(&0) {
            // A policy without ports would let everything out, and port 0 nothing.
            return Err(Error("networkPolicies.apiServerPorts must name ports from 1 to 65535".to_owned()));
        }
        self.ingester.service.check("ingester.service")
    }
}

impl Workloads {
    fn check_audit(&self, audit: &Audit) -> Result<(), Error> {
        if self.images.audit.is_empty() {
            return Err(Error("images.audit is empty".to_owned()));
        }
        let Some(bytes) = zen_crds::parse_quantity(&audit.storage.size) else {
            return Err(Error("audit.storage.size must be a size such as 10Gi".to_owned()));
        };
        // A volume that is full takes no entry; what is kept goes before that.
        if audit.keep_mib.saturating_mul(1 << 20) >= bytes {
            let size = &audit.storage.size;
            return Err(Error(format!(
                "audit.keepMib is {}: audit.storage.size, {size}, has no room for it",
                audit.keep_mib
            )));
        }
        if audit.keep_mib == 0 || audit.keep_days == 0 {
            return Err(Error("audit.keepMib and audit.keepDays must be at least 1".to_owned()));
        }
        Ok(())
    }
}

impl Service {
    fn check(&self, name: &str) -> Result<(), Error> {
        if self.node_port.is_some() && self.r#type == ServiceType::ClusterIP {
            return Err(Error(format!("{name}.nodePort has no effect with type ClusterIP")));
        }
        Ok(())
    }
}

impl Default for Service {
    fn default() -> Self {
        Self { r#type: ServiceType::ClusterIP, port: https(), node_port: None, annotations: BTreeMap::new() }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for NetworkPolicies {
    fn default() -> Self {
        Self { enabled: true, intake_from: Vec::new(), hub_from: Vec::new(), api_server_ports: api_server() }
    }
}

fn yes() -> bool {
    true
}

fn https() -> u16 {
    443
}

fn api_server() -> Vec<u16> {
    vec![https(), 6443]
}

fn info() -> String {
    "info".to_owned()
}

fn keep_days() -> u32 {
    90
}

fn keep_mib() -> u64 {
    8192
}

fn if_not_present() -> String {
    "IfNotPresent".to_owned()
}

#[cfg(test)]
pub(crate) mod tests;
