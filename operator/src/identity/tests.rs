//! The whole service against a scripted API server (T-02, T-03).

mod auditing;
pub(crate) mod cluster;
mod keeping;
mod serving;
