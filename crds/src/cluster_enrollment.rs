//! `ClusterEnrollment`: how a member cluster comes to trust the hub, and the hub it (T-01).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Conditions;
use crate::rules;
use crate::schema::Timestamp;
use crate::text::{AgeRecipient, BundleId, words};
use crate::units::DurationText;

/// A member cluster of the mesh. Lives on the hub; its namespace is the tenant, its name the cluster's.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "zen-mesh.io",
    version = "v1alpha1",
    kind = "ClusterEnrollment",
    namespaced,
    shortname = "ce",
    category = "zen-mesh",
    status = "ClusterEnrollmentStatus",
    schema = "disabled",
    derive = "PartialEq",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Connected", type_ = "boolean", json_path = ".status.connected"),
    printcolumn(name = "Certificate", type_ = "date", json_path = ".status.certificateExpiresAt", priority = 1),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled", priority = 1),
    printcolumn(name = "Problem", type_ = "string", json_path = r#".status.conditions[?(@.status=="False")].reason"#),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.status=="False")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::CLUSTER_ENROLLMENT)))]
pub struct ClusterEnrollmentSpec {
    /// The member cluster's public age key, for which the bundle is encrypted.
    pub recipient: AgeRecipient,
    /// How long a bundle can be used after it was made. At most 24h.
    #[serde(default = "half_an_hour")]
    pub ttl: DurationText,
    /// Changing it makes a new bundle; the one before is void at once.
    #[serde(default = "first")]
    pub bundle: BundleId,
    /// Revokes the cluster's certificates, keys and sessions at once.
    #[serde(default)]
    pub disabled: bool,
}

fn half_an_hour() -> DurationText {
    "30m".into()
}

fn first() -> BundleId {
    "1".into()
}

/// State of an enrollment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterEnrollmentStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Conditions")]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The newest bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleStatus>,
    /// Newest version of the cluster's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_version: Option<i64>,
    /// The versions of the cluster's keys that are accepted, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub keys: Vec<KeyStatus>,
    /// When the cluster's certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Timestamp>")]
    pub certificate_expires_at: Option<Time>,
    /// When the cluster's certificate was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Timestamp>")]
    pub certificate_issued_at: Option<Time>,
    /// SHA-256 of the hub's root certificate that the cluster's certificate was issued under, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 64))]
    pub certificate_root: Option<String>,
    /// Whether the cluster holds a session with the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

words! {
    /// How far an enrollment is.
    Phase {
        /// No bundle was made yet.
        Pending = "Pending",
        /// A bundle waits to be used.
        BundleIssued = "BundleIssued",
        /// The cluster has its certificate.
        Enrolled = "Enrolled",
        /// The bundle expired unused.
        Expired = "Expired",
        /// Everything is revoked.
        Disabled = "Disabled",
    }
}

/// A bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// The `spec.bundle` that it was made for.
    pub id: BundleId,
    /// When it was made.
    #[schemars(with = "Timestamp")]
    pub issued_at: Time,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Timestamp>")]
    pub used_at: Option<Time>,
    /// SHA-256 of the public key that it was used with, hex: the same key gets the same answer again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 64))]
    pub used_by: Option<String>,
    /// The bundle itself, while it waits: what is said in clear, and what only the recipient can read. `kubectl zen enroll`
    /// prints it as a manifest for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BundleData>,
    /// Until when it can be used.
    #[schemars(with = "Timestamp")]
    pub expires_at: Time,
}

/// What a bundle says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BundleData {
    /// JSON: trust domain, hub, tenant, cluster, and until when.
    #[schemars(length(max = 8192))]
    pub clear: String,
    /// An age file for the recipient.
    #[schemars(length(max = 65536))]
    pub sealed: String,
    /// SHA-256 of the hub's root certificates, hex: the member is told to take a bundle of no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fingerprints: Vec<String>,
}

/// One version of a cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Which.
    pub version: i64,
    /// Until when it is accepted besides newer ones. None: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Timestamp>")]
    pub until: Option<Time>,
}
