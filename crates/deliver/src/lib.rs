//! One attempt to deliver an event: guard, connect, sign, send, classify.
//!
//! Targets are spoken to in HTTP/1.1 only for now.

pub mod guard;
