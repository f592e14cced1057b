//! What several kinds share: references to secrets and CAs, rates, conditions.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules;
use crate::text::{DataKey, HeaderName, JsonPointer, ObjectName};
use crate::units::DurationText;

/// One key of an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// The object's name.
    pub name: ObjectName,
    /// The key inside it.
    pub key: DataKey,
}

/// An object of the same namespace, and one of its keys where one is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialsRef {
    /// The object's name.
    pub name: ObjectName,
    /// The key inside it. Basic authentication reads the keys `username` and `password` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<DataKey>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// The object's name.
    pub name: ObjectName,
}

/// Where a secret value lies: exactly one of `secretRef` and `zenLockRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::SECRET_SOURCE)))]
pub struct SecretSource {
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
    /// A key of a ZenLock of this namespace that allows this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zen_lock_ref: Option<KeyRef>,
}

/// Where credentials lie: exactly one of `secretRef` and `zenLockRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::SECRET_SOURCE)))]
pub struct CredentialsSource {
    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CredentialsRef>,
    /// A ZenLock of this namespace that allows this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zen_lock_ref: Option<CredentialsRef>,
}

/// Where CA certificates (PEM) lie: exactly one of `configMapRef` and `secretRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::CA_SOURCE)))]
pub struct CaSource {
    /// A key of a ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
}

/// Where a key is found in a request: exactly one of `header` and `pointer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::KEY_SOURCE)))]
pub struct KeySource {
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// The value that this RFC 6901 pointer finds in the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<JsonPointer>,
}

/// So many requests per time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// In which time.
    #[serde(default = "one_second")]
    pub per: DurationText,
    /// How many at once after a pause; as many as `requests` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

fn one_second() -> DurationText {
    "1s".into()
}

/// Schema of `conditions`: that of `metav1.Condition`, one for each type.
pub(crate) struct Conditions;

impl JsonSchema for Conditions {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array", "maxItems": 16,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                "properties": {
                    "type": {
                        "description": "What it says something about, such as `Accepted`.",
                        "type": "string", "maxLength": 316,
                        "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    },
                    "status": { "description": "Whether it holds.", "type": "string", "enum": ["True", "False", "Unknown"] },
                    "observedGeneration": {
                        "description": "The `metadata.generation` that it is about.",
                        "type": "integer", "format": "int64", "minimum": 0,
                    },
                    "lastTransitionTime": {
                        "description": "When `status` last changed.", "type": "string", "format": "date-time",
                    },
                    "reason": {
                        "description": "Stable code, see the table of reasons.",
                        "type": "string", "minLength": 1, "maxLength": 1024,
                        "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    },
                    "message": { "description": "For people.", "type": "string", "maxLength": 32768 },
                },
            },
        })
    }
}
