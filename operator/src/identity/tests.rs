//! The whole service against a scripted API server (T-02, T-03).

mod auditing;
mod cluster;
mod keeping;
mod serving;
