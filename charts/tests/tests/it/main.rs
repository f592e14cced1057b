//! Tests of the chart with real Helm, of what is made from it, and of the examples; some on a real API server.

mod coverage;
mod examples;
mod kustomize;
mod links;
mod names;
mod refusals;
mod rights;
mod roles;
mod schema;
mod security;
mod server;
mod stable;
mod values;
