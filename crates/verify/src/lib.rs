//! Who sent this webhook? One table of provider presets ([`preset`]), one engine ([`Verifier`]), and the signer that
//! `zen send` uses. Also `X-Zen-Signature` ([`zen_signature`]), which travels with every event (W-12).

mod api;
pub mod zen_signature;

pub use api::*;
