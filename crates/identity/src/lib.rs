//! Who the parts of the mesh are to each other in a cluster, and how they talk (T-02, T-05, T-07).
//!
//! * [`Client`] is how a pod gets its certificates from the operator's identity service and keeps them fresh; [`wire`] is
//!   what the two say to each other.
//! * [`policy`] says which workload may do what. Default deny, pure.
//! * [`server`] and [`http`] are the two ends of every HTTP API between our own parts: mutual TLS, ids checked, then the policy.
//! * [`endpoint`] is a server that is known by its name; [`exchange`] is one request to anybody.
//! * [`token`] is how a pod says who it is where it has no certificate.
//! * [`control`] is what the operator and the pods tell each other through them.

pub mod client;
pub mod control;
pub mod endpoint;
pub mod exchange;
pub mod http;
pub mod policy;
pub mod server;
pub mod token;
pub mod wire;

pub use client::Client;
pub use policy::{Action, Component, Denied, Mesh};
