//! Trust of the mesh: the built-in certificate authority, SPIFFE ids, and the rustls configurations of every hop between
//! our own parts (T-02, T-03, T-05, D-03).
//!
//! * [`Ca`] issues: a root issuing CAs, one for each [`Scope`], an issuing CA leaves. Under `zen up` the root is one key in a
//!   folder. [`TrustRoots`] take a workload from the issuing CA of its scope and from no other.
//! * [`SigningRequest`] is what a pod sends, so that its key never leaves it.
//! * [`Identity`] is what one workload presents and whom it trusts; both are swapped while connections live on.
//! * [`mtls_server`] and [`mtls_client`] are the only configurations between our parts: TLS 1.3, both sides
//!   authenticated, the peer's SPIFFE id in an explicit list. There is no switch that turns any of it off.
//! * [`intake_server`] faces webhook sources.
//!
//! All cryptography is aws-lc-rs, passed explicitly, so that no process-wide default can change it.

mod authority;
pub mod bundle;
pub mod ca;
mod certificate;
pub mod csr;
mod error;
mod files;
mod foreign;
mod hub;
mod identity;
mod pinned;
mod renew;
mod scope;
mod spiffe;
mod tls;
mod trust;
mod verify;

pub use ca::{Ca, SignError, Signed};
pub use certificate::{KeyPairAndChain, Presented, Validity, certificates, fingerprint, validity};
pub use csr::{CsrRefused, Names, SigningRequest, issuer_request, signing_request};
pub use error::Error;
pub use identity::{HotCertificate, Identity};
pub use renew::{Renewable, keep_fresh, keep_fresh_by, pause, renewal};
pub use scope::{Scope, Workload};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use tls::{
    hub_client, intake_server, mtls_client, mtls_client_by, mtls_server, mtls_server_by, named_client,
    optional_mtls_server, optional_mtls_server_by, pinned_client,
};
pub use trust::TrustRoots;
pub use verify::{PeerRefused, Policy, explain, peer_id, refusal_reason};
