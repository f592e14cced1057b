//! The chart, rendered by Helm, and the files that are made from it. Its tests are the chart's tests (K-05).

mod generated;
mod helm;
mod rendering;

use std::path::PathBuf;

pub use generated::generated;
pub use helm::Helm;
pub use rendering::{Rendering, documents};

/// The root of the repository.
pub fn root() -> PathBuf {
    // Asked when it runs: a build that two clones share was compiled for one of them.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = manifest.filter(|folder| folder.join("src/rendering.rs").is_file());
    own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("../..")
}

/// What `cargo xtask` keeps between clones: `$XDG_CACHE_HOME/zen-mesh`, else `~/.cache/zen-mesh`; none without a home.
pub fn cache() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|base| base.is_absolute());
    Some(named.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("zen-mesh"))
}
