//! What a delivery carries beside the event: credentials, signatures, headers (D-08, D-09).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{CredentialsSource, KeyRef, SecretSource};
use crate::rules;
use crate::schema::HeaderValues;
use crate::text::{ForwardedHeader, HeaderName, HeaderValue};

/// Credentials that each delivery carries: exactly one of `bearer`, `basic` and `header`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::AUTHENTICATION)))]
pub struct Authentication {
    /// `Authorization: Bearer` with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretSource>,
    /// `Authorization: Basic` with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<CredentialsSource>,
    /// A header of another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderAuthentication>,
}

/// A header with a secret value: exactly one of `secretRef` and `zenLockRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::SECRET_SOURCE)))]
pub struct HeaderAuthentication {
    /// Name of the header.
    pub name: HeaderName,
    /// A key of a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
    /// A key of a ZenLock of this namespace that allows this Destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zen_lock_ref: Option<KeyRef>,
}

/// Signs each delivery as Standard Webhooks says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// Keys, newest first. Each signs, so that the target can change over.
    #[schemars(length(min = 1, max = 8))]
    pub secrets: Vec<SecretSource>,
}

/// Headers of each delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::HEADERS)))]
pub struct Headers {
    /// Received headers to pass on, beside the safe ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub forward: Vec<ForwardedHeader>,
    /// Headers to set, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "HeaderValues")]
    pub set: BTreeMap<String, HeaderValue>,
}
