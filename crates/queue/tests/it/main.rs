//! The embedded queue from outside.

mod common;
mod conforms;
mod crash;
mod faults;
mod opening;
mod space;
