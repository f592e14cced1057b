//! The API types on a real API server (K-01): it takes our manifests and examples, and refuses what it should, in the
//! words of the offline check.

mod api_server;
mod bounds;
mod columns;
mod defaults;
mod examples;
mod rules;
mod samples;
mod verdicts;
