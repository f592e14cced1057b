//! Sources of objects: a folder of manifests, read ([`manifest`]), checked ([`check()`]), watched, compiled and published
//! ([`Live`]); and the API server of a cluster ([`cluster`]).

mod check;
pub mod cluster;
mod error;
mod finding;
pub mod folder;
pub mod manifest;
mod publish;
mod scan;
pub mod testing;
mod watcher;
pub mod yaml;

pub use check::{Overrides, check, check_with, service_override};
pub use error::Error;
pub use finding::Finding;
pub use publish::{Live, Options, Published};
