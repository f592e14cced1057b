//! `Webhook`: one source of webhooks, how it is verified and where its events go (W-01).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{CaSource, Conditions, KeyRef, KeySource, Rate};
use crate::rules;
use crate::text::{
    Cidr, EventType, HeaderName, HostName, JsonPointer, MediaType, NamespaceName, ObjectName, SchemaVersion, ShortText,
    UriReference, UrlPath, words,
};
use crate::units::{DurationText, Quantity};
use crate::verification::Verification;

/// One source of webhooks: how its requests are verified, and which Destinations get its events.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "zen-mesh.io",
    version = "v1alpha1",
    kind = "Webhook",
    namespaced,
    shortname = "wh",
    category = "zen-mesh",
    status = "WebhookStatus",
    schema = "disabled",
    derive = "PartialEq",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.verification.provider"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
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
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.status=="False")].message"#,
        priority = 1
    ),
    printcolumn(name = "Active", type_ = "boolean", json_path = ".spec.active", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Whether requests are taken. `false` answers 503 with `Retry-After` and keeps what was accepted.
    #[serde(default = "yes")]
    pub active: bool,
    /// Host names at which it is served, without port. Any host unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub hosts: Vec<HostName>,
    /// Path at which it is served, compared exactly with the undecoded path. `/NAMESPACE/NAME` unless set. It lies
    /// beneath `/NAMESPACE/`, or the mesh configuration grants the host to this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
    /// How requests prove who sent them.
    pub verification: Verification,
    /// Requires a TLS client certificate of the source. None is asked for unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Where type, id and source of an event come from. The preset's rules unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventMapping>,
    /// How repeats are recognised. The preset's key unless set.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// What is taken at most.
    #[serde(default)]
    pub limits: Limits,
    /// Media types that are taken, without parameters. The preset's unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub content_types: Vec<MediaType>,
    /// Schemas of bodies, one for each version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"])
    )]
    pub schemas: Vec<PayloadSchema>,
    /// Where events go: every route that matches gets the event. An event that no route matches is kept as unrouted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<Route>,
}

fn yes() -> bool {
    true
}

/// Requires a TLS client certificate of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The CA that must have issued it.
    pub ca_ref: CaSource,
    /// Subject alternative names of which it must have one. Any certificate of that CA when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub subjects: Vec<ShortText>,
}

/// Where the CloudEvents attributes of an event come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventMapping {
    /// The `type`. An event without it has the type `<preset>.event`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<ValueSource>,
    /// The `id`. An event without it gets a generated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<KeySource>,
    /// The `source`, a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<UriReference>,
}

/// Where a value is found in a request: exactly one of `header`, `pointer` and `value`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::VALUE_SOURCE)))]
pub struct ValueSource {
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The value that this RFC 6901 pointer finds in the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<JsonPointer>,
    /// Always this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<EventType>,
}

/// How repeats are recognised (W-07).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Idempotency {
    /// Where the key is found. The preset's delivery id unless set; without either nothing is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySource>,
    /// How long a key is remembered.
    pub window: DurationText,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { key: None, window: "24h".into() }
    }
}

/// What is taken at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::LIMITS)))]
pub struct Limits {
    /// Largest body. Between 1 byte and 15Mi.
    pub body: Quantity,
    /// How many requests in which time. No limit of this Webhook unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// A bucket of the mesh configuration that this Webhook shares with others of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<ObjectName>,
    /// Address ranges from which requests are taken. Any unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub sources: Vec<Cidr>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: "1Mi".into(), rate: None, bucket: None, sources: Vec::new() }
    }
}

/// Schema of bodies: exactly one of `json` and `configMapRef`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::PAYLOAD_SCHEMA)))]
pub struct PayloadSchema {
    /// Name of this version.
    pub version: SchemaVersion,
    /// Types of events that it is for. All unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub event_types: Vec<EventType>,
    /// Whether a body that does not fit is kept as a dead letter (`enforce`) or only counted (`report`).
    #[serde(default)]
    pub mode: SchemaMode,
    /// The JSON Schema itself, without remote references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FreeObject>")]
    pub json: Option<Value>,
    /// A key of a ConfigMap of this namespace that holds the JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
}

words! {
    /// What a failed schema check does.
    #[derive(Default)]
    SchemaMode {
        /// The event becomes a dead letter.
        #[default]
        Enforce = "enforce",
        /// The event goes on and is counted.
        Report = "report",
    }
}

/// Events that match go to these Destinations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Conditions that must all hold. Always when empty.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub matches: Vec<Match>,
    /// Who gets the event.
    #[schemars(length(min = 1, max = 16))]
    pub destinations: Vec<DestinationRef>,
}

/// One condition of a route: `eventType` alone, or one of `pointer` and `header` with exactly one of `equals`, `in`,
/// `prefix` and `exists`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "x-kubernetes-validations" = rules::schema(rules::MATCH),
    // `equals` and `in` take any scalar, which CEL cannot see: what concerns them is JSON Schema.
    "oneOf" = [
        {"required": ["eventType"]}, {"required": ["equals"]}, {"required": ["in"]}, {"required": ["prefix"]},
        {"required": ["exists"]}
    ],
))]
pub struct Match {
    /// The event's type is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub event_type: Option<Vec<EventType>>,
    /// The value that this RFC 6901 pointer finds in the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<JsonPointer>,
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// It equals this string, number or boolean. A header is always a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub equals: Option<Value>,
    /// It equals one of these strings, numbers or booleans.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Scalar>>", length(min = 1, max = 64))]
    pub one_of: Option<Vec<Value>>,
    /// It is a string that begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<ShortText>,
    /// It is there (`true`), or is not (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// A Destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRef {
    /// Its name.
    pub name: ObjectName,
    /// Its namespace, which must consent with `allowFrom`. The Webhook's own unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
}

/// State of a Webhook. Counts are metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs`, `Programmed` and, where something holds within one replica only, `PerReplicaState`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Conditions")]
    pub conditions: Vec<Condition>,
    /// Where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Url>")]
    pub url: Option<String>,
    /// Which secret verified last. Changes at most every minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<LastVerified>,
}

/// Which secret verified last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastVerified {
    /// Object and key, never the value.
    pub secret: ShortText,
    /// When.
    #[schemars(with = "crate::schema::Timestamp")]
    pub time: Time,
}

/// Schema of a URL in a status.
struct Url;
/// Schema of a string, number or boolean.
struct Scalar;
/// Schema of free-form JSON.
pub(crate) struct FreeObject;

crate::schema::literal! {
    Url => { "type": "string", "maxLength": 1024 }
    // The contradictions refuse objects and arrays, whatever they hold; there is no `type` for "a scalar" here.
    Scalar => {
        "x-kubernetes-preserve-unknown-fields": true, "maxLength": 512,
        "minProperties": 1, "maxProperties": 0, "minItems": 1, "maxItems": 0,
        "x-zen-hint": "a string, number or boolean",
    }
    FreeObject => { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 64 }
}
