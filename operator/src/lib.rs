//! The operator: reconciles the mesh configuration and the objects of users into everything that runs, and says how it
//! went.
//!
//! observe (stores) → [`decide`] (pure) → apply ([`Writer`]) → report ([`status`]). Only the leader writes; every
//! replica issues certificates ([`identity`]).

mod backoff;
pub mod cleanup;
pub mod configuration;
pub mod decide;
pub mod enroll;
pub mod identity;
mod limit;
pub mod member;
pub mod names;
pub mod object;
mod queue;
pub mod rbac;
pub mod reconcile;
pub mod rotation;
pub mod run;
pub mod scale;
pub mod settings;
pub mod status;
pub mod wait;
mod watching;
pub mod world;
pub mod writer;

pub use object::{Id, Object, Present};
pub use writer::Writer;
