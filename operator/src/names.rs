//! The fixed names of the mesh in a cluster: one mesh per cluster, so that nobody has to look for them.

/// Value of the name label on everything of the mesh.
pub const NAME: &str = "zen-mesh";
/// Label of everything of the mesh.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label that names the part of the mesh.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label of what the operator makes. Nothing without it is ever overwritten.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of the managed-by label.
pub const MANAGED_BY: &str = "zen-operator";
/// Field manager of what the operator makes.
pub const FIELD_MANAGER: &str = "zen-operator";
/// Field manager of the status of users' objects.
pub const STATUS_MANAGER: &str = "zen-operator-status";
/// Annotation with the digest of what was applied last.
pub const APPLIED: &str = "zen-mesh.io/applied";
/// Annotation of a claim whose queue is empty: it may be deleted.
pub const DRAINED: &str = "zen-mesh.io/drained";

/// Annotation of pods with the fingerprint of the root key that their keys come from, and of those keys' Secrets.
pub const KEYS: &str = "zen-mesh.io/keys";
/// Label that tells replicas from pods that only empty a queue.
pub const ROLE_LABEL: &str = "zen-mesh.io/role";
/// A pod that serves.
pub const REPLICA: &str = "replica";
/// A pod that empties the queue of a replica that is gone.
pub const DRAIN: &str = "drain";
/// Name of the queue's volume.
pub const QUEUE: &str = "queue";

/// The operator: component, Deployment, Service, Lease, ServiceAccount.
pub const OPERATOR: &str = "zen-operator";
/// Service by which members reach the hub's operator.
pub const OPERATOR_HUB: &str = "zen-operator-hub";
/// The ingester: StatefulSet, Service, ServiceAccount, tenant Role.
pub const INGESTER: &str = "zen-ingester";
/// Headless Service of the ingester.
pub const INGESTER_PEERS: &str = "zen-ingester-peers";
/// Service of the aggregated API.
pub const INGESTER_API: &str = "zen-ingester-api";
/// Service by which egresses of members reach the ingesters of the hub.
pub const INGESTER_RELAY: &str = "zen-ingester-relay";
/// The egress: Deployment, headless Service, ServiceAccount, tenant Role.
pub const EGRESS: &str = "zen-egress";
/// Admission of pods and ZenLocks, and the unseal API: Deployment, Service, ServiceAccount.
pub const ZENLOCK: &str = "zenlock-webhook";
/// Both registrations with the API server's admission.
pub const ADMISSION: &str = "zenlock-webhook.zen-mesh.io";
/// Secret with the age identities that open ZenLocks, unless another custody is chosen.
pub const AGE: &str = "zen-mesh-age";
/// ConfigMap with the public keys that ZenLocks are made for; its owner is the webhook, which alone can read the identities.
pub const RECIPIENTS: &str = "zen-mesh-recipients";
/// The audit store: `StatefulSet`, Service, ServiceAccount.
pub const AUDIT: &str = "zen-audit";
/// The volume of the audit store.
pub const AUDIT_DATA: &str = "audit";
/// ConfigMap with the mesh-wide settings.
pub const MESH: &str = "zen-mesh";
/// Key of the mesh-wide settings.
pub const MESH_KEY: &str = "mesh.yaml";
/// ConfigMap that shapes the data plane; owner of what the operator makes in its namespace.
pub const WORKLOADS: &str = "zen-mesh-workloads";
/// Key of the data plane's shape.
pub const WORKLOADS_KEY: &str = "workloads.yaml";
/// ConfigMap with the trust bundle.
pub const TRUST: &str = "zen-mesh-trust";
/// Key of the trust bundle.
pub const TRUST_KEY: &str = "ca.crt";
/// Secret with the root key of seals and signatures.
pub const ROOT: &str = "zen-mesh-root";
/// Key of the root key.
pub const ROOT_KEY: &str = "root.key";
/// Secret with the ingester's branches of the root key.
pub const INGESTER_KEYS: &str = "zen-mesh-ingester-keys";
/// Secret with the egress's branch of the root key.
pub const EGRESS_KEYS: &str = "zen-mesh-egress-keys";
/// The registration of the aggregated API.
pub const API_SERVICE: &str = "v1alpha1.data.zen-mesh.io";

/// Ports of the pods.
pub mod port {
    /// Intake (TLS).
    pub const INTAKE: u16 = 8443;
    /// Health and metrics (plain).
    pub const ADMIN: u16 = 9901;
    /// Control API (mTLS).
    pub const CONTROL: u16 = 9902;
    /// Aggregated API (TLS).
    pub const API: u16 = 9443;
    /// Link between ingester and egress (mTLS).
    pub const LINK: u16 = 9444;
    /// Admission and unseal API (TLS).
    pub const ZENLOCK: u16 = 8443;
    /// Writers of the audit log to their store (mTLS).
    pub const AUDIT: u16 = 9445;
    /// Egresses of members at the hub's ingesters, and the ingesters at each other for them (mTLS).
    pub const RELAY: u16 = 9446;
    /// Members at the hub's operator (TLS, mTLS once enrolled).
    pub const HUB: u16 = 8445;
    /// Identity service of the operator (TLS).
    pub const IDENTITY: u16 = 8443;
}
