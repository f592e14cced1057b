//! The program itself on a real API server: several processes, one of which leads (K-02).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod leader;
mod replica;
