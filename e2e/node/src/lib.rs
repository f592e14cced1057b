//! What tests on real pods share: a [`Cluster`] that `cargo xtask cluster up` made, its [`Component`]s to kill, a
//! [`Namespace`] that goes with its test, a [`Source`] of webhooks and a [`Load`] of them, a [`Target`] pod, the [`Mesh`]
//! itself, the API server's [`audit`] log.
//!
//! `cargo xtask test --only node` makes a cluster, installs the mesh and runs the tests. With a cluster in
//! `target/cluster` (`cargo xtask cluster up`, `install`), `cargo test -p zen-e2e-node -- --test-threads=1` runs them on
//! that one. One at a time, because some kill what the others stand on.

mod cluster;
mod component;
mod images;
mod load;
mod mesh;
mod namespace;
mod passage;
mod source;
mod target;
mod wait;

pub use cluster::{Cluster, Container, Held};
pub use component::Component;
pub use images::{PAUSE, binary, reference};
pub use load::{Acknowledged, Failure, Load, Tally};
pub use mesh::{Mesh, NAME, Part, Pod};
pub use namespace::Namespace;
pub use passage::Passage;
pub use source::{Answer, Connection, Source, Unanswered};
pub use target::{Delivery, Target};
pub use wait::until;
pub use zen_e2e::audit;

/// The root of the repository.
pub fn root() -> std::path::PathBuf {
    // Asked when it runs: a build that two clones share was compiled for one of them.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    std::path::Path::new(&manifest).join("../..")
}
