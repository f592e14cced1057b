//! The durable queue: one commit before the 2xx, leases and settlements after it.
//!
//! [`Queue`] is the contract; [`conformance`] is the suite that every implementation passes; [`embedded`] keeps
//! everything in one folder. Retry state and dead letters live in the queue too, so that nothing is written twice.

mod api;

pub use api::*;
