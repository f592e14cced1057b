//! A real Kubernetes API server for tests: etcd and kube-apiserver, ready in seconds, without root or Docker (K-07).
//!
//! Nothing runs beside them: no controllers, so namespaces stay and ServiceAccounts get no tokens of their own. Tests
//! that need pods take the cluster of `cargo xtask cluster`.
//!
//! Who asked what is in its [`audit`] log, which [`rights`] compares with what was granted (K-06).

pub mod audit;
mod control_plane;
pub mod etcd;
mod pki;
pub mod rights;

pub use control_plane::{ControlPlane, binaries};
