//! The domain of Zen Mesh, without Kubernetes, async runtime or I/O: names, events, reason codes, retry schedule,
//! breaker, settlements. Every other crate speaks in these types.

pub mod breaker;
pub mod cluster;
pub mod event;
pub mod fault;
pub mod header;
pub mod name;
pub mod observe;
pub mod reason;
pub mod retry;
pub mod secret;
pub mod settle;
pub mod signing;
pub mod time;

pub use cluster::{ClusterId, ClusterIdError};
pub use event::Event;
pub use fault::Fault;
pub use name::{EventId, Name, Namespace, ObjectKey};
pub use reason::{DeadReason, LockReason, ObjectReason, Refusal};
pub use secret::Secret;
pub use settle::Settlement;
pub use time::Timestamp;
