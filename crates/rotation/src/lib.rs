//! How a root, an issuing CA, a serving certificate or a signing key is exchanged under traffic (T-04). Pure: what is stored,
//! what is seen, and what is to be done next.
//!
//! ```text
//! Planned ─▶ Trusting ─▶ Canary ─▶ Probing ─▶ RollingOut ─▶ Verifying ─▶ Overlap ─▶ Retiring ─▶ Finished
//!               │           │         │            │            │           │
//!               └───────────┴─────────┴────────────┴────────────┴───────────┴─▶ RollingBack ─▶ Distrusting ─▶ RolledBack
//! ```
//!
//! Two rules make it that no request fails: nothing new is used before everybody trusts it, and nothing old is distrusted
//! before nobody uses it. Every step is level-triggered: [`decide`] looks at how things are, so that an operator that was
//! restarted at any point goes on from what it stored and what it sees. "Trust" and "use" of a signing key are to verify and to
//! sign with it.

mod conditions;
mod decide;
mod dry_run;
pub mod inventory;
mod observed;
pub mod record;
pub mod signing;
mod state;

pub use conditions::{Condition, Stored};
pub use decide::{Step, Which, Work, decide};
pub use dry_run::dry_run;
pub use observed::{Half, Member, Newcomers, Observed, Probes, Rate, is_raised};
pub use state::{Phase, Plan, Rotation, Subject};
