//! Where heads are kept that no file of the store can change.

mod config_map;

use std::pin::Pin;

use zen_audit::Head;

pub use config_map::{ConfigMapAnchor, NAME};

/// A third place: neither the writers' disks nor the store's.
pub trait Anchor: Send + Sync {
    /// The heads that were kept last; none when there never were any.
    fn read(&self) -> Anchoring<'_, Vec<Head>>;
    /// Keeps these instead.
    fn write<'a>(&'a self, heads: &'a [Head]) -> Anchoring<'a, ()>;
}

/// What an anchor answers.
pub type Anchoring<'a, T> = Pin<Box<dyn Future<Output = Result<T, AnchorError>> + Send + 'a>>;

/// Heads cannot be kept, or read back.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} the anchored heads: {reason}")]
pub struct AnchorError {
    /// `read` or `write`.
    pub action: &'static str,
    /// Why.
    pub reason: String,
}
