//! The mesh on real pods of a real node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod away;
mod clusters;
mod delivery;
mod ground;
mod install;
mod kills;
mod reload;
mod rolling;
mod stage;
mod zen_locks;
