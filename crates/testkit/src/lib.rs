//! What the tests of every crate share: a scripted [`api_server`], a misbehaving [`Upstream`], a [`TestCa`] for its TLS,
//! a [`FrozenClock`] that moves only when told, [`Gate`]s to hold an answer back, and [`Reserved`] ports. Nothing here waits by time.
//!
//! Test code: a setup that fails panics with what failed.
#![allow(clippy::missing_panics_doc, reason = "a test helper fails its test")]

pub mod api_server;
mod clock;
mod gate;
mod reserved;
mod tls;
mod upstream;

pub use clock::FrozenClock;
pub use gate::Gate;
pub use reserved::Reserved;
pub use tls::TestCa;
pub use upstream::{Answer, Received, Upstream};
