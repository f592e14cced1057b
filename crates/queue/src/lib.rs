//! The durable queue: one commit before the 2xx, leases and settlements after it.
//!
//! [`Queue`] is the contract; `conformance` (feature `testing`) is the suite that every implementation passes; [`Embedded`] keeps
//! everything in one folder. Retry state and dead letters live in the queue too, so that nothing is written twice.

mod api;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod embedded;
pub mod handover;

pub use api::*;
pub use embedded::{Embedded, Options};
