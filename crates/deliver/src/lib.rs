//! One attempt to deliver an event: guard, connect, sign, send, classify.
//!
//! [`Prepared`] holds what all deliveries to a Destination share, [`Deliverer::attempt`] makes one, [`settle`] says what
//! follows. Targets are spoken to in HTTP/1.1 only for now. Redirects are never followed: a 3xx is a refusal.

mod attempt;
pub mod cloudevents;
mod connect;
mod connection;
mod outcome;
mod pool;
mod prepare;
mod request;
mod resolve;
pub mod retry_after;
mod stream;

pub use attempt::Deliverer;
pub use outcome::{AttemptResult, class_of_fault, class_of_status, release, settle};
pub use prepare::{PrepareError, Prepared};
pub use resolve::{Resolve, Resolving, StaticResolver, SystemResolver};
/// The SSRF guard (D-07): the one that configuration is checked with, asked again at every connect.
pub use zen_compile::network as guard;
