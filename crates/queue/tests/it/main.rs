//! The embedded queue from outside.

mod bodies;
mod common;
mod conforms;
mod crash;
mod faults;
mod handover;
mod metrics;
mod opening;
mod space;
