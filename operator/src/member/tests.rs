//! A member against a scripted API server, and over real TLS against a hub in process (T-01, T-06, T-07).

mod cluster;
mod enrolling;
mod hub;
mod keeping;
mod refusals;
