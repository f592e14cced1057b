//! The ingester as a whole, in-process: real sockets, a queue in memory (and the embedded one), scripted egress sessions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail it as the test itself does")]

mod accept;
mod admin;
mod aggregated;
mod connections;
mod draining;
mod durable;
mod feed;
mod fleet;
mod handover;
mod hygiene;
mod kit;
mod memory;
mod refusals;
mod relay;
mod sessions;
