//! The API types on a real API server (K-01): it takes our manifests and examples, and refuses what it should, in the
//! words of the offline check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod api_server;
mod bounds;
mod cert_manager;
mod columns;
mod custody;
mod defaults;
mod enroll;
mod examples;
mod identity;
mod independence;
mod lifetime;
mod live;
mod member;
mod mesh;
mod payloads;
mod pods;
mod rights;
mod rotation;
mod rules;
mod samples;
mod status;
mod verdicts;
