//! Objects + secrets → one immutable [`Snapshot`] and a verdict per object. Pure, total, deterministic: the same code
//! serves `zen check`, `zen up` and the pods.

mod snapshot;

pub use snapshot::*;
