//! The log over real files.

mod crash;
mod faults;
mod log;
mod mutations;
mod support;
