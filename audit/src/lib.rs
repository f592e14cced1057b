//! `zen-audit`: keeps the audit logs of all components where their pods are not.
//!
//! Each chain is a folder of files, as its writer has it; [`Store`] appends what follows on what it has, durable before it
//! answers, and nothing else. [`anchoring`] keeps the heads of all chains in a third place. The store has a log of its own:
//! what it repaired, removed, found wrong and anchored.

pub mod anchor;
pub mod anchoring;
mod metrics;
pub mod pod;
mod routes;
pub mod store;

pub use anchor::Anchor;
pub use metrics::Metrics;
pub use routes::router;
pub use store::Store;
