//! `Destination`: one target, how it is reached and what happens when it cannot be (D-01).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{CaSource, Conditions, LocalRef};
use crate::delivery::{DeadLetter, Delivery};
use crate::destination_auth::{Authentication, Headers, Signing};
use crate::rules;
use crate::schema::{Labels, Timestamp};
use crate::text::{Cidr, HostName, LabelValue, NamespaceName, ObjectName, PathAndQuery, TargetUrl, words};

/// One target of events: how it is reached, and what happens when it cannot be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "zen-mesh.io",
    version = "v1alpha1",
    kind = "Destination",
    namespaced,
    shortname = "dest",
    category = "zen-mesh",
    status = "DestinationStatus",
    schema = "disabled",
    derive = "PartialEq",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.target.service.name"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.target.url"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Problem", type_ = "string", json_path = r#".status.conditions[?(@.status=="False")].reason"#),
    printcolumn(name = "Breaker", type_ = "string", json_path = ".status.breaker.state"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.status=="False")].message"#,
        priority = 1
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::DESTINATION)))]
pub struct DestinationSpec {
    /// Whether events wait and nothing is attempted.
    #[serde(default)]
    pub paused: bool,
    /// Where events go.
    pub target: Target,
    /// Who attempts deliveries: `Egress` (the egress of this cluster), `Direct` (the ingester, to a public URL) or
    /// `Relay` (the egress of the member cluster that `cluster` names).
    #[serde(default)]
    pub mode: Mode,
    /// The `ClusterEnrollment` of this namespace whose cluster delivers. For mode `Relay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ObjectName>,
    /// Which namespaces may route here beside its own. None unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_from: Option<AllowFrom>,
    /// TLS towards the target. Public CAs and the target's host name unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Credentials that each delivery carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Signs each delivery (Standard Webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// Headers of each delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// How deliveries are attempted.
    #[serde(default)]
    pub delivery: Delivery,
    /// What the guard against requests to private addresses lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What becomes of events that cannot be delivered.
    #[serde(default)]
    pub dead_letter: DeadLetter,
}

/// Where events go: exactly one of `service` and `url`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::TARGET)))]
pub struct Target {
    /// A Service of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTarget>,
    /// A URL. `https`, or `http` into `network.allowCidrs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TargetUrl>,
}

/// A Service of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTarget {
    /// Its name.
    pub name: ObjectName,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path and query of the request.
    #[serde(default = "root_path")]
    pub path: PathAndQuery,
    /// Whether TLS is spoken.
    #[serde(default)]
    pub scheme: Scheme,
}

fn root_path() -> PathAndQuery {
    "/".into()
}

words! {
    /// How a Service is spoken to.
    #[derive(Default)]
    Scheme {
        /// TLS.
        #[default]
        Https = "https",
        /// Plain text.
        Http = "http",
    }
}

words! {
    /// Who attempts deliveries (D-02).
    #[derive(Default)]
    Mode {
        /// The egress of this cluster.
        #[default]
        Egress = "Egress",
        /// The ingester itself, to a public URL.
        Direct = "Direct",
        /// The egress of a member cluster.
        Relay = "Relay",
    }
}

/// Which namespaces may route here: those named, and those whose labels match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowFrom {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<NamespaceName>,
    /// Namespaces by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// Namespaces by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, all of them.
    #[schemars(with = "Labels")]
    pub match_labels: std::collections::BTreeMap<String, LabelValue>,
}

/// TLS towards the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// CA certificates that may issue the target's, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaSource>,
    /// A Secret of type `kubernetes.io/tls` with the certificate that is shown to the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<LocalRef>,
    /// Name that the target's certificate must have. The target's host unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<HostName>,
}

/// What the guard against requests to private addresses lets through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Private address ranges that a URL may lead into, within what the mesh configuration grants this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub allow_cidrs: Vec<Cidr>,
}

/// State of a Destination. Counts are metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Conditions")]
    pub conditions: Vec<Condition>,
    /// Whether the target takes deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
}

/// State of the circuit breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// `Closed`: deliveries flow; `Open`: they wait; `HalfOpen`: one probes.
    pub state: BreakerState,
    /// Since when.
    #[schemars(with = "Timestamp")]
    pub since: Time,
}

words! {
    /// State of a circuit breaker (D-11).
    BreakerState {
        /// Deliveries flow.
        Closed = "Closed",
        /// Deliveries wait.
        Open = "Open",
        /// One delivery probes.
        HalfOpen = "HalfOpen",
    }
}

words! {
    /// Whether a target takes deliveries.
    Health {
        /// The last attempts succeeded.
        Healthy = "Healthy",
        /// Some of the last attempts failed.
        Degraded = "Degraded",
        /// The breaker is open.
        Unhealthy = "Unhealthy",
        /// Nothing was attempted yet.
        Unknown = "Unknown",
    }
}
