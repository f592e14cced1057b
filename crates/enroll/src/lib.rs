//! How a cluster comes to trust a hub, and the hub it (T-01): pure, without Kubernetes or I/O.
//!
//! 1. The hub makes a [`Bundle`] for a `ClusterEnrollment`: who the cluster will be, in clear; a credential, an HMAC key and
//!    the hub's root certificates, sealed to the member's public key. The hub keeps none of it: see [`secrets`].
//! 2. The member opens it, makes the key of its issuing CA, and redeems the bundle: a [`Redeem`] with a signing request,
//!    proven by a [`proof`] over the whole request.
//! 3. The hub reads it with [`authenticate`] and decides with [`decide`]: issue, give the same answer again, or refuse with a
//!    reason of [`zen_model::reason::EnrollRefusal`].
//! 4. From then on it asks for what changed with a [`Sync`], over mutual TLS and with a proof by its agent key.
//!
//! What is issued, and the compare-and-swap on the enrollment before it, are the operator's.

mod authenticate;
pub mod bundle;
mod decide;
mod given;
pub mod proof;
mod redeem;
mod replay;
pub mod secrets;
mod sync;
mod text;

pub use authenticate::{Authentic, Received, Refused, authenticate};
pub use bundle::{Bundle, Clear, OpenError, Opened, Stamp};
pub use decide::{Enrollment, Facts, Issued, Used, Verdict, decide};
pub use given::{Certificate, Given, Keys};
pub use redeem::{Answer, MAX_BODY, Redeem, path};
pub use replay::{Fresh, Replays};
pub use sync::{Holds, Sync, Synced, sync_path};
pub use text::SecretText;
