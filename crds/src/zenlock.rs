//! `ZenLock`: secrets that may lie in Git, because only ciphertext is in them (Z-01).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Conditions;
use crate::schema::Ciphertexts;
use crate::text::{AgeFile, DataKey, ObjectName, ShortText, words};

/// Secrets as ciphertext, and who may have them opened.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "zen-mesh.io",
    version = "v1alpha1",
    kind = "ZenLock",
    plural = "zenlocks",
    namespaced,
    shortname = "zl",
    category = "zen-mesh",
    status = "ZenLockStatus",
    schema = "disabled",
    derive = "PartialEq",
    printcolumn(
        name = "Decryptable",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Decryptable")].status"#
    ),
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
pub struct ZenLockSpec {
    /// One ASCII-armored age file for each key.
    #[schemars(with = "Ciphertexts")]
    pub encrypted_data: BTreeMap<String, AgeFile>,
    /// Who of the same namespace may have it opened. Nobody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"])
    )]
    pub allowed_subjects: Vec<Subject>,
}

/// Who may have a ZenLock opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `ServiceAccount` for pods that run under it; `Webhook` and `Destination` for the mesh on behalf of that object.
    pub kind: SubjectKind,
    /// Its name.
    pub name: ObjectName,
}

words! {
    /// Kinds of subjects.
    SubjectKind {
        /// Pods that run under it.
        ServiceAccount = "ServiceAccount",
        /// The mesh on behalf of a Webhook.
        Webhook = "Webhook",
        /// The mesh on behalf of a Destination.
        Destination = "Destination",
    }
}

/// State of a ZenLock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ZenLockStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted` and `Decryptable`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Conditions")]
    pub conditions: Vec<Condition>,
    /// Public keys of the mesh that decrypt it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub decryptable_with: Vec<ShortText>,
    /// Keys of `encryptedData` that no current key decrypts, only a deprecated one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub needs_reencryption: Vec<DataKey>,
}
