//! The ingester as a whole, in-process: real sockets, a queue in memory, scripted egress sessions.

mod accept;
mod admin;
mod connections;
mod feed;
mod hygiene;
mod kit;
mod memory;
mod refusals;
