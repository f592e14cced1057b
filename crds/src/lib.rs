//! The objects that users write: Webhook, Destination, ZenLock and `ClusterEnrollment`, group `zen-mesh.io`.
//!
//! The Rust types are the one source: the manifests in `crds/yaml` ([`yaml()`]), offline validation ([`validate()`]) and
//! the reference in the documentation ([`reference_markdown()`]) all come from their schemas. Deserializing a type checks
//! almost nothing and ignores unknown fields, so that an older pod goes on after the schema was upgraded; what a user
//! wrote is checked by [`validate()`] and by the API server, in the same words.

#![allow(clippy::duplicated_attributes, reason = "every printer column of kube's derive has a name, a type and a path")]

mod cluster_enrollment;
mod common;
mod defaults;
mod delivery;
mod destination;
mod destination_auth;
mod manifest;
mod reference;
mod rules;
mod schema;
mod text;
mod units;
mod validate;
mod verification;
mod webhook;
mod zenlock;

pub use cluster_enrollment::*;
pub use common::{CaSource, CredentialsRef, CredentialsSource, KeyRef, KeySource, LocalRef, Rate, SecretSource};
pub use defaults::defaulted;
pub use delivery::*;
pub use destination::*;
pub use destination_auth::*;
pub use manifest::{manifest, yaml};
pub use reference::reference_markdown;
pub use rules::{Rule, all as rules};
pub use schema::{KINDS, schema};
pub use text::*;
pub use units::{DurationText, InvalidDuration, InvalidQuantity, Quantity, parse_duration, parse_quantity};
pub use validate::{SchemaProblem, validate};
pub use verification::*;
pub use webhook::*;
pub use zenlock::*;

/// Group of all kinds.
pub const GROUP: &str = "zen-mesh.io";
/// Version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as `apiVersion` names them.
pub const API_VERSION: &str = "zen-mesh.io/v1alpha1";
