//! Which workload may do what, in terms of SPIFFE ids (T-05). Default deny, pure.
//!
//! * [`Policy`] is a set of [`Rule`]s and the order in which they count.
//! * [`Action`] and [`Component`] hold the table that ships: who may do what.
//! * [`Mesh`] is that table with the ids of one installation, the hub's or a member's.

mod action;
mod mesh;
mod rule;

pub use action::{Action, Component};
pub use mesh::Mesh;
pub use rule::{Denied, Object, Pattern, Permit, Place, Policy, Reach, Request, Rule, Subject};

#[cfg(test)]
mod tests;
