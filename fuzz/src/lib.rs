//! What fuzzers do with bytes from outside. Each function must return for any input; `cargo xtask fuzz` searches, and the
//! inputs in `corpus/` run as plain tests.

mod adopt;
mod age;
mod audit;
mod csr;
mod enroll;
mod frame;
mod manifest;
mod record;
mod request;
mod review;
mod signature;

pub use adopt::adopt;
pub use age::age;
pub use audit::audit;
pub use csr::csr;
pub use enroll::enroll;
pub use frame::frame;
pub use manifest::manifest;
pub use record::record;
pub use request::request;
pub use review::review;
pub use signature::signature;
