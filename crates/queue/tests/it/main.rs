//! The embedded queue from outside.

mod common;
mod conforms;
mod crash;
mod faults;
mod metrics;
mod opening;
mod space;
