//! Who sent this webhook? One table of provider presets ([`preset()`]), one engine ([`Verifier`]), and the signer that
//! `zen send` uses ([`sign()`]). Also `X-Zen-Signature` ([`zen_signature`]), which travels with every event (W-12).
//!
//! A preset is a row of data (`preset/table.rs`): header names, algorithm, encoding, signed content as a template,
//! where the timestamp is. [`Verifier::compile`] prepares keys, header names and templates of a row once; a request only
//! looks up, hashes and compares. A new provider is a row, its sample and its vectors.

mod challenge;
mod config;
mod content;
mod keys;
mod nonce;
pub mod parse;
mod preset;
mod request;
mod scheme;
mod sign;
mod signed_url;
pub mod signing_keys;
mod template;
mod verifier;
pub mod zen_signature;

pub use challenge::{Challenge, ChallengeAnswer};
pub use config::{Algorithm, ApiKey, Config, ConfigError, Encoding, Generic, LabelledSecret, TimestampFormat};
pub use preset::{Answer, EventDefaults, Preset, Source, preset, presets, reference_markdown};
pub use request::Request;
pub use sign::{Sample, sign};
pub use signing_keys::SigningKeys;
pub use verifier::{Verified, Verifier};
