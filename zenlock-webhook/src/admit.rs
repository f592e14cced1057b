//! Admission of pods: what is added to one that asks for ZenLocks, or why it is refused (Z-02, Z-04).
//!
//! [`Wanted`] is what the annotations ask for, [`Known`] what is known of a ZenLock at this moment, and [`mutate`] a plain
//! function of both: no clock, no I/O, no side effect, in a dry-run or otherwise.

mod annotations;
mod containers;
mod environment;
mod injected;
mod known;
mod mount_path;
mod mutate;
mod patch;
mod reader;
mod refused;
mod resources;
mod validate;

pub use annotations::{Delivery, Wanted};
pub use environment::{Unrepresentable, representable, variable};
pub use injected::{REFRESH, SECRET_PREFIX, UNSEAL};
pub use known::{KeyFacts, Known};
pub use mutate::{Mutation, Settings, mutate};
pub use refused::Refused;
pub use validate::{is_file_name, validate};

/// Asks for ZenLocks; the API server sends pods with it and no others.
pub const INJECT: &str = "zen-mesh.io/inject";
/// Where the files are mounted.
pub const MOUNT_PATH: &str = "zen-mesh.io/mount-path";
/// ZenLocks whose keys also become environment variables.
pub const ENV: &str = "zen-mesh.io/env";
/// Who gets files and variables.
pub const CONTAINERS: &str = "zen-mesh.io/containers";
/// `memory` or `secret`.
pub const DELIVERY: &str = "zen-mesh.io/delivery";
/// Whether changes are followed.
pub const REFRESH_CHANGES: &str = "zen-mesh.io/refresh";
/// How the application hears of changes.
pub const REFRESH_NOTIFY: &str = "zen-mesh.io/refresh-notify";
/// Label of pods and Secrets of the delivery `secret`; its value is the delivery's word.
pub const DELIVERY_LABEL: &str = "zen-mesh.io/delivery";
