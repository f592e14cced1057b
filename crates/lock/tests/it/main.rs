//! The format of `ZenLock` against the age project's own tool and vectors, and its properties.

mod interop;
mod oracle;
mod properties;
mod vectors;
