//! Attempts against a target that misbehaves.

mod answers;
mod fixture;
mod network;
mod requests;
mod reuse;
mod settling;
