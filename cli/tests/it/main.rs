//! Process tests: the real `zen` binary, free ports, temporary folders, readiness by polling with a deadline.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]

mod audit;
mod check;
mod dead_letters;
mod demo;
mod disk;
mod drain;
mod first_webhook;
mod harness;
mod kill;
mod leaks;
mod limits;
mod lock;
mod reload;
mod restart;
mod send;
mod usage;
