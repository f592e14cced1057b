//! The engine from outside: every preset through one table of cases, against published vectors and against the
//! providers' own SDKs.

mod allocations;
mod compile;
mod fixture;
mod oracle;
mod properties;
mod samples;
mod secrecy;
mod table;
mod vectors;
