//! ZenLocks for pods: ciphertext in Git, plaintext only in the pod's memory (Z-01…Z-08).
//!
//! * [`admit`] decides at a pod's creation what is added to it, or why it is refused.
//! * [`fetch`] is what runs in the pod: it asks for the plaintext and writes the files.

pub mod admit;
pub mod fetch;

/// Audience of the tokens that the unseal API takes, and no other.
pub const AUDIENCE: &str = "zen-mesh-unseal";
