//! The egress between a session made of channels and targets that misbehave.

mod begin;
mod drain;
mod fairness;
mod fixture;
mod leases;
mod origin;
mod outcomes;
