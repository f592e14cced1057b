//! The audit log of each component: entries that are chained by their hashes, written ahead and never lost silently
//!
//!
//! * [`Log`] is what a component has: [`Log::record`] for what must be on disk before the answer, [`Log::note`] for the rest.
//! * [`Entry`] is one line, [`Head`] names where a chain stands, [`verify`] finds what was done to it afterwards.
//! * [`folder`] is how chains lie on a disk.
//! * [`ship`] brings them to a store: [`remote`] over mutual TLS, in the words of [`wire`].
//!
//! The format is written down in `docs/security/audit.md`, so that others can verify it.

pub mod entry;
pub mod folder;
pub mod head;
pub mod log;
pub mod names;
pub mod record;
pub mod remote;
pub mod ship;
pub mod verify;
pub mod wire;

pub use entry::Entry;
pub use head::{Hash, Head};
pub use log::{Log, Options, Receipt, Refused};
pub use names::{ChainId, Writer};
pub use record::{Action, Record};
