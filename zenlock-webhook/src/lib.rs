//! ZenLocks for pods: ciphertext in Git, plaintext only in the pod's memory (Z-01…Z-08).
//!
//! * [`admit`] decides at a pod's creation what is added to it, or why it is refused; [`admission`] answers the API server.
//! * [`unseal`] gives plaintext to pods that were admitted for it, and to the mesh's own planes.
//! * [`custody`] holds the private keys, [`locks`] reads ZenLocks, [`versions`] knows which of them changed.
//! * [`lead`] is what one replica does for all: statuses, public keys, Secrets for pods that ask for them.
//! * [`fetch`] is what runs in the pod: it asks for the plaintext and writes the files.
//! * [`audit`] is where every access and refusal goes before it is answered.

pub mod admission;
pub mod admit;
pub mod audit;
pub mod custody;
pub mod fetch;
mod fresh;
pub mod lead;
pub mod locks;
pub mod metrics;
pub mod protect;
pub mod serve;
pub mod settings;
pub mod unseal;
pub mod versions;

pub use zen_lock::wire::AUDIENCE;
