//! The unseal API: plaintext for pods that were admitted for it, and for the mesh's own planes (Z-03, Z-08).
//!
//! Who asks is told by the API server ([`zen_pod::caller`]), what a pod was admitted for by the arguments of its init container, which
//! nobody can change ([`judge`]), and whether it may still have it by the ZenLock of this moment. No decision is kept.

mod answer;
mod batch;
mod judge;
mod limit;
mod service;

pub use service::{Parts, router};
pub use zen_lock::wire;
