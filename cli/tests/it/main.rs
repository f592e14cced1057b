//! Process tests: the real `zen` binary, free ports, temporary folders, readiness by polling with a deadline.

mod check;
mod dead_letters;
mod drain;
mod first_webhook;
mod harness;
mod kill;
mod leaks;
mod reload;
mod restart;
mod send;
mod usage;
